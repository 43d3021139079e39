"""Report failure: what is known about a run that a step ended."""

from __future__ import annotations

import json
from typing import Any

from reencrypt.handlers.boundary import boundary
from reencrypt.handlers.report import publish, tell, times
from reencrypt.handlers.workspace import run_store
from reencrypt.operations import report
from reencrypt.operations.modes import mode_word


@boundary
def handler(event: dict[str, Any], _context: Any) -> dict[str, Any]:
    """{"run", "input", "started", "error": {"Error", "Cause"}} → as `report`, with the outcome "failed"."""
    store = run_store(event["run"])
    facts = report.build_failure(event["run"], mode_word(event["input"]), store, times(event["started"]), _error(event["error"]))
    summary = publish(store, facts)
    tell(store, facts)
    return summary


def _error(caught: dict[str, Any]) -> dict[str, str]:
    """A Lambda function's exception arrives as JSON in `Cause`; a service's own error (a timeout, say) as plain text."""
    cause = caught.get("Cause", "")
    try:
        message = json.loads(cause)["errorMessage"]
    except (ValueError, KeyError, TypeError):
        message = cause or "the state machine gave no cause"
    return {"name": caught.get("Error", "States.TaskFailed"), "message": str(message)}
