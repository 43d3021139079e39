"""The line of the log about a chunk: readable, complete, in the words of its mode and pass."""

from __future__ import annotations

from typing import Any

import pytest

from reencrypt.operations import chunk_line
from reencrypt.operations.message import message
from tests.support import reports


def _outcome(**values: Any) -> dict[str, Any]:
    counts = {"re_encrypted": 800, "already_current": 12}
    return {"chunk": 12, "group": "secrets", "to": None, "seconds": 3.21, "rows": 1000, "columns": {"secrets.value": counts}, "references": [], **values}


def test_a_chunk_is_told_in_one_line() -> None:
    assert chunk_line.line("re-encrypt", "process", _outcome()) == (
        "chunk 12 of secrets: 1000 rows, 812 values: 800 re-encrypted, 12 already current, 0 unreadable, 3.2 s"
    )


@pytest.mark.parametrize(
    ("mode", "phase", "word"),
    [
        ("plan", "process", "800 to re-encrypt"), ("verify", "process", "800 to re-encrypt"), ("re-encrypt", "verify", "800 to re-encrypt"),
        ("re-encrypt", "sweep-1", "800 re-encrypted"), ("restore", "process", "800 put back"), ("rollback", "process", "800 brought back"),
    ],
)  # fmt: skip
def test_the_words_are_those_of_the_mode_and_the_pass(mode: str, phase: str, word: str) -> None:
    assert f": {word}, " in chunk_line.line(mode, phase, _outcome())


def test_every_value_is_in_the_line_with_its_outcome() -> None:
    columns = {
        "a.b": {"re_encrypted": 1, "empty": 2, "changed_by_grafana": 3},
        "a.c": {"re_encrypted": 4, "plaintext": 5, "unreadable": 6},
    }
    assert chunk_line.line("rotate", "process", _outcome(columns=columns, rows=1)).startswith(
        "chunk 12 of secrets: 1 row, 21 values: 5 re-encrypted, 0 already current, 2 empty, 3 changed by Grafana, 5 in plaintext, 6 unreadable"
    )
    assert chunk_line.counts(_outcome(columns=columns)) == {
        "re_encrypted": 5, "already_current": 0, "empty": 2, "changed_by_grafana": 3, "plaintext": 5, "unreadable": 6}  # fmt: skip


def test_a_stretch_that_ended_before_the_chunk_says_so() -> None:
    assert chunk_line.line("plan", "process", _outcome(to=[400])).endswith("3.2 s; stopped before the deadline, the next delivery goes on")
    assert "400" not in chunk_line.line("plan", "process", _outcome(to=[400])), "no primary key"


def test_a_look_through_every_column_tells_references() -> None:
    looked = _outcome(
        group="everything:dashboard", columns={}, references=[["dashboard", "data", "unknown", "key-1", 2], ["dashboard", "title", "known", "key-2", 1]]
    )
    assert chunk_line.line("prune-data-keys", "survey", looked) == "chunk 12 of dashboard: 1000 rows looked through, 3 references to data keys, 3.2 s"


def test_a_message_begins_with_the_headline_and_says_where_the_report_is_and_what_to_do() -> None:
    facts = reports.sample() | {"headline": "failed: the database is out of reach", "next_steps": ["Check the subnets.", "Start again."]}
    text = message("grafana-prod", facts, "s3://bucket/report.json", "s3://bucket/report.html")
    assert text.splitlines()[0] == "failed: the database is out of reach"
    assert "Report: s3://bucket/report.html" in text
    assert "mode re-encrypt, of grafana-prod" in text
    assert text.endswith("What to do:\n  - Check the subnets.\n  - Start again.")


def test_a_message_about_a_run_that_knows_nothing_is_still_one() -> None:
    text = message("grafana-prod", reports.minimal() | {"headline": "failed: no"}, "none", "none")
    assert text.endswith("What to do:\n  - Nothing.")
