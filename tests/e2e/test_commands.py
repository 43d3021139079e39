"""The commands as the README gives them, run as a user runs them."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import re
import shlex
import sqlite3
import subprocess
from pathlib import Path
from typing import Any

import pytest

from cli.sample import DEFAULT_SECRET_KEY, make_sample
from reencrypt.operations.modes import Mode
from tests.e2e.conftest import Sample
from tests.support import decryptor

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH",)}
    return subprocess.run(command, cwd=folder, env=environment, text=True, capture_output=True, stdin=subprocess.DEVNULL, check=False)


def rehearsals(*pages: Path) -> list[list[str]]:
    """The `rehearse` commands of `pages`."""
    text = "\n".join(page.read_text() for page in pages).replace("\\\n", " ")
    return [shlex.split(line.strip()) for line in re.findall(r"^\./grafana-reencrypt rehearse .*$", text, re.MULTILINE)]


@pytest.mark.xdist_group("commands")
def test_the_demo_shows_all_three_runs() -> None:
    done = run([str(ROOT / "demo"), "--rows", "4"], ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("succeeded: ") >= 3
    report = Path(re.findall(r"open in a browser: (\S+report\.html)", done.stdout.replace("\n", " "))[0])
    assert json.loads(report.with_suffix(".json").read_text())["totals"]["re_encrypted"] > 10
    assert "<h1" in report.read_text()


@pytest.mark.xdist_group("commands")
def test_the_rehearsals_of_the_readme_run_as_written_and_leave_the_original_alone(tmp_path: Path) -> None:
    make_sample(tmp_path / "grafana.db", rows=4)
    before = (tmp_path / "grafana.db").read_bytes()
    (tmp_path / "grafana.ini").write_text(
        f"[security]\nsecret_key = {DEFAULT_SECRET_KEY}\nencryption_provider = awskms.prod\n"
        "[security.encryption.awskms.prod]\nkey_id = 1234abcd-12ab-34cd-56ef-1234567890ab\nregion = eu-north-1\n[database]\npath = grafana.db\n"
    )
    commands = rehearsals(ROOT / "README.md")
    assert len(commands) == 2
    for command in commands:
        done = run([str(ROOT / "grafana-reencrypt"), *command[1:]], tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "grafana.db").read_bytes() == before
    report = json.loads((tmp_path / "rehearsal-2" / "3-verify" / "report.json").read_text())
    assert (report["outcome"], report["provider"], report["totals"]["re_encrypted"]) == ("succeeded", "awskms.prod", 0)


def test_the_rehearsals_of_the_docs_do_what_their_pages_say(sample: Sample) -> None:
    """On the shared deployment: a rehearsal's own is deployed like it, and the commands of the README are run as processes."""
    rotate, undo = rehearsals(*PAGES[1:])
    for command in (undo, rotate):
        assert command[:2] == ["./grafana-reencrypt", "rehearse"]
        assert set(command[2::2]) == {"--grafana-ini", "--output", "--input"}
    names: dict[str, str] = {}
    reports: dict[str, dict[str, Any]] = {}
    for command in (undo, rotate):
        inputs = [text for option, text in zip(command[2::2], command[3::2], strict=True) if option == "--input"]
        for number, text in enumerate(inputs, 1):
            request = json.loads(text)
            name = f"{number}-{request['mode']}"  # as a rehearsal calls it
            if "run" in request:
                request["run"] = names[request["run"]]
            result = sample.deployed.run(request)
            assert result.ended_well, result.headline
            names[name], reports[name] = result.run, dict(result.report or {})
            if name == "2-rotate":
                certificate = json.loads(result.files["certificate.json"])
                assert certificate["report_sha256"] == hashlib.sha256(result.files["report.json"].encode()).hexdigest()
    assert reports["2-restore"]["totals"]["re_encrypted"] > 10
    assert len(reports["3-prune-data-keys"]["removed"]["removed"]) > 1


EVERY_MODE: list[dict[str, Any]] = [
    {"mode": "rotate-secret-key", "settleSeconds": 0},
    {"mode": "plan"},
    {"mode": "re-encrypt", "providerReady": True},
    {"mode": "verify"},
    {"mode": "rotate", "providerReady": True},
    {"mode": "rewrap-data-keys", "provider": "awskms.new", "providerReady": True},
    {"mode": "prune-data-keys"},
    {"mode": "restore", "run": "7-prune-data-keys"},
    {"mode": "rollback"},
]


@pytest.mark.xdist_group("commands")
def test_a_rehearsal_runs_every_mode_over_a_column_that_is_declared_and_between_two_kms_keys(tmp_path: Path) -> None:
    secrets = make_sample(tmp_path / "grafana.db", rows=4)
    with contextlib.closing(sqlite3.connect(tmp_path / "grafana.db")) as db, db:
        db.execute("CREATE TABLE plugin_account (id INTEGER PRIMARY KEY, kind TEXT, token TEXT)")
        db.execute("INSERT INTO plugin_account (kind, token) SELECT 'oauth', o_auth_access_token FROM user_auth")
    (tmp_path / "columns.toml").write_text(
        '[[secret_column]]\ntable = "plugin_account"\nprimary_key = ["id"]\ncolumn = "token"\nshape = "base64"\nbase64 = "std"\nplaintext = "text"\n'
        'where = {kind = "oauth"}\n'
    )
    (tmp_path / "grafana.ini").write_text(
        f"[security]\nsecret_key = the new one\nold_secret_key = {DEFAULT_SECRET_KEY}\nencryption_provider = awskms.old\n"
        "[security.encryption.awskms.old]\nkey_id = 1234abcd-12ab-34cd-56ef-1234567890ab\nregion = eu-north-1\n"
        "[security.encryption.awskms.new]\nkey_id = alias/new\nregion = eu-north-1\n[database]\npath = grafana.db\n"
    )
    assert {request["mode"] for request in EVERY_MODE} == set(Mode)
    inputs = [text for request in EVERY_MODE for text in ("--input", json.dumps(request))]
    command = [str(ROOT / "grafana-reencrypt"), "rehearse", "--grafana-ini", "grafana.ini", "--output", "out", "--secret-columns", "columns.toml", *inputs]
    done = run(command, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    reports = [json.loads((tmp_path / f"out/{number}-{request['mode']}/report.json").read_text()) for number, request in enumerate(EVERY_MODE, 1)]
    assert [report["outcome"] for report in reports] == ["succeeded"] * len(EVERY_MODE)
    logins = sum((secret.table, secret.column) == ("user_auth", "o_auth_access_token") for secret in secrets)
    for report in reports:
        if report["mode"] not in ("prune-data-keys", "restore"):
            (declared,) = [column for column in report["columns"] if column["table"] == "plugin_account"]
            assert (declared["present"], declared["rows"], declared["values"]) == (True, logins, logins)
        assert report["unknown_ciphertext"] == []
    rewrapped = reports[5]["rewrapped"]["rewrapped"]
    assert rewrapped["kms:ReEncrypt"] == 2
    assert "safe to disable: yes" in done.stdout
    with contextlib.closing(sqlite3.connect(tmp_path / "out/grafana.db")) as db:
        assert db.execute("SELECT COUNT(*) FROM data_keys").fetchone() == (0,)
        stored = [base64.b64decode(token) for (token,) in db.execute("SELECT token FROM plugin_account ORDER BY id")]
    expected = [secret.plaintext for secret in secrets if (secret.table, secret.column) == ("user_auth", "o_auth_access_token")]
    assert [decryptor.decrypt(payload, b"the new one", lambda key_id: pytest.fail(f"still under {key_id}")).plaintext for payload in stored] == expected


def test_the_benchmark_prints_a_json_object_for_each_case() -> None:
    done = run([str(ROOT / ".venv/bin/python"), "-m", "bench.reencrypt", "--json", "--values", "60", "--engine", "sqlite"], ROOT)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["engine"] for line in lines] == ["sqlite", "sqlite"]
    assert "again" in lines[1]["case"]
    assert all(line[name] > 0 for line in lines for name in ("values_per_second", "derivations_per_second", "ratio"))


def test_help_and_wrong_use_are_answered_without_a_traceback(tmp_path: Path) -> None:
    shown = run([str(ROOT / "grafana-reencrypt"), "rehearse", "--help"], tmp_path)
    assert shown.returncode == 0
    assert "--grafana-ini" in shown.stdout
    (tmp_path / "grafana.ini").write_text("[database]\npath = none.db\n")
    for arguments in (["--input", "{"], ["--input", "{}"]):
        done = run([str(ROOT / "grafana-reencrypt"), "rehearse", "--grafana-ini", "grafana.ini", "--output", "out", *arguments], tmp_path)
        assert done.returncode == 2
        assert "Traceback" not in done.stdout + done.stderr
