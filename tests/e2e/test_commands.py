"""The commands as the README gives them, run as a user runs them."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from cli.sample import DEFAULT_SECRET_KEY, make_sample

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH",)}
    return subprocess.run(command, cwd=folder, env=environment, text=True, capture_output=True, stdin=subprocess.DEVNULL, check=False)


def rehearsals() -> list[list[str]]:
    """The `rehearse` commands of the README and the docs."""
    text = "\n".join(page.read_text() for page in PAGES).replace("\\\n", " ")
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
def test_the_rehearsals_of_the_readme_and_the_docs_run_as_written_and_leave_the_original_alone(tmp_path: Path) -> None:
    make_sample(tmp_path / "grafana.db", rows=4)
    before = (tmp_path / "grafana.db").read_bytes()
    (tmp_path / "grafana.ini").write_text(
        f"[security]\nsecret_key = {DEFAULT_SECRET_KEY}\nencryption_provider = awskms.prod\n"
        "[security.encryption.awskms.prod]\nkey_id = 1234abcd-12ab-34cd-56ef-1234567890ab\nregion = eu-north-1\n[database]\npath = grafana.db\n"
    )
    commands = rehearsals()
    assert len(commands) == 3
    for command in commands:
        done = run([str(ROOT / "grafana-reencrypt"), *command[1:]], tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "grafana.db").read_bytes() == before
    report = json.loads((tmp_path / "rehearsal-2" / "3-verify" / "report.json").read_text())
    assert (report["outcome"], report["provider"], report["totals"]["re_encrypted"]) == ("succeeded", "awskms.prod", 0)
    undone = json.loads((tmp_path / "rehearsal-3" / "2-restore" / "report.json").read_text())
    assert (undone["outcome"], undone["restored_run"]) == ("succeeded", "1-re-encrypt")
    assert undone["totals"]["re_encrypted"] > 10


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
