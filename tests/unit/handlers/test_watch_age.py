"""The watch over scheduled modes: the age of the last success, which a run leaves when it has succeeded, and only then."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from reencrypt.handlers import report, watch_age, workspace
from reencrypt.handlers.boundary import logger
from reencrypt.operations import freshness
from reencrypt.storage.bucket import FolderBucket
from reencrypt.storage.objects import RunStore
from tests.support import reports

NOW = datetime(2026, 11, 25, 3, 0, tzinfo=UTC)


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore(FolderBucket(tmp_path / "bucket"), "run-7")


@pytest.fixture(autouse=True)
def log(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[io.StringIO]:
    monkeypatch.setenv("RUN_BUCKET", "bucket")
    monkeypatch.setattr(workspace, "S3Bucket", lambda name: FolderBucket(tmp_path / name))
    handler, written = logger.registered_handler, io.StringIO()
    assert isinstance(handler, logging.StreamHandler)
    before = handler.setStream(written)
    yield written
    handler.setStream(before)


def _ages(log: io.StringIO) -> list[tuple[str, float]]:
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    return [(line["mode"], line["DaysSinceSuccess"][0]) for line in lines if "DaysSinceSuccess" in line]


def test_the_age_is_that_of_the_last_success_of_the_mode(store: RunStore) -> None:
    freshness.record(store, "rotate", "run-1", NOW - timedelta(days=40))
    freshness.record(store, "rotate", "run-2", NOW - timedelta(days=3))
    freshness.record(store, "plan", "run-3", NOW - timedelta(days=1))
    assert freshness.days_since(store, "rotate", NOW) == (3.0, "run-2")
    assert freshness.days_since(store, "plan", NOW) == (1.0, "run-3")


def test_the_clock_of_a_mode_that_never_succeeded_starts_when_it_is_first_asked_for(store: RunStore) -> None:
    assert freshness.days_since(store, "rotate", NOW) == (0.0, None)
    assert freshness.days_since(store, "rotate", NOW + timedelta(days=8)) == (8.0, None)
    freshness.record(store, "rotate", "run-1", NOW + timedelta(days=9))
    assert freshness.days_since(store, "rotate", NOW + timedelta(days=10)) == (1.0, "run-1")


@pytest.mark.parametrize(("outcome", "kept"), [("succeeded", True), ("succeeded-with-unreadable", True), ("failed", False), ("nothing-found", False)])
def test_a_run_leaves_the_time_of_its_success_and_only_of_that(store: RunStore, outcome: str, kept: bool, log: io.StringIO) -> None:
    report.tell(store, reports.whole("verify") | {"outcome": outcome, "run": "run-7"})
    _, run = freshness.days_since(store, "verify", datetime.now(UTC))
    assert run == ("run-7" if kept else None)


def test_each_unreadable_reason_and_column_has_one_line_without_a_place(store: RunStore, log: io.StringIO) -> None:
    facts: dict[str, Any] = reports.whole("re-encrypt") | {"unreadable": reports.sample()["unreadable"]}
    report.tell(store, facts)
    lines = [line for line in map(json.loads, log.getvalue().splitlines()) if "reason" in line]
    assert {(line["reason"], line["column"], line["count"]) for line in lines} == {
        ("implausible-plaintext", "data_source.secure_json_data", 1), ("unknown-data-key", "user_external_session.access_token", 9)}  # fmt: skip
    assert sum(line["count"] for line in lines) == len(facts["unreadable"])
    assert "primary_key" not in log.getvalue()


def test_the_watch_emits_the_age_of_each_scheduled_mode(store: RunStore, log: io.StringIO) -> None:
    freshness.record(store, "rotate", "run-1", datetime.now(UTC) - timedelta(days=5))
    found = watch_age.handler({"modes": ["plan", "rotate"]}, None)
    assert found == {"plan": 0.0, "rotate": 5.0}
    assert [(mode, round(days, 3)) for mode, days in _ages(log)] == [("plan", 0.0), ("rotate", 5.0)]
    assert "rotate last succeeded, 5.0 days ago" in log.getvalue()
