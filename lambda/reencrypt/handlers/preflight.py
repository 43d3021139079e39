"""Preflight: may this run start?"""

from __future__ import annotations

from typing import Any

from reencrypt.handlers.boundary import boundary
from reencrypt.handlers.workspace import workspace
from reencrypt.operations import run_input
from reencrypt.operations.preflight import preflight


@boundary
def handler(event: dict[str, Any], _context: Any) -> dict[str, Any]:
    """{"run", "input"} → what was found; raises what forbids the run."""
    return preflight(run_input.parse(event["input"]), workspace(event["run"]))
