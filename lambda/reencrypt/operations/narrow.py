"""After a worker died on a stretch of a chunk (out of memory, out of time): take fewer rows, down to the one that kills, and set that one apart.

A tenth each time: a chunk of 1000 rows costs four dead workers, not ten. Only keys and sizes are read here, never a value.
"""

from __future__ import annotations

from typing import Any

from reencrypt.errors import IncompleteRun, TooManyUnreadable
from reencrypt.operations import quarantine
from reencrypt.operations.outcomes import Tally
from reencrypt.operations.plan_chunks import PLAN
from reencrypt.operations.quarantine import Quarantined
from reencrypt.operations.run_input import Mode, RunInput
from reencrypt.operations.stopping import stop
from reencrypt.operations.work import Delivery, Phase, keep_outcome, outcome_name, outcome_of, range_of, summary
from reencrypt.operations.workspace import Workspace

_NARROWER = 10
_ANY_SIZE = 1 << 62
_MOST_ROWS = 100  # where the run has no failure budget: workers that die whatever they read would go on for days


def narrow(request: RunInput, delivery: Delivery, workspace: Workspace) -> dict[str, Any]:
    """What to do next about a stretch whose worker died: `work`'s summary, with the same position and a smaller `limit`, or behind the row in quarantine.

    Safe to repeat. Raises DatabaseError; TooManyUnreadable where more rows kill their workers than the run may leave behind; IncompleteRun for a
    restore, whose chunks are not cut by rows.
    """
    if request.mode is Mode.RESTORE and delivery.phase == Phase.PROCESS:
        raise IncompleteRun(f"the worker died while it restored chunk {delivery.chunk['id']}; give the workers more memory (memory_mb), then start again")
    known = workspace.store.find_json(outcome_name(delivery.phase, delivery.chunk["id"], delivery.position))
    if known is not None:  # it had finished, and died on its way back
        return summary(known)
    tally, end, poison = Tally(), None, None
    database = workspace.open_database(True)
    try:
        stretch = range_of(database, delivery)
        if not stretch.group.primary_key:
            raise IncompleteRun(f"the worker died while it read {stretch.group.table}, which has no key to read it in parts by; give the workers more memory")
        earlier = quarantine.of_chunk(workspace.store, delivery.chunk["id"])
        without = tuple(entry.key for entry in earlier)
        most = delivery.rows or max(int(delivery.chunk["rows"]), 1)
        window = database.window(stretch.group, stretch.after, stretch.through, most, _ANY_SIZE, without)
        if window.rows > 1 or (window.rows and delivery.rows is None and not window.last):
            position = None if delivery.position is None else list(delivery.position)
            limit = [max(1, window.rows // _NARROWER), window.rows]
            return {"chunk": delivery.chunk["id"], "done": False, "position": position, "limit": limit, "rows": 0, "values": 0}
        if window.rows:
            key = database.window(stretch.group, stretch.after, None, 1, _ANY_SIZE, without).through
            if key is None:
                raise AssertionError("a window of one row ends at its key")
            poison = Quarantined(key, delivery.phase.value)
            quarantine.count(poison, stretch.group, database, tally)
            end = None if key == stretch.through else key  # behind it may be more, if only rows that Grafana has added since
        if delivery.position is None:
            quarantine.count_earlier(earlier, delivery.phase.value, stretch.group, database, tally)
    finally:
        database.close()
    outcome = {**outcome_of(delivery, tally, end, 0.0), "limit": None}  # what killed is found: on with the whole rest
    if poison is None:  # Grafana has deleted every row that was left
        return summary(keep_outcome(workspace, delivery, outcome))
    _judge(workspace, outcome)
    answer = summary(keep_outcome(workspace, delivery, outcome))
    # Last: who repeats this step must not pass over the row before it is counted, and take the next one for it.
    quarantine.keep(workspace.store, delivery.chunk["id"], poison)
    return answer


def _judge(workspace: Workspace, outcome: dict[str, Any]) -> None:
    """The failure budget: workers that die whatever they read would set apart one row after another."""
    given = workspace.store.get_json(PLAN)["unreadable_budget"]
    budget = _MOST_ROWS if given is None else given
    found = quarantine.number(workspace.store) + 1
    if found <= budget:
        return
    error = TooManyUnreadable(
        f"{found} rows killed their workers so far, more than the {budget} that a run sets apart; the rest was not touched. Give the workers more memory "
        "(memory_mb), then start again"
    )
    stop(workspace.store, error, outcome)
    raise error
