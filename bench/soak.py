"""Live Grafana replicas beside full runs: is anything lost, overwritten, left under an old key, or refused to a user who would have had it?

    .venv/bin/python -m bench.soak --engine mysql|postgres|sqlite [--seconds 60] [--writers 3] [--values 3000] [--misses 2500] [--seed 1] [--json]

A fresh database is filled with values of every age. Replicas (processes with caches of their own) serve users for half of the time without a run.
Then one of them rotates the data keys, the others write on under what they have cached, and a full `re-encrypt` with settle and sweeps goes on
beside them, in a process of its own with several workers, and a `prune-data-keys` that removes what nothing refers to any more; then the same by a
`rotate` of ours, and so on until the time is up. At last users come between read and write of many pages
(`--misses`). Each part ends with an independent reader against the ground truth. Exit code 1 when a promise is broken.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from bench.soaking import stock
from bench.soaking.checks import Findings, Phase, Soak, broken_promises, inspect
from bench.soaking.forced import force
from bench.soaking.replica import Order, Replica, Tally
from bench.soaking.runner import PLANTS, Runner, RunOrder
from tests.support import servers
from tests.support.local_run import FakeKms

ENGINES = ("mysql", "postgres", "sqlite")
WITHOUT, BETWEEN, BESIDE = "without", "between", "beside"
_WORKERS = 3


@dataclass(frozen=True)
class Options:
    """How long and how hard. `seconds` is the time of the live part; at least one whole run goes on in it. `steps` are a replica's statements a second."""

    seconds: float = 60
    writers: int = 3
    values: int = 3000
    misses: int = 2500
    seed: int = 1
    cache_seconds: float = 4
    steps: float = 200
    plant: str | None = None


def soak(url: sa.URL, folder: Path, chosen: Options) -> Soak:
    """Soaks the empty database of `url`; `folder` is for the run's own objects."""
    kms = FakeKms()
    engine = stock.grafana_engine(url)
    try:
        truths = stock.fill(engine, {kms.name: kms}, chosen.values, chosen.writers, chosen.seed)
        order = RunOrder(url, kms, folder, _WORKERS, chosen.cache_seconds, chosen.plant)
        truths, without, beside, runs = _live(order, truths, chosen)
        truth = stock.merged(truths)
        live = inspect(engine, kms, truth)
        forced_runs, meddler = force(order, engine, truth, chosen.seed, chosen.misses)
        return Soak(without, beside, runs, live, forced_runs, inspect(engine, kms, truth), meddler.wrong_reads)
    finally:
        engine.dispose()


def _live(order: RunOrder, truths: list[stock.ReplicaTruth], chosen: Options) -> tuple[list[stock.ReplicaTruth], Phase, Phase, list[dict[str, Any]]]:
    """The replicas alone, then with one run after the other."""
    half = chosen.seconds / 2
    replicas = [
        Replica(Order(order.url, {order.kms.name: order.kms}, truth, chosen.seed * 1000 + number, chosen.cache_seconds, chosen.steps))
        for number, truth in enumerate(truths)
    ]
    runner = Runner(order)
    processes: list[Replica | Runner] = [*replicas, runner]
    runs: list[dict[str, Any]] = []
    try:
        for process in processes:
            process.ready()
        without = _enter(WITHOUT, replicas)
        time.sleep(half)  # this is the measurement
        without = _enter(BETWEEN, replicas) - without
        began = _enter(BESIDE, replicas)
        while not runs or time.perf_counter() - began < half:
            if len(runs) % 4 == 0:  # Grafana's own rotation, else ours
                replicas[0].rotate()
            runs.append(runner.run("re-encrypt" if len(runs) % 4 == 0 else "rotate"))
            runs.append(runner.run("prune-data-keys"))
        beside = _enter(BETWEEN, replicas) - began
        stopped = [replica.stop() for replica in replicas]
    finally:
        for process in processes:
            process.close()
    tallies = {phase: Tally() for phase in (WITHOUT, BESIDE)}
    for phase, tally in tallies.items():
        for _, of_replica in stopped:
            tally.add(of_replica[phase])
    return [truth for truth, _ in stopped], Phase(without, tallies[WITHOUT]), Phase(beside, tallies[BESIDE]), runs


def _enter(phase: str, replicas: list[Replica]) -> float:
    """From the returned moment on every replica counts under `phase`."""
    for replica in replicas:
        replica.phase(phase)
    return time.perf_counter()


# --- the command ---


def main(arguments: list[str] | None = None) -> int:
    """Soaks the engines asked for; exit code 1 when a promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", action="append", choices=ENGINES, help="may be given more than once; default: mysql and postgres")
    parser.add_argument("--seconds", type=float, default=Options.seconds, help="of the live part, half of it without a run")
    parser.add_argument("--writers", type=int, help="Grafana replicas; default: 3, on SQLite 1, as in real life")
    parser.add_argument("--values", type=int, default=Options.values, help="secret values in the database, about")
    parser.add_argument("--misses", type=int, default=Options.misses, help="how often a user comes between read and write")
    parser.add_argument("--steps", type=float, default=Options.steps, help="statements a second of each replica")
    parser.add_argument("--seed", type=int, default=Options.seed, help="of the users' requests")
    parser.add_argument("--json", action="store_true", help="one JSON object for each engine instead of the table")
    parser.add_argument("--plant", choices=PLANTS, help=argparse.SUPPRESS)  # a known bug, to show that it is found
    given = parser.parse_args(arguments)
    ended_well = True
    for engine in given.engine or ENGINES[:2]:
        writers = given.writers or (1 if engine == "sqlite" else Options.writers)
        chosen = Options(given.seconds, writers, given.values, given.misses, given.seed, steps=given.steps, plant=given.plant)
        with tempfile.TemporaryDirectory() as folder, _database(engine, Path(folder)) as url:
            result = soak(url, Path(folder), chosen)
        broken = broken_promises(result)
        ended_well = ended_well and not broken
        print(json.dumps(_facts(engine, chosen, result, broken)) if given.json else "\n".join(_table(engine, chosen, result, broken)), flush=True)
    return 0 if ended_well else 1


@contextmanager
def _database(engine: str, folder: Path) -> Iterator[sa.URL]:
    if engine == "sqlite":
        path = folder / "grafana.db"
        path.touch()
        yield sa.URL.create("sqlite", database=str(path))
        return
    with servers.server(engine) as server, servers.new_database(server) as url:
        yield url


def _facts(engine: str, chosen: Options, result: Soak, broken: list[str]) -> dict[str, Any]:
    def phase(measured: Phase) -> dict[str, Any]:
        tally, slowest = measured.tally, sorted(measured.tally.milliseconds)
        return {
            "seconds": round(measured.seconds, 1), "requests": tally.requests.total(), "writes": tally.writes,
            "writes_per_second": round(tally.writes / measured.seconds, 1), "errors": dict(tally.errors), "wrong_reads": len(tally.wrong_reads),
            "milliseconds_99": round(statistics.quantiles(slowest, n=100)[98], 1) if len(slowest) > 1 else None,
            "milliseconds_slowest": round(slowest[-1], 1) if slowest else None,
        }  # fmt: skip

    def findings(found: Findings) -> dict[str, Any]:
        return {name: value if isinstance(value, int) else len(value) for name, value in asdict(found).items()}

    return {
        "engine": engine, "options": asdict(chosen), "without": phase(result.without), "beside": phase(result.beside),
        "runs": [
            {"mode": run["mode"], "outcome": run["outcome"], "engine": run["engine"], "totals": run["totals"], "seconds": run["seconds"],
             "misses": run["misses"], "removed": len(run["removed"]["removed"]) if run["removed"] else 0,
             "sweeps": [sweep["moved"] for sweep in run.get("sweeps") or []]}
            for run in result.runs
        ],
        "live": findings(result.live), "forced": findings(result.forced), "forced_misses": result.forced_misses, "broken": broken,
    }  # fmt: skip


def _table(engine: str, chosen: Options, result: Soak, broken: list[str]) -> Iterator[str]:
    facts = _facts(engine, chosen, result, broken)
    yield f"{facts['runs'][0]['engine']}: {chosen.writers} replicas, {result.live.values} values, seed {chosen.seed}"
    yield f"  {'':22}{'without a run':>16}{'beside a run':>16}"
    for label, name in (
        ("seconds", "seconds"), ("users' requests", "requests"), ("rows written", "writes"), ("rows written a second", "writes_per_second"),
        ("99 % within, ms", "milliseconds_99"), ("slowest request, ms", "milliseconds_slowest"), ("wrong reads", "wrong_reads"),
    ):  # fmt: skip
        yield f"  {label:22}{facts['without'][name]!s:>16}{facts['beside'][name]!s:>16}"
    for code in sorted(facts["without"]["errors"].keys() | facts["beside"]["errors"].keys()):
        yield f"  {'error ' + code:22.22}{facts['without']['errors'].get(code, 0):>16}{facts['beside']['errors'].get(code, 0):>16}"
    for run in facts["runs"]:
        yield (
            f"  {run['mode']} of {run['seconds']:.1f} s: {run['outcome']}, {run['totals']['re_encrypted']} values moved, by sweeps {run['sweeps']}, "
            f"{run['removed']} data keys removed, {run['misses']} rows changed between read and write"
        )
    for sentence in broken:
        yield f"  BROKEN: {sentence}"
    writes = result.without.tally.writes + result.beside.tally.writes
    lost = len(result.live.lost) + len(result.forced.lost)
    overwritten = len(result.live.overwritten) + len(result.forced.overwritten)
    yield (
        f"{engine}: {_spaced(writes)} writes, {_spaced(lost)} lost, {_spaced(overwritten)} lost updates, {_spaced(result.beside.errors)} errors with the run, "
        f"{_spaced(result.without.errors)} without, {_spaced(result.forced_misses)} forced misses"
    )


def _spaced(number: int) -> str:
    return f"{number:,}".replace(",", " ")


if __name__ == "__main__":
    sys.exit(main())
