"""Rewrap data keys: wrap them anew, up to the last one or this function's deadline."""

from __future__ import annotations

from typing import Any

from reencrypt.handlers.boundary import boundary
from reencrypt.handlers.deadline import out_of_time
from reencrypt.handlers.workspace import derive_key, workspace
from reencrypt.operations import run_input
from reencrypt.operations.rewrap import rewrap


@boundary
def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """{"run", "input", "execution"} → {"done", "rewrapped", "failed"}."""
    return rewrap(run_input.parse(event["input"]), workspace(event["run"], event["execution"]), out_of_time(context), derive_key)
