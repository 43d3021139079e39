"""What the command refuses before anything starts, what its exit code says, and what it shows."""

from __future__ import annotations

import io
import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from cli.__main__ import app
from cli.deployment import RunResult, mode_of
from cli.rehearse import ExitCode, Refused, exit_code, foreign_keys, parse_inputs, prepare_output, read_secret_columns, write_report
from cli.screen import Screen, key_lines
from infra.toml_text import lines

COUNTS = ("values", "re_encrypted", "already_current", "empty", "changed_by_grafana", "plaintext", "unreadable")


def _result(status: str = "SUCCEEDED", outcome: str | None = "succeeded", **report: Any) -> RunResult:
    counts = dict.fromkeys(COUNTS, 0) | {"values": 1234, "re_encrypted": 1233, "unreadable": 1}
    facts = {
        "outcome": outcome,
        "headline": "1,234 values",
        "columns": [{"table": "secrets", "column": "value", "present": True, "rows": 9, **counts}],
        "totals": {"rows": 9, **counts},
        "unreadable": [],
        "error": None,
    }
    files = {"report.json": json.dumps(facts | report), "report.html": "<html>", "certificate.json": "{}"}
    return RunResult("run-1", "re-encrypt", status, "", "", 1.5, None if outcome is None else facts | report, {} if outcome is None else files)


def _refused(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["rehearse", *arguments])
    assert result.exit_code == ExitCode.NOTHING_STARTED, result.output
    return result.output


def _arguments(folder: Path, ini: str, *inputs: str) -> list[str]:
    (folder / "grafana.ini").write_text(ini)
    return ["--grafana-ini", f"{folder}/grafana.ini", "--output", f"{folder}/out", *(text for given in inputs for text in ("--input", given))]


def test_an_input_that_is_not_json_is_refused_before_anything_starts(tmp_path: Path) -> None:
    output = _refused(*_arguments(tmp_path, "", '{"mode": "plan"}', "{mode: plan}"))
    assert "--input number 2 is not JSON" in output
    assert not (tmp_path / "out").exists()


def test_an_ini_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert "there is no file" in _refused("--grafana-ini", f"{tmp_path}/none.ini", "--input", "{}", "--output", f"{tmp_path}/out")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "columns.toml cannot be read"),
        ("[[secret_column", "are not TOML"),
        ('[[secret_column]]\ntable = "setting"', "number 1 primary_key: is missing"),
        (
            '[[secret_column]]\ntable = "secrets"\nprimary_key = ["id"]\ncolumn = "value"\nshape = "base64"\nbase64 = "std"\nplaintext = "text"',
            "in the list already",
        ),
    ],
)
def test_secret_columns_that_cannot_be_declared_are_refused_before_anything_starts(tmp_path: Path, text: str | None, words: str) -> None:
    if text is not None:
        (tmp_path / "columns.toml").write_text(text)
    assert words in _refused(*_arguments(tmp_path, "", "{}"), "--secret-columns", f"{tmp_path}/columns.toml")
    assert not (tmp_path / "out").exists()


def test_secret_columns_are_the_deployments_setting(tmp_path: Path) -> None:
    (tmp_path / "columns.toml").write_text(
        '[[secret_column]]\ntable = "t"\nprimary_key = ["id"]\ncolumn = "c"\nshape = "raw"\nbase64 = "none"\nplaintext = "text"\n'
    )
    assert read_secret_columns(None) == {}
    (column,) = tomllib.loads(lines(read_secret_columns(tmp_path / "columns.toml")))["secret_column"]
    assert column == {"table": "t", "primary_key": ["id"], "column": "c", "shape": "raw", "base64": "none", "plaintext": "text"}


@pytest.mark.parametrize("engine", ["mysql", "postgres"])
def test_a_server_database_is_refused_without_in_place(tmp_path: Path, engine: str) -> None:
    output = _refused(*_arguments(tmp_path, f"[database]\ntype = {engine}\nhost = db.internal\nname = grafana\n", "{}"))
    assert engine in output
    assert "--in-place" in output


def test_a_sqlite_database_is_never_worked_on_in_place(tmp_path: Path) -> None:
    assert "--in-place is for MySQL and PostgreSQL" in _refused(*_arguments(tmp_path, "", "{}"), "--in-place")


def test_a_database_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert "no such SQLite file" in _refused(*_arguments(tmp_path, "[database]\npath = nowhere.db\n", "{}"))


def test_earlier_results_are_kept_unless_overwriting_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "1-plan").mkdir()
    (tmp_path / "notes.txt").touch()
    with pytest.raises(Refused, match="1-plan exists already"):
        prepare_output(tmp_path, [{}], overwrite=False)
    prepare_output(tmp_path, [{}], overwrite=True)
    prepare_output(tmp_path, [{"mode": "verify"}], overwrite=False)
    assert (tmp_path / "notes.txt").exists()


def test_the_original_in_the_output_folder_is_never_the_copy(tmp_path: Path) -> None:
    from cli.sample import make_sample

    (tmp_path / "out").mkdir()
    make_sample(tmp_path / "out/grafana.db", rows=1)
    before = (tmp_path / "out/grafana.db").read_bytes()
    arguments = _arguments(tmp_path, "[database]\npath = out/grafana.db\n", "{}")
    _refused(*arguments)
    assert "holds the original" in _refused(*arguments, "--overwrite")
    assert (tmp_path / "out/grafana.db").read_bytes() == before


@pytest.mark.parametrize(
    ("results", "code"),
    [
        ([_result()], 0),
        ([_result(outcome="succeeded-with-unreadable")], 0),
        ([_result(), _result(status="FAILED", outcome="failed"), _result()], 1),
        ([_result(status="FAILED", outcome="nothing-found")], 1),
        ([_result(status="FAILED", outcome="succeeded")], 1),
        ([_result(outcome="failed")], 1),
        ([_result(status="FAILED", outcome=None)], 1),
        ([], 1),
    ],
)
def test_only_good_ends_make_the_exit_code_0(results: list[RunResult], code: int) -> None:
    assert exit_code(results) == code


@pytest.mark.parametrize(
    ("request_", "mode"), [({}, "plan"), ({"mode": "re-encrypt"}, "re-encrypt"), ({"mode": "../x"}, "invalid"), ({"mode": 5}, "invalid"), ([], "invalid")]
)
def test_a_mode_is_a_word_that_is_safe_in_file_names(request_: object, mode: str) -> None:
    assert mode_of(request_) == mode


def test_inputs_are_whatever_json_says() -> None:
    assert parse_inputs(["{}", "[1]", '"x"']) == [{}, [1], "x"]


def test_the_reports_are_written_and_old_ones_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "1-re-encrypt"
    assert write_report(_result(), folder) == folder / "report.html"
    assert json.loads((folder / "report.json").read_text())["outcome"] == "succeeded"
    assert (folder / "certificate.json").read_text() == "{}"
    write_report(_result(status="FAILED", outcome=None), folder)
    assert not (folder / "report.json").exists()
    assert not (folder / "certificate.json").exists()


def test_a_database_that_is_under_a_kms_key_of_aws_already_is_not_called_damaged() -> None:
    keys = [{"provider": "awskms.prod", "readable": False}, {"provider": "secretKey.v1", "readable": False}, {"provider": "awskms.new", "readable": True}]
    said = foreign_keys({"data_keys": keys})
    assert said is not None
    assert said.startswith("data keys of awskms.prod did not open: a KMS key of AWS wraps them")
    assert foreign_keys({"data_keys": keys[1:]}) is None
    assert foreign_keys(None) is None


def test_the_screen_leads_with_the_outcome_and_shows_bad_news_and_aligned_counts() -> None:
    out = io.StringIO()
    bad = {"table": "secrets", "column": "value", "primary_key": {"id": 5}, "path": ["a", 0], "reason": "unknown-data-key"}
    Screen(Console(file=out, width=120)).result(
        _result("FAILED", "failed", unreadable=[bad], error={"name": "WrongSecretKey", "message": "the sample decrypts to garbage"}), None
    )
    lines = out.getvalue().splitlines()
    assert lines[1].startswith("re-encrypt: failed: 1,234 values")
    assert "WrongSecretKey: the sample decrypts to garbage" in lines[2]
    assert "secrets.value id 5 at .a[0]: unknown-data-key" in lines[3]
    assert any(line.split() == ["in", "all", "1,234", "1,233", "1"] for line in lines)
    assert "already" not in out.getvalue()


def test_the_screen_says_what_became_of_the_keys_bad_news_first() -> None:
    report = {
        "mode": "prune-data-keys",
        "unknown_ciphertext": [{"table": "setting", "column": "value", "data_keys": {"k1": 1200}}],
        "rewrapped": {"rewrapped": {"kms:ReEncrypt": 1000}, "left": 2, "failed": [{"id": "k2", "why": "it does not open"}]},
        "removed": {"removed": [{}, {}], "kept": [{"why": "referenced"}, {"why": "referenced"}, {"why": "too-young"}]},
        "kms_keys": [
            {"kms_key": "arn:old", "safe_to_disable": True, "because": "nothing needs it"},
            {"kms_key": "arn:new", "safe_to_disable": False, "because": "x"},
        ],
    }  # fmt: skip
    assert [text for text, _ in key_lines(report)] == [
        "unknown ciphertext: setting.value (k1: 1,200)",
        "data key k2 was not wrapped anew: it does not open",
        "data keys wrapped anew: 1,000 by kms:ReEncrypt; as they should be already: 2",
        "data keys removed: 2; kept: 2 referenced, 1 too-young",
        "arn:old: safe to disable: yes, because nothing needs it",
        "arn:new: safe to disable: no, because x",
    ]
    assert list(key_lines({"mode": "plan", "kms_keys": report["kms_keys"], "unknown_ciphertext": [], "rewrapped": None, "removed": None})) == []


def test_what_failed_stands_first_in_the_summary(tmp_path: Path) -> None:
    out = io.StringIO()
    Screen(Console(file=out, width=120)).summary([_result(), _result("FAILED", None)], [tmp_path / "a", tmp_path / "b"])
    assert out.getvalue().split("\n")[1].startswith("failed: no report")
