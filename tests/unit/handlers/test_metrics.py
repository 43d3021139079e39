"""Metrics: CloudWatch's embedded format, two sets of dimensions, numbers only: no text of a run can become one."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from reencrypt.handlers import metrics
from reencrypt.handlers.boundary import logger
from reencrypt.handlers.metrics import METRICS
from reencrypt.operations.modes import Mode, mode_word
from reencrypt.operations.report import RunOutcome
from tests.support import reports

SECRET = "hunter2-secret"
OUTCOME = {
    "chunk": 12, "group": "secrets", "from": None, "to": None, "limit": None, "seconds": 3.2, "rows": 1000,
    "columns": {"secrets.value": {"re_encrypted": 800, "already_current": 12, "unreadable": 0}}, "references": [],
}  # fmt: skip
Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture(autouse=True)
def emitted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Lines]:
    """The lines of the log."""
    monkeypatch.setenv("POWERTOOLS_SERVICE_NAME", "grafana-prod")
    handler, written = logger.registered_handler, io.StringIO()
    assert isinstance(handler, logging.StreamHandler)
    before = handler.setStream(written)
    yield lambda: [json.loads(line) for line in written.getvalue().splitlines()]
    handler.setStream(before)
    assert SECRET not in written.getvalue()


def _values(line: dict[str, Any]) -> dict[str, float]:
    (directive,) = line["_aws"]["CloudWatchMetrics"]
    return {metric["Name"]: line[metric["Name"]][0] for metric in directive["Metrics"]}


def test_a_line_is_of_the_stack_and_of_the_stack_and_its_mode_and_of_nothing_else(emitted: Lines) -> None:
    metrics.emit("rotate", {"RunsSucceeded": 1, "RunSeconds": 41.5})
    (line,) = emitted()
    (directive,) = line["_aws"]["CloudWatchMetrics"]
    assert directive["Namespace"] == "GrafanaReencrypt"
    assert directive["Dimensions"] == [["stack"], ["stack", "mode"]]
    assert directive["Metrics"] == [{"Name": "RunsSucceeded", "Unit": "Count"}, {"Name": "RunSeconds", "Unit": "Seconds"}]
    assert {key: value for key, value in line.items() if key != "_aws"} == {
        "stack": "grafana-prod", "mode": "rotate", "RunsSucceeded": [1.0], "RunSeconds": [41.5]}  # fmt: skip
    assert line["_aws"]["Timestamp"] > 1_700_000_000_000


@pytest.mark.parametrize("mode", ["re-encrypt", "plan", "verify"])
def test_a_run_counts_once_by_its_outcome_and_its_values_by_theirs(emitted: Lines, mode: str) -> None:
    facts = reports.whole(mode)
    metrics.emit(mode, metrics.of_run(facts))
    values = _values(emitted()[0])
    assert [name for name, value in values.items() if name.startswith("Runs") and value] == [metrics._RUNS[facts["outcome"]]]
    assert values["ValuesReEncrypted"] == facts["totals"]["re_encrypted"]
    assert values["ValuesUnreadable"] == len(facts["unreadable"])


def test_every_outcome_of_a_run_has_its_metric() -> None:
    assert set(metrics._RUNS) == {outcome.value for outcome in RunOutcome}


def test_data_keys_are_counted_by_what_became_of_them() -> None:
    facts = reports.whole("re-encrypt") | {"rewrapped": {"rewrapped": {"kms": 3, "provider": 2}}, "removed": {"removed": [{"id": "a"}], "kept": []}}
    found = metrics.of_run(facts)
    assert (found["DataKeysRewrapped"], found["DataKeysRemoved"]) == (5, 1)


def test_a_run_that_failed_before_it_knew_anything_counts_as_failed() -> None:
    found = metrics.of_run(reports.failed() | {"totals": {}, "unreadable": [], "rewrapped": None, "removed": None, "seconds": 0.5})
    assert found["RunsFailed"] == 1
    assert found["ValuesReEncrypted"] == 0


def test_a_chunk_tells_its_seconds_rows_and_values(emitted: Lines) -> None:
    metrics.emit("re-encrypt", metrics.of_chunk(OUTCOME))
    assert _values(emitted()[0]) == {"ChunkSeconds": 3.2, "ChunkRows": 1000, "ChunkValues": 812}


def test_every_metric_is_emitted_by_somebody_and_no_other_can_be(emitted: Lines) -> None:
    chunk, run = metrics.of_chunk(OUTCOME), metrics.of_run(reports.whole("plan"))
    assert {metric.name for metric in METRICS} == {*chunk, *run, *metrics._RUNS.values(), "DaysSinceSuccess"}
    with pytest.raises(KeyError):
        metrics.emit("plan", {SECRET: 1})
    assert emitted() == []


def test_a_text_is_no_metric(emitted: Lines) -> None:
    with pytest.raises(Exception, match="is not a valid number"):
        metrics.emit("plan", {"RunSeconds": "41"})  # type: ignore[dict-item]  # what a bug would do
    assert emitted() == []


@pytest.mark.parametrize("given", [SECRET, [SECRET], {"mode": SECRET}, {"mode": [SECRET]}, {"mode": {"x": SECRET}}, {"mode": None}, None])
def test_a_mode_that_is_none_is_invalid_and_not_repeated(given: object) -> None:
    assert mode_word(given) == "invalid"


def test_the_words_of_the_dimension_mode_are_few() -> None:
    assert {mode_word({"mode": mode.value}) for mode in Mode} | {mode_word({})} == {mode.value for mode in Mode}
