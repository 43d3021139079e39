"""Acquire lease: one run that writes at a time."""

from __future__ import annotations

from typing import Any

from reencrypt.handlers.boundary import boundary
from reencrypt.handlers.workspace import lease
from reencrypt.operations.safeguards import LEASE_SECONDS


@boundary
def handler(event: dict[str, Any], _context: Any) -> dict[str, Any]:
    """{"run", "execution"} → {"owner"}; raises LeaseHeld, naming the execution that holds it."""
    lease().acquire(event["execution"], LEASE_SECONDS)
    return {"owner": event["execution"]}
