"""Release lease: only this run's own; a lease that another run holds is left alone."""

from __future__ import annotations

from typing import Any

from reencrypt.handlers.boundary import boundary
from reencrypt.handlers.workspace import lease


@boundary
def handler(event: dict[str, Any], _context: Any) -> dict[str, Any]:
    """{"run", "execution"} → {}; safe to repeat."""
    lease().release(event["execution"])
    return {}
