"""Plan chunks: cut the tables into ranges of primary keys."""

from __future__ import annotations

from typing import Any

from reencrypt.handlers.boundary import boundary
from reencrypt.handlers.workspace import max_concurrency, workspace
from reencrypt.operations import run_input
from reencrypt.operations.plan_chunks import plan_chunks


@boundary
def handler(event: dict[str, Any], _context: Any) -> dict[str, Any]:
    """{"run", "input"} → {"manifest", "chunks", "rows", "max_concurrency"}."""
    return plan_chunks(run_input.parse(event["input"]), workspace(event["run"]), max_concurrency())
