"""Remove the data keys that nothing refers to: after the last look through every column, one by one, each only as it was when that look began."""

from __future__ import annotations

from collections import Counter
from typing import Any

from reencrypt.database.database import Database
from reencrypt.grafana.secret_columns import System
from reencrypt.operations import key_journal, keys_after
from reencrypt.operations.judge_scan import RETIRED, look
from reencrypt.operations.keys import entry_of, listed_name
from reencrypt.operations.passes import Pass
from reencrypt.operations.preflight import PREFLIGHT
from reencrypt.operations.removable import Kept, Verdict, verdicts
from reencrypt.operations.run_input import Mode, RunInput
from reencrypt.operations.scan import Known
from reencrypt.operations.work import Phase
from reencrypt.operations.workspace import Workspace

REMOVED = "removed.json"


def remove_data_keys(request: RunInput, workspace: Workspace) -> dict[str, Any]:
    """Removes what may go; returns {"removed": n, "kept": {why: n}} and leaves every key's verdict in the store.

    Cached texts under a key that goes (Grafana's remote cache, which reads them anew) are deleted with it. Safe to repeat. Raises IncompleteRun where
    a table was not looked through, DatabaseError, LeaseHeld.
    """
    facts, retired = workspace.store.get_json(PREFLIGHT), workspace.store.get_json(RETIRED)
    found = look(workspace.store, Phase.SCAN)
    looks = [look(workspace.store, Phase.SURVEY), found] if request.mode is Mode.PRUNE_DATA_KEYS else [found]
    before = workspace.store.find_json(REMOVED) or {"removed": []}
    workspace.pulse().beat("remove", 0)
    database = workspace.open_database(False)
    try:
        rows = {system: database.data_keys(system) for system in System}
        judged = verdicts(request, facts, retired, rows, looks, workspace.now())
        going = [verdict for verdict in judged if verdict.kept is None]
        for system in System:
            key_journal.record(workspace.journal, system, [(verdict.row, None) for verdict in going if verdict.system is system])
        there = {listed_name(entry) for entry in map(_listed, judged)}
        removed = [entry for entry in before["removed"] if listed_name(entry) not in there]  # by an attempt that died before it could say so
        kept = [_listed(verdict) for verdict in judged if verdict.kept is not None]
        # Known before the first is gone: a worker that dies on the way leaves behind what was to go.
        workspace.store.put_json(REMOVED, {"removed": [*removed, *map(_listed, going)], "kept": kept, "disposed": 0, "finished": False})
        disposed = _dispose(database, going, found)
        for verdict in list(going):
            if not database.delete_data_key(verdict.row, verdict.system):
                going.remove(verdict)
                kept.append({**_listed(verdict), "why": Kept.CHANGED.value})
        keys_after.keep(workspace.store, database)
    finally:
        database.close()
    removed += map(_listed, going)
    workspace.store.put_json(REMOVED, {"removed": removed, "kept": kept, "disposed": disposed, "finished": True})
    return {"removed": len(removed), "kept": dict(Counter(entry["why"] for entry in kept))}


def _listed(verdict: Verdict) -> dict[str, Any]:
    entry = entry_of(verdict.row, readable=True, system=verdict.system)
    del entry["readable"]
    return {**entry, "references": verdict.references, "why": None if verdict.kept is None else verdict.kept.value}


def _dispose(database: Database, going: list[Verdict], found: Pass) -> int:
    """Deletes what stands in a disposable place under a key that goes; returns how many rows."""
    ids = {verdict.row.name for verdict in going if verdict.system is System.GRAFANA}
    places = {(table, column) for (table, column, known, key), count in found.references.items() if known == Known.DISPOSABLE and key in ids and count}
    return sum(database.dispose(table, column, ids) for table, column in places)
