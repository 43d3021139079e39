"""What must hold when all is at rest: nothing lost, nothing overwritten, every value counted once."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from bench.live_grafana import unbase64
from bench.simulation.secrets_service import SecretsService
from bench.simulation.truth import Place, RowId, Truth
from tests.support.local_run import KMS

KINDS = ("lost", "overwritten", "miscounted", "unswept", "unrestored", "unfinished")


@dataclass
class Findings:
    """What an interleaving has shown, by kind: a line for each fault."""

    faults: dict[str, list[str]] = field(default_factory=lambda: {kind: [] for kind in KINDS})

    def add(self, kind: str, line: str) -> None:
        self.faults[kind].append(line)

    @property
    def good(self) -> bool:
        return not any(self.faults.values())


class Inspector:
    """Reads the database as a Grafana that has just been started would, on a connection of its own."""

    def __init__(self, engine: sa.Engine, truth: Truth, secrets: SecretsService) -> None:
        self._engine, self._truth, self._secrets = engine, truth, secrets

    def stored(self) -> dict[Place, bytes | None]:
        """The payload that stands at each place of the truth; None where there is none."""
        found: dict[Place, bytes | None] = {}
        quote = self._engine.dialect.identifier_preparer.quote
        for table, column in dict.fromkeys((place.table, place.column) for place in self._truth.values):
            with self._engine.connect() as connection:
                rows: dict[Any, Any] = {row[0]: row[1] for row in connection.execute(sa.text(f"SELECT id, {quote(column)} FROM {table}"))}
            for place in self._truth.values:
                if (place.table, place.column) == (table, column):
                    found[place] = _payload(rows.get(place.key), place.path)
        return found

    def check_values(self, findings: Findings, moment: str) -> None:
        """Every value decrypts to what users last stored, and no deleted row is back."""
        self._secrets.forget()
        for place, payload in self.stored().items():
            wanted = self._truth.values[place]
            found = self._read(payload)
            if found == wanted:
                continue
            kind = "overwritten" if found in self._truth.former.get(place, set()) else "lost"
            findings.add(kind, f"{moment}: {place} is {_what(payload)}")
        for table, key in self._back():
            findings.add("overwritten", f"{moment}: {table} {key}, which Grafana has deleted, is back")

    def under_old_keys(self) -> list[Place]:
        """The values that are under another key than an active one of the target provider."""
        with self._engine.connect() as connection:
            keys = connection.execute(sa.text("SELECT name, active, provider FROM data_keys")).all()
        current = {key.name for key in keys if key.active and key.provider == KMS}
        return [place for place, payload in self.stored().items() if payload is None or self._secrets.key_of(payload) not in current]

    def _read(self, payload: bytes | None) -> bytes | None:
        if payload is None:
            return None
        steps = self._secrets.decrypt(payload)
        try:
            while True:
                next(steps)
        except StopIteration as ended:
            plaintext: bytes = ended.value
            return plaintext
        except (LookupError, ValueError):
            return None

    def _back(self) -> Iterable[RowId]:
        for table in {table for table, _ in self._truth.gone}:
            with self._engine.connect() as connection:
                present = set(connection.execute(sa.text(f"SELECT id FROM {table}")).scalars())
            yield from ((gone, key) for gone, key in self._truth.gone if gone == table and key in present)


@dataclass
class Census:
    """The rows at some moment, Grafana's writes by table up to then, and how many values of each column are under an old key."""

    rows: frozenset[RowId]
    writes: dict[str, int]
    old: dict[str, int]

    @classmethod
    def take(cls, truth: Truth, old: Iterable[Place] = ()) -> Census:
        rows = frozenset((table, key) for table, keys in truth.rows.items() for key in keys)
        return cls(rows, dict(truth.writes), dict(Counter(f"{place.table}.{place.column}" for place in old)))


def check_counts(findings: Findings, report: Mapping[str, Any], truth: Truth, before: Census, after: Census, *, alone: bool, sound: bool) -> None:
    """The report's counts against what was there.

    Where Grafana has written nothing in a table, its values are known exactly; else as many as stayed throughout at least, and as many as there
    ever were at most. `alone`: no other worker had a part in it, so each outcome is known. `sound`: no row was set apart.
    """
    run, ever = report["run"], frozenset(truth.ever)
    for entry in report["columns"]:
        table, column = entry["table"], entry["column"]
        outcomes = {name: entry[name] for name in ("re_encrypted", "already_current", "empty", "changed_by_grafana", "plaintext", "unreadable")}
        if entry["values"] != sum(outcomes.values()):
            findings.add("miscounted", f"{run}: {table}.{column}: the outcomes do not add up to values")
        untouched = before.writes.get(table, 0) == after.writes.get(table, 0)
        lowest = _counts(truth, table, column, before.rows & after.rows)
        most = lowest if untouched else _counts(truth, table, column, ever)
        if sound and not sum(lowest) <= entry["values"] <= sum(most):
            findings.add("miscounted", f"{run}: {table}.{column}: {entry['values']} values, there were {sum(lowest)} to {sum(most)}")
        if outcomes["plaintext"] or (sound and outcomes["unreadable"]):
            findings.add("miscounted", f"{run}: {table}.{column}: {outcomes}, though every value is readable: {_reasons(report, table)}")
        if not sound or not untouched:
            continue
        old = before.old.get(f"{table}.{column}", 0)
        if outcomes["empty"] != lowest[1] or (alone and outcomes["re_encrypted"] != old):
            findings.add("miscounted", f"{run}: {table}.{column}: {outcomes}, there were {lowest[0]} values ({old} under old keys), {lowest[1]} empty")


def _counts(truth: Truth, table: str, column: str, rows: Iterable[RowId]) -> tuple[int, int]:
    """(values, empty ones) of the column in these rows."""
    found = [sum(name == column for name, _ in truth.ever[row]) for row in rows if row[0] == table]
    return sum(found), sum(not count for count in found)


def _reasons(report: Mapping[str, Any], table: str) -> list[Any]:
    return [(entry["primary_key"], entry["path"], entry["reason"]) for entry in report["unreadable"] if entry["table"] == table]


def _payload(stored: Any, path: tuple[str | int, ...] | None) -> bytes | None:
    try:
        for step in path or ():
            stored = json.loads(stored)[step] if isinstance(stored, str) else stored[step]
        if stored is None or isinstance(stored, bytes | memoryview):
            return None if stored is None else bytes(stored)
        return unbase64(stored)
    except (KeyError, IndexError, TypeError, ValueError):
        return None


def _what(payload: bytes | None) -> str:
    return "gone" if payload is None else "something else"
