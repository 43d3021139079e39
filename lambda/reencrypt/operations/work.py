"""One delivery of a chunk to a worker: from the position that the last one reached, until it is done or time runs out.

The outcome of each stretch is an object of its own in the run's store, written once: a duplicate delivery finds it and counts nothing twice.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from reencrypt.database.database import Database
from reencrypt.database.statements import Key
from reencrypt.errors import ConfigurationError, TooManyUnreadable
from reencrypt.grafana.cipher import DeriveKey
from reencrypt.grafana.secret_columns import System
from reencrypt.operations import chunk as chunks
from reencrypt.operations import quarantine
from reencrypt.operations.aims import Aim, Keep
from reencrypt.operations.keys import entry_of, listed_name
from reencrypt.operations.outcomes import Tally
from reencrypt.operations.plan_chunks import PLAN, group_of, is_scan, key_chunk
from reencrypt.operations.preflight import PREFLIGHT
from reencrypt.operations.quarantine import Quarantined
from reencrypt.operations.restore import restore_chunk
from reencrypt.operations.restore_keys import put_back_removed, restore_keys
from reencrypt.operations.run_input import RunInput
from reencrypt.operations.run_keys import RunKeys, aims, open_keys
from reencrypt.operations.safeguards import Safeguards, Throttle, no_safeguards
from reencrypt.operations.scan import scan
from reencrypt.operations.stopping import stop
from reencrypt.operations.workspace import Workspace
from reencrypt.storage.journal import Journal


@dataclass(frozen=True)
class Phase:
    """A pass over all chunks: `process` does what the mode says, `sweep-<n>` does it again for what Grafana wrote meanwhile, `verify` only reads.

    `survey` and `scan` look through every column of the database, before a run that removes data keys begins and before it removes them.
    """

    value: str
    PROCESS: ClassVar[Phase]
    VERIFY: ClassVar[Phase]
    SURVEY: ClassVar[Phase]
    SCAN: ClassVar[Phase]

    @classmethod
    def sweep(cls, number: int) -> Phase:
        """The sweep of that number, from 1 on; 0 is the first pass itself."""
        return cls(f"sweep-{number}") if number else cls.PROCESS


Phase.PROCESS, Phase.VERIFY, Phase.SURVEY, Phase.SCAN = map(Phase, ("process", "verify", "survey", "scan"))
_READ_ONLY = (Phase.VERIFY, Phase.SURVEY, Phase.SCAN)


@dataclass(frozen=True)
class Delivery:
    """A chunk of the manifest with the position to go on from (None: its beginning).

    `limit` is None but after a worker died: then how many rows to take at most, and how many are left of those that it died on.
    """

    phase: Phase
    chunk: Mapping[str, Any]
    position: Key | None
    limit: Sequence[int] | None = None

    @property
    def rows(self) -> int | None:
        """How many rows to take at most; None: all."""
        return None if self.limit is None else self.limit[0]


def work(request: RunInput, delivery: Delivery, workspace: Workspace, out_of_time: Callable[[], bool], derive: DeriveKey) -> dict[str, Any]:
    """`work_through`, and the summary of what became of it."""
    return summary(work_through(request, delivery, workspace, out_of_time, derive))


def work_through(request: RunInput, delivery: Delivery, workspace: Workspace, out_of_time: Callable[[], bool], derive: DeriveKey) -> dict[str, Any]:
    """Processes the chunk from its position on; returns what became of that stretch: the counts, and the position reached (None: the end).

    Raises DatabaseError, ProviderThrottled, LeaseHeld, TooManyUnreadable; safe to repeat.
    """
    known: dict[str, Any] | None = workspace.store.find_json(outcome_name(delivery.phase, delivery.chunk["id"], delivery.position))
    if known is not None:
        return known
    started = time.monotonic()
    tally = Tally()
    writes = request.mode.writes and delivery.phase not in _READ_ONLY
    database = workspace.open_database(not writes)
    try:
        safeguards = _safeguards(request, delivery, workspace, database, out_of_time) if writes else None
        position = _pass_over(request, delivery, workspace, database, derive, tally, out_of_time, safeguards)
    except TooManyUnreadable as error:
        stop(workspace.store, error, outcome_of(delivery, tally, None, time.monotonic() - started))
        raise
    finally:
        database.close()
    return keep_outcome(workspace, delivery, outcome_of(delivery, tally, position, time.monotonic() - started))


def _pass_over(
    request: RunInput, delivery: Delivery, workspace: Workspace, database: Database,
    derive: DeriveKey, tally: Tally, out_of_time: Callable[[], bool], safeguards: Safeguards | None,
) -> Key | None:  # fmt: skip
    """The stretch itself; writes under `safeguards`, or only reads where there are none."""
    facts = workspace.store.get_json(PREFLIGHT)
    verifying = delivery.phase == Phase.VERIFY
    keys = open_keys(workspace, database, facts, derive, either=request.mode.steps.secret_keys and not verifying)
    if is_scan(delivery.chunk["group"]):
        ids = {row.name for rows in keys.rows.values() for row in rows}
        return scan(_without_poison(delivery, workspace, database)[0], database, ids, out_of_time, tally)
    if request.run is not None and safeguards is not None:
        restore(request.run, delivery, workspace, database, keys, safeguards, tally)
        return None
    if key_chunk(delivery.chunk) is not None:  # what a restore has put back there is seen by what it protects
        return None
    writes = safeguards is not None and request.mode.steps.rewrites
    # In the passes after the first nothing is forced: what the run has written is current.
    force = request.force and delivery.phase == Phase.PROCESS
    aim = aims(request, workspace, keys, facts, writes=writes, force=force, verifying=verifying)
    policy = chunks.Policy(aim.__getitem__, writes, safeguards or no_safeguards(), witnesses=request.mode.steps.rewraps)
    stretch, poison = _without_poison(delivery, workspace, database)
    position = chunks.process(stretch, database, policy, out_of_time, tally)
    known = {listed_name(entry) for entry in facts["data_keys"]}
    tally.new_data_keys = [
        entry_of(row, readable=name not in unwrap.problems, system=system, kms_key=unwrap.kms_key(row))
        for system, unwrap in keys.unwrap.items()
        for name, row in unwrap.rows.items()
        if name in tally.keys and name not in known
    ]
    if delivery.position is None:
        quarantine.count_earlier(poison, delivery.phase.value, stretch.group, database, tally)
    return position


def _without_poison(delivery: Delivery, workspace: Workspace, database: Database) -> tuple[chunks.Range, list[Quarantined]]:
    poison = quarantine.of_chunk(workspace.store, delivery.chunk["id"])
    return replace(range_of(database, delivery), without=tuple(entry.key for entry in poison)), poison


def restore(run: str, delivery: Delivery, workspace: Workspace, database: Database, keys: RunKeys, safeguards: Safeguards, tally: Tally) -> None:
    """Undoes what `run` has done in the chunk: to rows, or to data keys."""
    source, system = _source(run, workspace), key_chunk(delivery.chunk)
    if system is not None:
        restore_keys(system, database, keys.unwrap[system], source, safeguards, workspace.now(), tally)
        return
    safeguards.judge(0)  # who has lost the lease adds nothing either
    # Before the values that need them: chunks are restored side by side.
    for each in System:
        put_back_removed(each, database, source)
    aim: Mapping[System, Aim] = {System.GRAFANA: Keep(keys.ring), System.MANAGER: Keep(keys.manager_ring)}
    restore_chunk(delivery.chunk, database, aim.__getitem__, source, safeguards, tally)


def _source(run: str, workspace: Workspace) -> Journal:
    """The journal that a restore reads. The preflight has made sure that there is one."""
    if workspace.journal is None:
        raise ConfigurationError("this deployment keeps no undo journal any more (journal_days = 0), so there is nothing to restore from")
    return workspace.journal.of_run(run)


def _safeguards(request: RunInput, delivery: Delivery, workspace: Workspace, database: Database, out_of_time: Callable[[], bool]) -> Safeguards:
    # Each pass sees the same unreadable values again; the budget is spent once.
    budget = workspace.store.get_json(PLAN)["unreadable_budget"] if delivery.phase == Phase.PROCESS else None
    throttle = Throttle(database.running, request.max_load, out_of_time)
    stretch = _stretch(delivery.chunk["id"], delivery.position)
    return Safeguards(workspace.pulse(), workspace.journal, delivery.chunk["id"], budget, throttle.wait, stretch)


def keep_outcome(workspace: Workspace, delivery: Delivery, outcome: dict[str, Any]) -> dict[str, Any]:
    """Leaves what became of a stretch in the store; returns it, or that of the delivery that was first."""
    name = outcome_name(delivery.phase, delivery.chunk["id"], delivery.position)
    if workspace.store.put_json(name, outcome, once=True):
        return outcome
    first: dict[str, Any] = workspace.store.get_json(name)
    return first


def outcome_of(delivery: Delivery, tally: Tally, position: Key | None, seconds: float) -> dict[str, Any]:
    """What became of the stretch from the delivery's position to `position`. `limit` is that of the next delivery.

    Rows stay few until all of those are through that a worker died on: more at once would only kill the next one.
    """
    limit = None
    if delivery.limit is not None:
        rows, left = delivery.limit
        left -= min(rows, tally.rows)
        limit = [rows, left] if left > 0 else None
    return {
        "chunk": delivery.chunk["id"], "group": delivery.chunk["group"], "from": _listed(delivery.position), "to": _listed(position),
        "limit": limit, "seconds": round(seconds, 3), **tally.as_json(),
    }  # fmt: skip


def outcome_name(phase: Phase, chunk: int, position: object) -> str:
    """The store's key of the stretch of `chunk` that begins at `position`: the same for each delivery of it."""
    return f"outcomes/{phase.value}/{_stretch(chunk, position)}.json"


def _stretch(chunk: int, position: object) -> str:
    start = hashlib.sha256(json.dumps(_listed(position)).encode()).hexdigest()[:16] if position is not None else "start"
    return f"{chunk:06d}-{start}"


def range_of(database: Database, delivery: Delivery) -> chunks.Range:
    """The rows of the delivery. Raises DatabaseError where their table is gone."""
    after, through = delivery.chunk["after"], delivery.chunk["through"]
    start = delivery.position if delivery.position is not None else None if after is None else tuple(after)
    return chunks.Range(group_of(database, delivery.chunk), start, None if through is None else tuple(through), delivery.rows)


def summary(outcome: Mapping[str, Any]) -> dict[str, Any]:
    """What the state machine sees of an outcome."""
    return {
        "chunk": outcome["chunk"], "done": outcome["to"] is None, "position": outcome["to"], "limit": outcome["limit"], "rows": outcome["rows"],
        "values": sum(sum(counts.values()) for counts in outcome["columns"].values()),
    }  # fmt: skip


def _listed(position: object) -> list[object] | None:
    return list(position) if isinstance(position, tuple | list) else None
