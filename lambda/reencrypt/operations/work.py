"""One delivery of a chunk to a worker: from the position that the last one reached, until it is done or time runs out.

The outcome of each stretch is an object of its own in the run's store, written once: a duplicate delivery finds it and counts nothing twice.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from reencrypt.database.database import Database
from reencrypt.database.statements import Key
from reencrypt.errors import DatabaseError
from reencrypt.grafana.cipher import DeriveKey
from reencrypt.operations import chunk as chunks
from reencrypt.operations.choose_data_key import DATA_KEY
from reencrypt.operations.keys import Unwrapper, current_keys, open_ring
from reencrypt.operations.preflight import PREFLIGHT
from reencrypt.operations.run_input import RunInput
from reencrypt.operations.workspace import Workspace


class Phase(StrEnum):
    """Process: what the mode says. Verify: read everything once more, and write nothing."""

    PROCESS = "process"
    VERIFY = "verify"


@dataclass(frozen=True)
class Delivery:
    """A chunk of the manifest with the position to go on from (None: its beginning)."""

    phase: Phase
    chunk: Mapping[str, Any]
    position: Key | None


def work(request: RunInput, delivery: Delivery, workspace: Workspace, out_of_time: Callable[[], bool], derive: DeriveKey) -> dict[str, Any]:
    """Processes the chunk from its position on; returns a summary with the position reached, `done` when that is the end.

    Raises DatabaseError, ProviderThrottled; safe to repeat.
    """
    name = outcome_name(delivery.phase, delivery.chunk["id"], delivery.position)
    known = workspace.store.find_json(name)
    if known is not None:
        return _summary(known)
    writes = request.mode.writes and delivery.phase is Phase.PROCESS
    facts = workspace.store.get_json(PREFLIGHT)
    candidate = workspace.secret_key(facts["secret_key_source"])
    started = time.monotonic()
    database = workspace.open_database(not writes)
    try:
        rows = database.data_keys()
        ring = open_ring(candidate, Unwrapper(rows, workspace.providers(candidate)), facts["distrusted"], derive)
        sealer = ring.sealer(workspace.store.get_json(DATA_KEY)["data_key"]) if writes else None
        # In the verify phase nothing is forced: what the run has written is current.
        policy = chunks.Policy(current_keys(rows, facts["provider"]), sealer, request.force and delivery.phase is Phase.PROCESS)
        tally, position = chunks.process(_range(database, delivery), database, ring, policy, out_of_time)
    finally:
        database.close()
    outcome = {
        "chunk": delivery.chunk["id"], "group": delivery.chunk["group"], "from": _listed(delivery.position), "to": _listed(position),
        "seconds": round(time.monotonic() - started, 3), **tally.as_json(),
    }  # fmt: skip
    if not workspace.store.put_json(name, outcome, once=True):
        return _summary(workspace.store.get_json(name))
    return _summary(outcome)


def outcome_name(phase: Phase, chunk: int, position: object) -> str:
    """The store's key of the stretch of `chunk` that begins at `position`: the same for each delivery of it."""
    start = hashlib.sha256(json.dumps(_listed(position)).encode()).hexdigest()[:16] if position is not None else "start"
    return f"outcomes/{phase.value}/{chunk:06d}-{start}.json"


def _range(database: Database, delivery: Delivery) -> chunks.Range:
    group = next((group for group in database.groups([delivery.chunk["table"]]) if group.id == delivery.chunk["group"]), None)
    if group is None:
        raise DatabaseError(f"{delivery.chunk['group']} was there when the run was planned and is gone now; start the run again")
    after, through = delivery.chunk["after"], delivery.chunk["through"]
    start = delivery.position if delivery.position is not None else None if after is None else tuple(after)
    return chunks.Range(group, start, None if through is None else tuple(through))


def _summary(outcome: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "chunk": outcome["chunk"], "done": outcome["to"] is None, "position": outcome["to"], "rows": outcome["rows"],
        "values": sum(sum(counts.values()) for counts in outcome["columns"].values()),
    }  # fmt: skip


def _listed(position: object) -> list[object] | None:
    return list(position) if isinstance(position, tuple | list) else None
