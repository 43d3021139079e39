"""Cut every table with secrets into chunks: ranges of primary keys, never rows, never secrets. Where it matters, every other table too.

The last chunk of a table is open at its end, so that rows that Grafana adds meanwhile belong to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from reencrypt.database import everything
from reencrypt.database.database import Database
from reencrypt.database.dialects import Engine
from reencrypt.database.load import Connections
from reencrypt.database.statements import Key
from reencrypt.errors import DatabaseError
from reencrypt.grafana.secret_columns import ColumnGroup, System
from reencrypt.operations.run_input import Mode, OnUnreadable, RunInput
from reencrypt.operations.workspace import Workspace

MANIFEST = "chunks.jsonl"
EVERYTHING_MANIFEST = "everything.jsonl"
PLAN = "plan.json"
# The journal keeps data keys that a run has changed or removed as those of chunks of their own, with numbers that no other chunk reaches.
KEY_CHUNKS: Mapping[System, Mapping[str, Any]] = {
    system: {"id": 900_000 + number, "group": table, "table": table, "rows": 0, "after": None, "through": None}
    for number, (system, table) in enumerate(((System.GRAFANA, "data_keys"), (System.MANAGER, "secret_data_key")))
}
CHUNK_BYTES = 64 << 20
_SHARE_OF_FREE_CONNECTIONS = 4
_LEAST_BUDGET = 10


def plan_chunks(request: RunInput, workspace: Workspace, max_concurrency: int) -> dict[str, Any]:
    """Writes the manifest, one JSON object a line, and returns its S3 key with counts and the concurrency of the run.

    The chunks of a restore are those of the run that it undoes, as far as that run wrote in them. Raises DatabaseError.
    """
    database = workspace.open_database(True)
    try:
        chunks, places = _chunks_of_run(request, workspace, database)
        connections = database.connections()
        allowed = _workers(database.engine, connections, min(request.max_concurrency or max_concurrency, max_concurrency))
    finally:
        database.close()
    workspace.store.put_lines(MANIFEST, chunks)
    if request.mode.steps.surveys:
        workspace.store.put_lines(EVERYTHING_MANIFEST, places)
    rows = sum(chunk["rows"] for chunk in chunks if not is_scan(chunk["group"]))
    plan = {
        "manifest": workspace.store.full_key(MANIFEST),
        "everything": workspace.store.full_key(EVERYTHING_MANIFEST),
        "chunks": len(chunks) if request.mode.steps.reads_values else len(places),
        "rows": rows,
        "max_concurrency": max(1, min(allowed, max(len(chunks), len(places)))),
        "server_connections": None if connections is None else {"allowed": connections.allowed, "used": connections.used},
        "unreadable_budget": _unreadable_budget(request, rows),
    }
    workspace.store.put_json(PLAN, plan)
    return plan


def _chunks_of_run(request: RunInput, workspace: Workspace, database: Database) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The chunks of the run's passes, and those of its looks through every column. A plan looks in its one pass."""
    if request.run is not None:
        return _of_run(request, request.run, workspace), []
    chunks = _of_groups(database, database.groups(request.tables), request.chunk_rows) if request.mode.steps.reads_values else []
    if not any(chunk["rows"] for chunk in chunks):
        chunks = []  # not one row anywhere: nothing to do, no data key to make, and somebody to tell
    if request.mode.steps.surveys:
        return chunks, _of_groups(database, _everything(database), request.chunk_rows)
    if request.mode is Mode.PLAN and chunks:
        chunks += _of_groups(database, _everything(database, request.tables), request.chunk_rows, first=len(chunks))
    return chunks, []


def _everything(database: Database, tables: Iterable[str] = ()) -> list[ColumnGroup]:
    """Every table that could name a data key; the tables of data keys themselves name nothing but their own rows."""
    own = {chunk["table"] for chunk in KEY_CHUNKS.values()}
    return [group for group in database.everything(tables) if group.table not in own]


def key_chunk(chunk: Mapping[str, Any]) -> System | None:
    """The store whose data keys `chunk` stands for; None for a chunk of rows."""
    return next((system for system, keys in KEY_CHUNKS.items() if keys["id"] == chunk["id"]), None)


def group_of(database: Database, chunk: Mapping[str, Any]) -> ColumnGroup:
    """The column group of a line of the manifest. Raises DatabaseError where the database has it no longer."""
    groups = database.everything([chunk["table"]]) if is_scan(chunk["group"]) else database.groups([chunk["table"]])
    group = next((group for group in groups if group.id == chunk["group"]), None)
    if group is None:
        raise DatabaseError(f"{chunk['group']} was there when the run was planned and is gone now; start the run again")
    return group


def is_scan(group_id: str) -> bool:
    """Whether a line of a manifest is a stretch of a look through every column of a table."""
    return group_id.startswith(everything.PREFIX)


def _workers(engine: Engine, connections: Connections | None, wanted: int) -> int:
    """How many workers may be at it at once; each needs one connection, and the server's free ones are Grafana's before they are ours."""
    if engine is Engine.SQLITE or connections is None:
        return 1  # one writer: more workers would only wait for each other, and make Grafana wait
    return max(1, min(wanted, connections.free // _SHARE_OF_FREE_CONNECTIONS))


def _unreadable_budget(request: RunInput, rows: int) -> int | None:
    """How many unreadable values end the run early; None: it goes through whatever there is. A handful is no reason to leave the rest undone."""
    if not request.mode.steps.rewrites or request.on_unreadable is OnUnreadable.REPORT:
        return None
    return max(_LEAST_BUDGET, int(request.unreadable_budget * rows))


def _of_run(request: RunInput, run: str, workspace: Workspace) -> list[dict[str, Any]]:
    written = set(workspace.journal.of_run(run).chunks()) if workspace.journal is not None else set()
    chunks = {chunk["id"]: chunk for chunk in (*workspace.store.of_run(run).iter_lines(MANIFEST), *KEY_CHUNKS.values())}
    return [chunk for chunk in chunks.values() if chunk["id"] in written and (not request.tables or chunk["table"] in request.tables)]


def _of_groups(database: Database, groups: Iterable[ColumnGroup], rows: int, first: int = 0) -> list[dict[str, Any]]:
    """A table without a key is one chunk, of a number of rows that nobody knows."""
    chunks: list[dict[str, Any]] = []
    for group in groups:
        cut = _chunks(database, group, rows) if group.primary_key else [_chunk(group, 0, None, None)]
        chunks += [{"id": first + len(chunks) + number, **chunk} for number, chunk in enumerate(cut)]
    return chunks


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
