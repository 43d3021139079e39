"""Acquire lease: one run that writes at a time."""

from __future__ import annotations

from typing import Any

from reencrypt.handlers.boundary import boundary
from reencrypt.handlers.workspace import lease

LEASE_SECONDS = 3600  # renewed by each chunk; a run that died blocks the next one no longer than this


@boundary
def handler(event: dict[str, Any], _context: Any) -> dict[str, Any]:
    """{"run", "execution"} → {"owner"}; raises LeaseHeld, naming the execution that holds it."""
    lease().acquire(event["execution"], LEASE_SECONDS)
    return {"owner": event["execution"]}
