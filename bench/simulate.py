"""Thousands of random interleavings of a run with a live Grafana, crashes, duplicates, a second run and a restore: is anything lost?

    .venv/bin/python -m bench.simulate --interleavings 10000 --seed 1
    .venv/bin/python -m bench.simulate --interleavings 1000 --engine postgres        needs a server: see tests/support/servers.py
    .venv/bin/python -m bench.simulate --interleavings 1 --seed 4711                 one that failed, again: the same steps in the same order
    .venv/bin/python -m bench.simulate --interleavings 300 --plant no-compare        with a known bug: must fail (exit code 1)
    .venv/bin/python -m bench.simulate --list-plants

Each interleaving has a small database of its own (with a cheap stand-in for PBKDF2), in which Grafana's writers and the product's real operations
take turns at every SQL statement, commit and object of the store, as its seed says. Afterwards every value that users stored must be readable,
nothing that Grafana wrote may be overwritten, and the report must have counted every value once. Prints each fault with the command that
repeats it. Exit code 0 when there was none.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterator

from bench.simulation.checks import KINDS, Findings
from bench.simulation.hooks import Interruptions
from bench.simulation.interleaving import Interleaving
from bench.simulation.plants import PLANTS, planted
from bench.simulation.world import ENGINES, world

_LINES = 5  # of the faults of one interleaving
_STRIDE = 1_000_003  # from the seed of the command to the seeds of its interleavings; with --interleavings 1 they are the same
_PROGRESS_SECONDS = 10


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.simulate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--interleavings", type=int, default=1000, metavar="N", help="how many (default 1000)")
    parser.add_argument("--seed", type=int, default=1, metavar="S", help="of the first interleaving; the next ones follow from it (default 1)")
    parser.add_argument("--engine", choices=ENGINES, default="sqlite", help="the database (default sqlite)")
    parser.add_argument("--plant", choices=sorted(PLANTS), metavar="NAME", help="puts a known bug into the product: see --list-plants")
    parser.add_argument("--list-plants", action="store_true", help="prints the known bugs, and does nothing else")
    options = parser.parse_args(arguments)
    if options.list_plants:
        for name, plant in PLANTS.items():
            print(f"{name:24} {plant.description}")
        return 0
    totals, played, began = Counter[str](), 0, time.monotonic()
    told = began
    events = Counter[str]()
    for interleaving in simulate(options.engine, options.seed, options.interleavings, options.plant):
        seed, findings = interleaving.seed, interleaving.findings
        played += 1
        events += interleaving.events
        totals.update({kind: len(lines) for kind, lines in findings.faults.items()})
        if not findings.good:
            _tell(seed, findings, options)
        if time.monotonic() - told > _PROGRESS_SECONDS:
            told = time.monotonic()
            print(f"{played} interleavings, {played / (told - began):.0f}/s", file=sys.stderr, flush=True)
    print(", ".join(f"{count} {name}" for name, count in sorted(events.items())))
    seconds = time.monotonic() - began
    print(f"{played} interleavings, {', '.join(f'{totals[kind]} {kind}' for kind in KINDS)} ({options.engine}, {seconds:.0f} s)")
    return 1 if totals.total() else 0


def simulate(engine: str, seed: int, interleavings: int, plant: str | None = None) -> Iterator[Interleaving]:
    """Plays interleavings one after the other; yields each when it is over."""
    interruptions = Interruptions()
    with world(engine) as made, interruptions.installed(), planted(plant):
        for number in range(interleavings):
            interleaving = Interleaving(seed + number * _STRIDE, made, interruptions)
            try:
                interleaving.play()
            except Exception as error:  # whatever it is, its seed is what is needed
                interleaving.findings.add("unfinished", f"{type(error).__name__}: {error}")
            yield interleaving


def _tell(seed: int, findings: Findings, options: argparse.Namespace) -> None:
    lines = [f"{kind}: {line}" for kind, found in findings.faults.items() for line in found]
    command = f"python -m bench.simulate --interleavings 1 --seed {seed} --engine {options.engine}"
    print(f"seed {seed}: again with {command}{f' --plant {options.plant}' if options.plant else ''}")
    for line in lines[:_LINES]:
        print(f"  {line}")
    if len(lines) > _LINES:
        print(f"  … and {len(lines) - _LINES} more")


if __name__ == "__main__":
    sys.exit(main())
