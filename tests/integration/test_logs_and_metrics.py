"""The logs of a whole run, in this process: one line for each delivery of a chunk, every line of the run by its name, metrics that are numbers.

That no secret is in them is tests/integration/test_leaks_in_failures.py's: metrics are lines of the same log.
"""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cli.sample import make_sample
from reencrypt.handlers.boundary import logger
from reencrypt.handlers.metrics import METRICS
from tests.support.functions import RUNS, Functions
from tests.support.leak_case import INI, SECRET_KEY, WRITE, Case


@pytest.fixture
def case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Case]:
    """A fresh sample, and the log."""
    handler, written = logger.registered_handler, io.StringIO()
    assert isinstance(handler, logging.StreamHandler)
    before = handler.setStream(written)
    secrets = make_sample(tmp_path / "grafana.db", SECRET_KEY, rows=6)
    yield Case(Functions(tmp_path / "aws", monkeypatch), tmp_path / "grafana.db", secrets, written)
    handler.setStream(before)


def _lines(case: Case) -> list[dict[str, Any]]:
    return [json.loads(line) for line in case.log.getvalue().splitlines()]


def test_each_delivery_of_a_chunk_is_one_line_that_names_run_chunk_pass_and_mode(case: Case) -> None:
    assert case.functions.run(WRITE) is None
    told = [line for line in _lines(case) if "chunk" in line]
    outcomes = list((case.functions.folder / RUNS / f"runs/{case.functions.name}/outcomes").rglob("*.json"))
    assert len(told) == len(outcomes) > 0
    assert {line["run"] for line in told} == {case.functions.name}
    assert {line["mode"] for line in told} == {"re-encrypt"}
    assert {line["phase"] for line in told} == {"process", "sweep-1", "verify"}
    for line in told:
        assert line["message"].startswith(f"chunk {line['chunk']} of ")
        assert f": {line['rows']} row" in line["message"]
    moved = sum(line["re_encrypted"] for line in told if line["phase"] == "process")
    assert moved == case.functions.report["totals"]["re_encrypted"] > 0


def test_every_line_of_every_function_has_the_runs_name(case: Case) -> None:
    assert case.functions.run(WRITE) is None
    assert {line["run"] for line in _lines(case) if "_aws" not in line} == {case.functions.name}


def test_what_nothing_could_read_is_a_line_for_each_reason_and_column(case: Case) -> None:
    case.sql("UPDATE secrets SET value = substr(value, 1, 40) WHERE id < 4")
    assert case.functions.run({"mode": "plan"}) is None
    told = [(line["reason"], line["column"], line["count"]) for line in _lines(case) if "reason" in line]
    assert told == [("too-short", "secrets.value", 3)]


def test_the_metrics_of_a_run_are_numbers_of_the_stack_and_the_mode_and_add_up_to_the_report(case: Case) -> None:
    assert case.functions.run(WRITE) is None
    case.configure("path = /absent/grafana.db", INI)
    assert case.functions.run({"mode": "verify"}) == "DatabaseUnavailable"
    emitted = [line for line in _lines(case) if "_aws" in line]
    known = {metric.name for metric in METRICS}
    for line in emitted:
        values = {name: value for name, value in line.items() if name in known}
        assert set(line) - set(values) == {"_aws", "stack", "mode"}
        assert all(isinstance(number, float) for value in values.values() for number in value)
    runs = {line["mode"]: line for line in emitted if "RunSeconds" in line}
    assert (runs["re-encrypt"]["RunsSucceeded"], runs["verify"]["RunsFailed"]) == ([1.0], [1.0])
    assert runs["re-encrypt"]["ValuesReEncrypted"] == [float(len(case._secrets))]
    assert sum(line["ChunkValues"][0] for line in emitted if "ChunkValues" in line) > 0
