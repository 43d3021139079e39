"""Report: add up what the workers left, write report.json and report.html."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import Any

from reencrypt.handlers.boundary import boundary
from reencrypt.handlers.workspace import run_store
from reencrypt.operations import html_report, report, run_input
from reencrypt.operations.report import REPORT_HTML, REPORT_JSON, Times
from reencrypt.storage.objects import RunStore


@boundary
def handler(event: dict[str, Any], _context: Any) -> dict[str, Any]:
    """{"run", "input", "started"} → {"outcome", "headline", "report", "html", "totals"}."""
    store = run_store(event["run"])
    return publish(store, report.build(event["run"], run_input.parse(event["input"]), store, times(event["started"])))


def publish(store: RunStore, facts: dict[str, Any]) -> dict[str, Any]:
    """Writes both reports; returns the summary that the console shows."""
    store.put_json(REPORT_JSON, facts)
    store.put_text(REPORT_HTML, html_report.render(facts), "text/html; charset=utf-8")
    location = f"s3://{os.environ['RUN_BUCKET']}/"
    return {
        "outcome": facts["outcome"], "headline": facts["headline"], "totals": facts["totals"],
        "report": location + store.full_key(REPORT_JSON), "html": location + store.full_key(REPORT_HTML),
    }  # fmt: skip


def times(started: str) -> Times:
    """From the execution's start time, as Step Functions gives it, until now."""
    return Times(datetime.fromisoformat(started).astimezone(UTC), datetime.now(UTC), int(os.environ.get("WORKER_MEMORY_MB", "1024")))
