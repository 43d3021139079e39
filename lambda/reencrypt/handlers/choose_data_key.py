"""Choose data key: the one that this run encrypts under."""

from __future__ import annotations

from typing import Any

from reencrypt.handlers.boundary import boundary
from reencrypt.handlers.workspace import workspace
from reencrypt.operations import run_input
from reencrypt.operations.choose_data_key import choose_data_key


@boundary
def handler(event: dict[str, Any], _context: Any) -> dict[str, Any]:
    """{"run", "input"} → {"data_key", "created"}."""
    return choose_data_key(run_input.parse(event["input"]), workspace(event["run"]))
