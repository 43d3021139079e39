"""Is there an input that the product's readers answer with anything but their own errors? A fuzzer of everything that parses.

    .venv/bin/python -m bench.fuzz --inputs 1000000 --seed 1 [--target payload --target ini --target json --target input]

Targets: the payload parser, base64 and ciphers; grafana.ini with its environment; the JSON editor and the reader and writer of stored values; the
input of an execution. Shares the inputs out evenly. Inputs are mutations of well-formed ones; one that shows new behaviour is mutated further.
A finding is an exception that is none of `reencrypt.errors`, a promise that does not hold (see bench/fuzzing/targets.py), or an input that
takes more than a second of processor time. It is printed with its seed and the shortest input found in hex, and the exit code is 1.
`--replay HEX` tries that one input again.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from bench.fuzzing.mutations import Pool
from bench.fuzzing.seeds import PIECES, SEEDS, pathological
from bench.fuzzing.targets import TARGETS, Broken, Target

SECONDS = 1.0
_SHRINKING_TRIES = 2000


@dataclass(frozen=True)
class Finding:
    """An input that the product answers wrongly, and how: the kind of exception, or "slow"."""

    target: str
    kind: str
    number: int
    data: bytes
    details: str


def main() -> int:
    """Fuzzes as the command line says; 0 when nothing was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=1_000_000, help="over all targets together (default: a million)")
    parser.add_argument("--seed", type=int, default=1, help="the same seed makes the same inputs")
    parser.add_argument("--target", action="append", choices=list(TARGETS), help="default: all of them")
    parser.add_argument("--replay", metavar="HEX", help="try this one input instead, on each target")
    arguments = parser.parse_args()
    names = arguments.target or list(TARGETS)
    if arguments.replay is not None:
        findings = [found for name in names if (found := examine(name, bytes.fromhex(arguments.replay), 0))]
        tried = len(names)
    else:
        findings = []
        for place, name in enumerate(names):
            share = arguments.inputs // len(names) + (place < arguments.inputs % len(names))
            started = time.monotonic()
            findings += fuzz(name, share, arguments.seed)
            print(f"{name:8} {share:>8} inputs in {time.monotonic() - started:.0f} s", flush=True)
        tried = arguments.inputs
    for found in findings:
        print(f"\n{found.target}: {found.kind}, input {found.number} of seed {arguments.seed}\n{found.details}\n--replay {found.data.hex()}")
    print(f"{tried} inputs, {len(findings)} unexpected errors")
    return 1 if findings else 0


def fuzz(name: str, inputs: int, seed: int, limit: float = SECONDS, *, long_ones: bool = True) -> list[Finding]:
    """The findings of `inputs` inputs: one of each kind and place at most, each shrunk. Deterministic but for what is slow.

    Begins with the seeds and, if `long_ones`, the pathological inputs.
    """
    findings: dict[str, Finding] = {}
    seen: set[str] = set()
    random = Random(f"{seed} {name}")  # noqa: S311  (no secret is made here)
    pool = Pool(random, SEEDS[name], PIECES[name])
    first = [*SEEDS[name], *(pathological(name) if long_ones else ())]
    for number, data in enumerate(_inputs(first, pool, inputs), 1):
        outcome = _outcome(TARGETS[name], data, limit)
        if isinstance(outcome, str):
            if outcome not in seen:
                seen.add(outcome)
                pool.keep(data)
            continue
        kind, details = outcome
        if kind not in findings:
            shortest = data if kind == "slow" else _shrunk(TARGETS[name], data, kind, limit)
            findings[kind] = Finding(name, kind, number, shortest, details)
    return list(findings.values())


def examine(name: str, data: bytes, number: int, limit: float = SECONDS) -> Finding | None:
    """The finding of one input, if it is one."""
    outcome = _outcome(TARGETS[name], data, limit)
    return None if isinstance(outcome, str) else Finding(name, outcome[0], number, data, outcome[1])


def _inputs(first: list[bytes], pool: Pool, inputs: int) -> Iterator[bytes]:
    yield from first[:inputs]
    for _ in range(inputs - len(first)):
        yield pool.next()


def _outcome(target: Target, data: bytes, limit: float) -> str | tuple[str, str]:
    """What came of it in a few words, or (kind, details) of a finding."""
    started = time.process_time()
    try:
        outcome = target(data)
    except Exception as error:  # whatever it is: that is what is looked for
        return _kind(error), traceback.format_exc(-6)
    if time.process_time() - started > limit:
        started = time.process_time()  # once more: the first time may have been the machine's fault
        target(data)
        if (seconds := time.process_time() - started) > limit:
            return "slow", f"{seconds:.1f} s of processor time for {len(data)} bytes"
    return outcome


def _kind(error: Exception) -> str:
    """Class and place, or the promise that is broken: the same bug is found once."""
    if isinstance(error, Broken):
        return str(error)
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} at {frame.filename.rpartition('/')[2]}:{frame.lineno}"


def _shrunk(target: Target, data: bytes, kind: str, limit: float) -> bytes:
    """A shorter input of the same kind, by leaving out ever smaller pieces."""
    piece, tries = max(len(data) // 2, 1), 0
    while tries < _SHRINKING_TRIES:
        start, before = 0, len(data)
        while start < len(data) and tries < _SHRINKING_TRIES:
            shorter, tries = data[:start] + data[start + piece :], tries + 1
            outcome = _outcome(target, shorter, limit)
            if not isinstance(outcome, str) and outcome[0] == kind:
                data = shorter
            else:
                start += piece
        if piece == 1 and len(data) == before:
            break
        piece = max(piece // 2, 1)
    return data


if __name__ == "__main__":
    sys.exit(main())
