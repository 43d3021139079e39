"""Rows that kill a worker: kept apart by their primary key, so that no later pass of the run reads them, and counted as unreadable."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass

from reencrypt.database.database import Database
from reencrypt.database.statements import Key
from reencrypt.errors import Reason
from reencrypt.grafana.secret_columns import ColumnGroup
from reencrypt.operations.outcomes import Tally, place
from reencrypt.storage.objects import RunStore


@dataclass(frozen=True)
class Quarantined:
    """A row's key, and the pass that it was found in."""

    key: Key
    phase: str


def keep(store: RunStore, chunk: int, entry: Quarantined) -> None:
    """Remembers the row for the passes to come."""
    name = hashlib.sha256(json.dumps(list(entry.key)).encode()).hexdigest()[:16]
    store.put_json(f"{_prefix(chunk)}{name}.json", {"key": list(entry.key), "phase": entry.phase}, once=True)


def of_chunk(store: RunStore, chunk: int) -> list[Quarantined]:
    """The chunk's rows in quarantine."""
    found = (store.find_json(key) for key in list(store.keys(_prefix(chunk))))
    return [Quarantined(tuple(entry["key"]), entry["phase"]) for entry in found if entry is not None]


def number(store: RunStore) -> int:
    """How many rows of the run are in quarantine."""
    return sum(1 for _ in store.keys("quarantine/"))


def count_earlier(entries: Iterable[Quarantined], phase: str, group: ColumnGroup, database: Database, tally: Tally) -> None:
    """Counts, in the pass `phase`, the rows that killed a worker in an earlier one: with the first stretch of their chunk, so once."""
    for entry in entries:
        if entry.phase != phase:
            count(entry, group, database, tally)


def count(entry: Quarantined, group: ColumnGroup, database: Database, tally: Tally) -> None:
    """Counts one unreadable value for each column of the row that holds something; what it holds is not read."""
    tally.rows += 1
    for column, present in zip(group.columns, database.presence(group, entry.key), strict=True):
        if present:
            tally.add_unreadable(column.id, place(group, column, entry.key, None), Reason.WORKER_DIED)


def _prefix(chunk: int) -> str:
    return f"quarantine/{chunk:06d}-"
