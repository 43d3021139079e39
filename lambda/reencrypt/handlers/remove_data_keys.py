"""Remove data keys: those that nothing refers to, after the last look through every column."""

from __future__ import annotations

from typing import Any

from reencrypt.handlers.boundary import boundary
from reencrypt.handlers.workspace import workspace
from reencrypt.operations import run_input
from reencrypt.operations.remove_data_keys import remove_data_keys


@boundary
def handler(event: dict[str, Any], _context: Any) -> dict[str, Any]:
    """{"run", "input", "execution"} → {"removed", "kept"}."""
    return remove_data_keys(run_input.parse(event["input"]), workspace(event["run"], event["execution"]))
