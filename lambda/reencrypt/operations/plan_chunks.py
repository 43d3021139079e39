"""Cut every table with secrets into chunks: ranges of primary keys, never rows, never secrets.

The last chunk of a table is open at its end, so that rows that Grafana adds meanwhile belong to it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from reencrypt.database.database import Database
from reencrypt.database.dialects import Engine
from reencrypt.database.load import Connections
from reencrypt.database.statements import Key
from reencrypt.errors import DatabaseError
from reencrypt.grafana.secret_columns import ColumnGroup
from reencrypt.operations.run_input import OnUnreadable, RunInput
from reencrypt.operations.workspace import Workspace

MANIFEST = "chunks.jsonl"
PLAN = "plan.json"
CHUNK_BYTES = 64 << 20
_SHARE_OF_FREE_CONNECTIONS = 4
_LEAST_BUDGET = 10


def plan_chunks(request: RunInput, workspace: Workspace, max_concurrency: int) -> dict[str, Any]:
    """Writes the manifest, one JSON object a line, and returns its S3 key with counts and the concurrency of the run.

    The chunks of a restore are those of the run that it undoes, as far as that run wrote in them. Raises DatabaseError.
    """
    database = workspace.open_database(True)
    try:
        chunks = _of_run(request, request.run, workspace) if request.run is not None else _of_database(request, database)
        connections = database.connections()
        allowed = _workers(database.engine, connections, min(request.max_concurrency or max_concurrency, max_concurrency))
    finally:
        database.close()
    workspace.store.put_lines(MANIFEST, chunks)
    rows = sum(chunk["rows"] for chunk in chunks)
    plan = {
        "manifest": workspace.store.full_key(MANIFEST),
        "chunks": len(chunks),
        "rows": rows,
        "max_concurrency": max(1, min(allowed, len(chunks))),
        "server_connections": None if connections is None else {"allowed": connections.allowed, "used": connections.used},
        "unreadable_budget": _unreadable_budget(request, rows),
    }
    workspace.store.put_json(PLAN, plan)
    return plan


def group_of(database: Database, chunk: Mapping[str, Any]) -> ColumnGroup:
    """The column group of a line of the manifest. Raises DatabaseError where the database has it no longer."""
    group = next((group for group in database.groups([chunk["table"]]) if group.id == chunk["group"]), None)
    if group is None:
        raise DatabaseError(f"{chunk['group']} was there when the run was planned and is gone now; start the run again")
    return group


def _workers(engine: Engine, connections: Connections | None, wanted: int) -> int:
    """How many workers may be at it at once; each needs one connection, and the server's free ones are Grafana's before they are ours."""
    if engine is Engine.SQLITE or connections is None:
        return 1  # one writer: more workers would only wait for each other, and make Grafana wait
    return max(1, min(wanted, connections.free // _SHARE_OF_FREE_CONNECTIONS))


def _unreadable_budget(request: RunInput, rows: int) -> int | None:
    """How many unreadable values end the run early; None: it goes through whatever there is. A handful is no reason to leave the rest undone."""
    if not request.mode.encrypts or request.on_unreadable is OnUnreadable.REPORT:
        return None
    return max(_LEAST_BUDGET, int(request.unreadable_budget * rows))


def _of_run(request: RunInput, run: str, workspace: Workspace) -> list[dict[str, Any]]:
    written = set(workspace.journal.of_run(run).chunks()) if workspace.journal is not None else set()
    chunks = workspace.store.of_run(run).iter_lines(MANIFEST)
    return [chunk for chunk in chunks if chunk["id"] in written and (not request.tables or chunk["table"] in request.tables)]


def _of_database(request: RunInput, database: Database) -> list[dict[str, Any]]:
    chunks: list[dict[str, Any]] = []
    for group in database.groups(request.tables):
        chunks += [{"id": len(chunks) + number, **chunk} for number, chunk in enumerate(_chunks(database, group, request.chunk_rows))]
    # Not one row anywhere: nothing to do, no data key to make, and somebody to tell.
    return chunks if any(chunk["rows"] for chunk in chunks) else []


def _chunks(database: Database, group: ColumnGroup, rows: int) -> Iterator[dict[str, Any]]:
    """The last one is open at its end, whatever the number of rows; an empty table is one open chunk. (That is where Grafana's new rows go.)"""
    held = _chunk(group, 0, None, None)
    after: Key | None = None
    while True:
        window = database.window(group, after, None, rows, CHUNK_BYTES)
        if window.rows:
            if held["rows"]:
                yield held
            held = _chunk(group, window.rows, after, window.through)
        if window.last or window.through is None:
            yield {**held, "through": None}
            return
        after = window.through


def _chunk(group: ColumnGroup, rows: int, after: Key | None, through: Key | None) -> dict[str, Any]:
    return {
        "group": group.id, "table": group.table, "rows": rows,
        "after": None if after is None else list(after), "through": None if through is None else list(through),
    }  # fmt: skip
