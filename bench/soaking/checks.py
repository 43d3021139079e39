"""What a soak has to show: the database read by an independent reader against the ground truth, and the promises that are judged by it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from bench.simulation.truth import Place, Truth
from bench.soaking.replica import Tally
from bench.soaking.stock import SECRET_KEY
from tests.support import decryptor
from tests.support.local_run import FakeKms

_READERS = 4
_SHOWN = 5
_DEVIATIONS = 3


@dataclass
class Findings:
    """What stands in the database, place by place. `overwritten` holds an older value than the one that Grafana stored last."""

    values: int = 0
    lost: list[Place] = field(default_factory=list)
    overwritten: list[Place] = field(default_factory=list)
    under_old_key: list[Place] = field(default_factory=list)
    risen: list[tuple[str, int | str]] = field(default_factory=list)  # rows that Grafana had deleted


@dataclass
class Phase:
    """One phase of the replicas: their tallies together, and how long it took."""

    seconds: float
    tally: Tally

    @property
    def errors(self) -> int:
        return self.tally.errors.total()


@dataclass
class Soak:
    """All that a soak has measured. `live` is what stood there when run and replicas had ended, `forced` after the forced misses."""

    without: Phase
    beside: Phase
    runs: list[dict[str, Any]]
    live: Findings
    forced_runs: list[dict[str, Any]]
    forced: Findings
    forced_wrong_reads: list[Place]

    @property
    def forced_misses(self) -> int:
        """Rows that were not as they had been read, because somebody was made to come between."""
        return sum(run["misses"] for run in self.forced_runs)


def inspect(engine: sa.Engine, kms: FakeKms, truth: Truth) -> Findings:
    """Reads every value of `truth`. Old is every key but the active ones of the provider."""
    reader = decryptor.Reader(engine, SECRET_KEY, {kms.name: kms.unwrap})
    current = {name for name, (provider, _, active) in reader.rows.items() if active and provider == kms.name}
    findings = Findings(values=len(truth.values))

    def read(place: Place) -> decryptor.Found | None:
        entry = {"table": place.table, "column": place.column, "pk": {"id": place.key}, "path": place.path}
        try:
            return reader.read(entry)
        except (ValueError, TypeError, LookupError, AssertionError, sa.exc.NoResultFound):
            return None

    places = list(truth.values)
    with ThreadPoolExecutor(_READERS) as pool:
        for place, found in zip(places, pool.map(read, places), strict=True):
            if found is None or found.plaintext != truth.values[place]:
                older = found is not None and found.plaintext in truth.former.get(place, ())
                (findings.overwritten if older else findings.lost).append(place)
            elif found.key_id not in current:
                findings.under_old_key.append(place)
    with engine.connect() as connection:
        for table in sorted({table for table, _ in truth.gone}):
            there = set(connection.execute(sa.text(f"SELECT id FROM {table}")).scalars())
            findings.risen += [(table, key) for name, key in truth.gone if name == table and key in there]
    return findings


def broken_promises(soak: Soak) -> list[str]:
    """Each promise that does not hold, in a sentence that says where; none of them is good news."""
    return [
        *(
            f"{len(places)} {what} {when}: {_some(places)}"
            for when, findings in (("beside live replicas", soak.live), ("after forced misses", soak.forced))
            for what, places in (
                ("values lost", findings.lost),
                ("lost updates", findings.overwritten),
                ("values under an old key", findings.under_old_key),
                ("deleted rows risen again", findings.risen),
            )
            if places
        ),
        *_of_users(soak),
        *(f"the run ended as {run['outcome']}: {run['error'] or run['headline']}" for run in soak.runs + soak.forced_runs if run["outcome"] != "succeeded"),
        *(["no row was changed between read and write: the forced misses did not happen"] if not soak.forced_misses else []),
    ]


def _of_users(soak: Soak) -> Iterator[str]:
    wrong = soak.without.tally.wrong_reads + soak.beside.tally.wrong_reads + soak.forced_wrong_reads
    if wrong:
        yield f"{len(wrong)} times a user read something else than what was stored: {_some(wrong)}"
    expected = soak.without.errors / soak.without.seconds * soak.beside.seconds
    # Without errors of its own a replica may have none because of us; where it has some, their number varies by chance.
    if soak.beside.errors > expected + _DEVIATIONS * math.sqrt(expected):
        yield f"{soak.beside.errors} errors of users' requests with the run, {expected:.1f} expected in that time: {dict(soak.beside.tally.errors)}"
    if not soak.beside.tally.writes:
        yield "the replicas wrote nothing while the run went on"


def _some(places: Iterable[object]) -> str:
    shown = [repr(place) for place in places]
    return ", ".join(shown[:_SHOWN]) + (" …" if len(shown) > _SHOWN else "")
