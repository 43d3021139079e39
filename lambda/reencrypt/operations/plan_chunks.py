"""Cut every table with secrets into chunks: ranges of primary keys, never rows, never secrets.

The last chunk of a table is open at its end, so that rows that Grafana adds meanwhile belong to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from reencrypt.database.database import Database
from reencrypt.database.dialects import Engine
from reencrypt.database.statements import Key
from reencrypt.grafana.secret_columns import ColumnGroup
from reencrypt.operations.run_input import RunInput
from reencrypt.operations.workspace import Workspace

MANIFEST = "chunks.jsonl"
PLAN = "plan.json"
CHUNK_BYTES = 64 << 20


def plan_chunks(request: RunInput, workspace: Workspace, max_concurrency: int) -> dict[str, Any]:
    """Writes the manifest, one JSON object a line, and returns its S3 key with counts and the concurrency of the run.

    Raises DatabaseError.
    """
    database = workspace.open_database(True)
    try:
        chunks: list[dict[str, Any]] = []
        for group in database.groups(request.tables):
            chunks += [{"id": len(chunks) + number, **chunk} for number, chunk in enumerate(_chunks(database, group, request.chunk_rows))]
        # SQLite has one writer: more workers would only wait for each other, and make Grafana wait.
        allowed = 1 if database.engine is Engine.SQLITE else min(request.max_concurrency or max_concurrency, max_concurrency)
    finally:
        database.close()
    workspace.store.put_lines(MANIFEST, chunks)
    plan = {
        "manifest": workspace.store.full_key(MANIFEST),
        "chunks": len(chunks),
        "rows": sum(chunk["rows"] for chunk in chunks),
        "max_concurrency": max(1, min(allowed, len(chunks))),
    }
    workspace.store.put_json(PLAN, plan)
    return plan


def _chunks(database: Database, group: ColumnGroup, rows: int) -> Iterator[dict[str, Any]]:
    after: Key | None = None
    while True:
        window = database.window(group, after, None, rows, CHUNK_BYTES)
        if window.rows:
            yield {
                "group": group.id, "table": group.table, "rows": window.rows,
                "after": None if after is None else list(after), "through": None if window.last or window.through is None else list(window.through),
            }  # fmt: skip
        if window.last or window.through is None:
            return
        after = window.through
