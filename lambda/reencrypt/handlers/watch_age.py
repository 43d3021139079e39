"""Watch the age: how many days ago each scheduled mode last succeeded, as a metric. Its own schedule calls it several times a day."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from reencrypt.handlers import metrics
from reencrypt.handlers.boundary import boundary, logger
from reencrypt.handlers.workspace import run_store
from reencrypt.operations import freshness
from reencrypt.operations.modes import Mode


@boundary
def handler(event: dict[str, Any], _context: Any) -> dict[str, Any]:
    """{"modes": […]} → {mode: days since its last success}."""
    found: dict[str, Any] = {}
    for mode in map(Mode, event["modes"]):
        days, run = freshness.days_since(run_store(freshness.FRESHNESS), mode.value, datetime.now(UTC))
        metrics.emit(mode.value, {"DaysSinceSuccess": days})
        said = "has not succeeded since this was first looked at" if run is None else "last succeeded"
        logger.info(f"{mode.value} {said}, {days:.1f} days ago", extra={"watched_mode": mode.value, "days": round(days, 3), "last_success": run})
        found[mode.value] = round(days, 3)
    return found
