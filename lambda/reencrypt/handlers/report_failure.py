"""Report failure: what is known about a run that a step ended."""

from __future__ import annotations

import json
from typing import Any

from reencrypt.handlers.boundary import boundary
from reencrypt.handlers.report import publish, times
from reencrypt.handlers.workspace import run_store
from reencrypt.operations import report
from reencrypt.operations.run_input import Mode


@boundary
def handler(event: dict[str, Any], _context: Any) -> dict[str, Any]:
    """{"run", "input", "started", "error": {"Error", "Cause"}} → as `report`, with the outcome "failed"."""
    store = run_store(event["run"])
    given = event["input"]
    mode = given.get("mode", Mode.PLAN) if isinstance(given, dict) else None
    # Only what is a mode is repeated: whatever else stands there may have been pasted by mistake.
    shown = mode if mode in list(Mode) else "invalid"
    return publish(store, report.build_failure(event["run"], str(shown), store, times(event["started"]), _error(event["error"])))


def _error(caught: dict[str, Any]) -> dict[str, str]:
    """A Lambda function's exception arrives as JSON in `Cause`; a service's own error (a timeout, say) as plain text."""
    cause = caught.get("Cause", "")
    try:
        message = json.loads(cause)["errorMessage"]
    except (ValueError, KeyError, TypeError):
        message = cause or "the state machine gave no cause"
    return {"name": caught.get("Error", "States.TaskFailed"), "message": str(message)}
