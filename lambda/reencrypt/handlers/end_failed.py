"""End the run as failed, in a way that a redrive can go on from.

A Fail state would only fail again when a person redrives the execution. A task that fails is run again instead: it finds that this is
another attempt than the one it failed in, and lets the run go on; what the first attempt has done stays done.
Source: https://docs.aws.amazon.com/step-functions/latest/dg/redrive-executions.html
"""

from __future__ import annotations

from typing import Any

from reencrypt.errors import RunFailed
from reencrypt.handlers.boundary import boundary


@boundary
def handler(event: dict[str, Any], _context: Any) -> dict[str, Any]:
    """{"headline", "redrives", "failed_in"}: raises RunFailed with the headline, or returns the number of redrives when it is a later one."""
    if event["redrives"] > event["failed_in"]:
        return {"redrives": event["redrives"]}
    raise RunFailed(event["headline"])
