"""Report: add up what the workers left, write report.json, report.html and, for a run that has earned one, certificate.json."""

from __future__ import annotations

import hashlib
import os
from datetime import UTC, datetime
from typing import Any

from reencrypt.handlers.boundary import boundary
from reencrypt.handlers.workspace import run_store
from reencrypt.operations import certificate, html_report, report, run_input
from reencrypt.operations.certificate import CERTIFICATE
from reencrypt.operations.report import REPORT_HTML, REPORT_JSON, Times
from reencrypt.storage.objects import RunStore


@boundary
def handler(event: dict[str, Any], _context: Any) -> dict[str, Any]:
    """{"run", "input", "started"} → {"outcome", "headline", "report", "html", "certificate" (None where there is none), "totals"}."""
    store = run_store(event["run"])
    return publish(store, report.build(event["run"], run_input.parse(event["input"]), store, times(event["started"])))


def publish(store: RunStore, facts: dict[str, Any]) -> dict[str, Any]:
    """Writes the reports and the certificate; returns the summary that the console shows."""
    text = certificate.report_file(facts)
    certified = certificate.certificate(facts, hashlib.sha256(text.encode()).hexdigest())
    store.put_text(REPORT_JSON, text, "application/json")
    store.put_text(REPORT_HTML, html_report.render(facts, certified), "text/html; charset=utf-8")
    if certified is not None:
        store.put_text(CERTIFICATE, certificate.file_of(certified), "application/json")
    elif store.exists(CERTIFICATE):  # this step wrote it and failed after that, so that the run is reported as failed now
        store.put_json(CERTIFICATE, {"withdrawn": facts["headline"]})
    location = f"s3://{os.environ['RUN_BUCKET']}/"
    return {
        "outcome": facts["outcome"], "headline": facts["headline"], "totals": facts["totals"],
        "report": location + store.full_key(REPORT_JSON), "html": location + store.full_key(REPORT_HTML),
        "certificate": None if certified is None else location + store.full_key(CERTIFICATE),
    }  # fmt: skip


def times(started: str) -> Times:
    """From the execution's start time, as Step Functions gives it, until now."""
    return Times(datetime.fromisoformat(started).astimezone(UTC), datetime.now(UTC), int(os.environ.get("WORKER_MEMORY_MB", "1024")))
