"""Report: add up what the workers left, write report.json, report.html and, for a run that has earned one, certificate.json."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from reencrypt.handlers import metrics
from reencrypt.handlers.boundary import boundary, logger, shown
from reencrypt.handlers.workspace import run_store
from reencrypt.operations import certificate, freshness, html_report, report, run_input
from reencrypt.operations.certificate import CERTIFICATE
from reencrypt.operations.message import message
from reencrypt.operations.report import REPORT_HTML, REPORT_JSON, RunOutcome, Times
from reencrypt.storage.objects import RunStore


@boundary
def handler(event: dict[str, Any], _context: Any) -> dict[str, Any]:
    """{"run", "input", "started"} → {"mode", "outcome", "headline", "report", "html", "certificate" (None where there is none), "totals",
    "unreadable", "message"}."""
    store = run_store(event["run"])
    facts = report.build(event["run"], run_input.parse(event["input"]), store, times(event["started"]))
    summary = publish(store, facts)
    tell(store, facts)
    return summary


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
    json_at, html_at = location + store.full_key(REPORT_JSON), location + store.full_key(REPORT_HTML)
    return {
        "mode": facts["mode"], "outcome": facts["outcome"], "headline": facts["headline"], "totals": facts["totals"],
        "unreadable": len(facts.get("unreadable", ())), "report": json_at, "html": html_at,
        "certificate": None if certified is None else location + store.full_key(CERTIFICATE),
        "message": message(metrics.stack_name(), facts, json_at, html_at),
    }  # fmt: skip


def tell(store: RunStore, facts: dict[str, Any]) -> None:
    """The run's metrics; a line of the log for each reason and column of unreadable values; when it succeeded, that it has."""
    metrics.emit(facts["mode"], metrics.of_run(facts))
    reasons = Counter((entry["reason"], f"{entry['table']}.{entry['column']}") for entry in facts["unreadable"])
    for (reason, column), count in sorted(reasons.items()):
        logger.warning(f"{count} unreadable in {column}: {reason}", extra={"reason": reason, "column": column, "count": count})
    if facts["outcome"] in (RunOutcome.SUCCEEDED, RunOutcome.WITH_UNREADABLE):
        try:
            freshness.record(store, facts["mode"], facts["run"], datetime.now(UTC))
        except (ClientError, BotoCoreError) as error:  # a watch is no reason to fail a run; its alarm will say that the age is unknown
            logger.warning("the time of this success could not be kept for the watch", extra={"error": type(shown(error)).__name__})


def times(started: str) -> Times:
    """From the execution's start time, as Step Functions gives it, until now."""
    return Times(datetime.fromisoformat(started).astimezone(UTC), datetime.now(UTC), int(os.environ.get("WORKER_MEMORY_MB", "1024")))
