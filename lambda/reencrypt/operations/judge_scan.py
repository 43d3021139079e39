"""After a look through every column: what may go on?

The first look (the survey) stands before anything is written. A rollback is refused where columns that are in no list need the data keys that it would
remove, a rotation of secret_key where they hold values directly under it. Then the keys that are to go are deactivated, so that no Grafana writes under
them any more; a prune waits until none can hold one in its cache, and looks again.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from reencrypt.errors import IncompleteRun, UnknownCiphertext
from reencrypt.grafana.key_ring import SECRET_KEY
from reencrypt.grafana.secret_columns import System
from reencrypt.operations.passes import Pass, collect
from reencrypt.operations.preflight import PREFLIGHT
from reencrypt.operations.removable import retirable
from reencrypt.operations.run_input import RunInput
from reencrypt.operations.scan import Known
from reencrypt.operations.work import Phase
from reencrypt.operations.workspace import Workspace
from reencrypt.storage.objects import RunStore

RETIRED = "retired.json"
_PLACES = 5


class After(StrEnum):
    """The step that follows a look through every column."""

    PROCESS = "process"
    SETTLE = "settle"
    SCAN = "scan"
    REMOVE = "remove"


def judge_scan(request: RunInput, workspace: Workspace, phase: str) -> dict[str, Any]:
    """Judges the look of `phase`; returns {"phase" (of the next look), "next", "seconds", "retired"}.

    Raises IncompleteRun where a table was not looked through, UnknownCiphertext.
    """
    found = look(workspace.store, Phase(phase))
    if phase == Phase.SCAN.value:
        return {"phase": phase, "next": After.REMOVE.value, "seconds": 0, "retired": 0}
    facts = workspace.store.get_json(PREFLIGHT)
    if request.mode.steps.rewrites:
        _refuse_unknown(request, found, facts)
    retired = _retire(request, workspace, facts, found) if request.mode.steps.retires else 0
    settle = int(facts["settle_seconds"])
    following = After.PROCESS if request.mode.steps.reads_values else After.SETTLE if settle else After.SCAN
    return {"phase": Phase.SCAN.value, "next": following.value, "seconds": settle, "retired": retired}


def look(store: RunStore, phase: Phase) -> Pass:
    """What the look of `phase` has found. Raises IncompleteRun where it has not seen every row: what it has not seen may need any key."""
    found = collect(store, phase)
    if found.unreadable:
        places = ", ".join(sorted({str(entry["table"]) for entry in found.unreadable})[:_PLACES])
        raise IncompleteRun(
            f"rows of {places} killed the workers that read them, so nobody knows which data keys they need; give the workers more memory (memory_mb), "
            "then start again"
        )
    return found


def unknown_places(found: Pass) -> list[dict[str, Any]]:
    """The columns that are in no list and hold what looks like Grafana's payloads: {"table", "column", "data_keys": {id: how many}}, by place."""
    places: dict[tuple[str, str], dict[str, int]] = {}
    for (table, column, known, key), count in found.references.items():
        if known == Known.UNKNOWN and count:
            keys = places.setdefault((table, column), {})
            keys[key] = keys.get(key, 0) + count
    return [{"table": table, "column": column, "data_keys": keys} for (table, column), keys in sorted(places.items())]


def _refuse_unknown(request: RunInput, found: Pass, facts: Mapping[str, Any]) -> None:
    rotates = request.mode.steps.secret_keys
    if rotates and facts["old_secret_key_source"] is None:
        return  # only the secrets manager's secret_key is changed
    ids = {SECRET_KEY} if rotates else {entry["id"] for entry in facts["data_keys"]}
    places = [place for place in unknown_places(found) if not ids.isdisjoint(place["data_keys"])]
    if places:
        named = ", ".join(f"{place['table']}.{place['column']}" for place in places[:_PLACES])
        more = f" and {len(places) - _PLACES} more" if len(places) > _PLACES else ""
        if rotates:
            problem = "hold values directly under the old secret_key, and are in no list of secret columns; nothing was written."
        else:
            problem = "hold values under data keys that a rollback would remove, and are in no list of secret columns; nothing was written."
        raise UnknownCiphertext(
            f"{named}{more} {problem} Declare them in the deployment's settings ([[secret_column]], see docs/unknown-ciphertext.md), so that this run takes "
            "them along"
        )


def _retire(request: RunInput, workspace: Workspace, facts: Mapping[str, Any], found: Pass) -> int:
    """Deactivates what is to go, and remembers which keys there were. An attempt that comes later changes nothing more."""
    known = workspace.store.find_json(RETIRED)
    if known is None:
        database = workspace.open_database(False)
        try:
            rows = {system: database.data_keys(system) for system in System}
            wanted = retirable(request, facts, rows, found, workspace.now())
            for system, keys in wanted.items():
                database.deactivate_data_keys(keys, workspace.now(), system)
        finally:
            database.close()
        known = {
            "there": {system.value: sorted(f"{row.scope}/{row.name}" for row in rows[system]) for system in System},
            "retired": {system.value: sorted(f"{row.scope}/{row.name}" for row in keys) for system, keys in wanted.items()},
        }
        workspace.store.put_json(RETIRED, known, once=True)
    return sum(len(names) for names in known["retired"].values())
