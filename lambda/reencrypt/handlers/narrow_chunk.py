"""Narrow chunk: after a worker died, take fewer rows, and set the one apart that kills."""

from __future__ import annotations

from typing import Any

from reencrypt.handlers.boundary import boundary
from reencrypt.handlers.process_chunk import delivery
from reencrypt.handlers.workspace import workspace
from reencrypt.operations import run_input
from reencrypt.operations.narrow import narrow


@boundary
def handler(event: dict[str, Any], _context: Any) -> dict[str, Any]:
    """As process_chunk; returns what the next delivery begins with."""
    return narrow(run_input.parse(event["input"]), delivery(event), workspace(event["run"]))
