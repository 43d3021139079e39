"""`grafana-reencrypt start / watch / report / runs` on the deployed stack: no terminal, a real state machine, a signal to a process that watches."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from cli.__main__ import app
from cli.deployment import STACK
from cli.exit_codes import ExitCode
from tests.e2e.conftest import Sample

ROOT = Path(__file__).resolve().parents[2]
READY = {"mode": "re-encrypt", "providerReady": True}


class Operator:
    """Somebody at a shell with credentials for the local AWS."""

    def __init__(self, sample: Sample) -> None:
        self._environment = sample.deployed.aws.environment

    def run(self, verb: str, *arguments: str) -> tuple[int, str, str]:
        """Exit code, standard output, standard error; in this process, which saves a second for each command."""
        foreign: dict[str, str | None] = {name: None for name in os.environ if name.startswith("AWS_")}
        done = CliRunner().invoke(app, [verb, "--stack", STACK, *arguments], env={**foreign, **self._environment})
        assert "Traceback" not in done.output
        assert not set(done.output) & {"\x1b", "\r"}, "no control characters where there is no terminal"
        return done.exit_code, done.stdout, done.stderr

    def process(self, verb: str, *arguments: str) -> subprocess.Popen[str]:
        """The same as a process of its own, to send signals to."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        environment = kept | self._environment | {"PYTHONPATH": f"{ROOT}:{ROOT / 'lambda'}"}
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "cli", verb, "--stack", STACK, *arguments],
            cwd=ROOT, env=environment, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip


def test_an_operator_plans_re_encrypts_reads_the_report_and_lists_the_runs(sample: Sample, tmp_path: Path) -> None:
    operator, values = Operator(sample), len(sample.secrets)
    code, output, errors = operator.run("start", "--input", "{}", "--name", "first-plan", "--watch", "--json")
    assert code == ExitCode.ENDED_WELL, errors
    plan = json.loads(output)
    assert (plan["run"], plan["outcome"], plan["totals"]["re_encrypted"]) == ("first-plan", "succeeded", values)
    assert plan["estimate"]["cost_usd"] > 0
    assert f"USD {max(plan['estimate']['cost_usd'], 0.001):.3f}" in errors, "the estimate of the report, for people too"
    assert plan["next_input"]["mode"] == "re-encrypt"

    code, output, _ = operator.run("start", "--input", json.dumps(READY), "--name", "the-move")
    assert (code, "started the-move (re-encrypt)" in output) == (ExitCode.ENDED_WELL, True)
    code, output, errors = operator.run("watch", "the-move")
    assert code == ExitCode.ENDED_WELL, output + errors
    for words in ("Process chunks", "Settle", "waiting for Grafana's data key caches until", "Sweep chunks", "Verify chunks"):
        assert words in output
    # How often it has looked meanwhile depends on the machine; at least once it has seen what the workers had done.
    assert re.search(r"\d/\d+ chunks · .*[1-9]\d* values so far: ", output)
    assert f"succeeded: {values:,} values: {values:,} re-encrypted" in output
    assert "USD" in output.split("report s3://")[0].rsplit("\n", 1)[-1], "what it cost stands beside where the report is"

    code, output, errors = operator.run("report", "the-move", "--output", str(tmp_path / "out"), "--json")
    assert code == ExitCode.ENDED_WELL, errors
    report = json.loads(output)
    assert (report["run"], report["totals"]["re_encrypted"]) == ("the-move", values)
    assert (tmp_path / "out/report.json").read_text() == output
    assert "<h1" in (tmp_path / "out/report.html").read_text()

    code, output, errors = operator.run("runs", "--json", "--limit", "2")
    assert code == ExitCode.ENDED_WELL, errors
    assert [(run["run"], run["mode"], run["outcome"], run["values"], run["unreadable"]) for run in json.loads(output)] == [
        ("the-move", "re-encrypt", "succeeded", report["totals"]["values"], 0),
        ("first-plan", "plan", "succeeded", report["totals"]["values"], 0),
    ]
    assert "the-move" in operator.run("runs")[1]


def test_a_second_start_while_a_run_goes_on_is_refused_by_the_lease_and_ctrl_c_leaves_the_first_one_going(sample: Sample) -> None:
    operator = Operator(sample)
    # 5 000 s are 10 s here.
    code, output, errors = operator.run("start", "--input", json.dumps({**READY, "settleSeconds": 5000}), "--json")
    assert code == ExitCode.ENDED_WELL, errors
    first: dict[str, Any] = json.loads(output)
    sample.wait_for_state(first["execution"], "Settle")
    [item] = sample.deployed.client("dynamodb").scan(TableName=sample.deployed.outputs["LeaseTableName"])["Items"]
    assert int(item["expires"]["N"]) > time.time() + 5000, "the lease outlasts the wait, though no worker renews it"
    watching = operator.process("watch", first["run"])
    assert watching.stdout is not None
    assert any("Settle" in line for line in iter(watching.stdout.readline, ""))
    watching.send_signal(signal.SIGINT)
    _, said = watching.communicate(timeout=60)
    assert watching.returncode == ExitCode.INTERRUPTED
    assert f"watch --stack {STACK} {first['run']}" in said.replace("\n", " ")

    code, output, errors = operator.run("report", first["run"])
    assert (code, "still going" in errors) == (ExitCode.STILL_GOING, True)
    code, output, errors = operator.run("start", "--input", json.dumps(READY), "--name", "the-second", "--watch")
    assert code == ExitCode.RUN_FAILED, output + errors
    assert f"another run is going on: {first['execution']}" in output.replace("\n", " ")
    assert operator.run("watch", first["run"])[0] == ExitCode.ENDED_WELL


def test_each_way_in_which_nothing_good_happens_has_its_exit_code(sample: Sample) -> None:
    operator = Operator(sample)
    code, _, errors = operator.run("start", "--input", '{"mode": "reencrypt"}')
    assert (code, "'restore' or 'prune-data-keys'" in errors) == (ExitCode.NOTHING_STARTED, True)
    code, _, errors = operator.run("watch", "never-was")
    assert (code, "has no run never-was" in errors) == (ExitCode.NOTHING_STARTED, True)
    code, output, _ = operator.run("start", "--input", '{"mode": "re-encrypt"}', "--name", "not-ready", "--watch")
    assert (code, "providerReady" in output) == (ExitCode.RUN_FAILED, True)
    code, _, errors = operator.run("start", "--input", "{}", "--name", "not-ready")
    assert (code, "has a run not-ready already" in errors) == (ExitCode.NOTHING_STARTED, True)
    code, _, errors = operator.run("runs", "--stack", "no-such-stack")
    assert (code, "there is no stack no-such-stack in us-east-1" in errors) == (ExitCode.AWS_PROBLEM, True)
