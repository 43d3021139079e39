"""`watch` follows a run to its end, politely, and leaves it alone: what it shows, how often it asks, and what its exit code says."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from cli.exit_codes import ExitCode, of_run
from cli.progress import PHASES, Snapshot, interval
from infra.run_states import MAP_LABELS
from tests.unit.cli.conftest import Operator
from tests.unit.cli.fake_aws import AwsSays, World


def script_of_a_re_encryption(world: World, name: str = "the-move", arn: str | None = None) -> str:
    """A run with 4 chunks, a settle, a sweep and a verification, from its preflight on; `arn` is one that has begun."""
    arn = arn or world.begin(name, {"mode": "re-encrypt"})
    world.enter(arn, "Preflight")
    maps = {}

    def process() -> None:
        world.facts(name)
        world.enter(arn, "Plan chunks")
        maps["process"] = world.enter_map(arn, "Process chunks", "ProcessChunks", 4)

    def half() -> None:
        for chunk in range(2):
            world.outcome(name, "process", chunk, re_encrypted=90, unreadable=1)
        world.moved(maps["process"], 2)

    def settle() -> None:
        for chunk in range(2, 4):
            world.outcome(name, "process", chunk, re_encrypted=90, already_current=10)
        world.moved(maps["process"], 4)
        world.enter(arn, "Settle", "Wait")

    def sweep() -> None:
        world.enter_map(arn, "Sweep chunks", "SweepChunks", 4)

    def swept() -> None:
        world.outcome(name, "sweep-1", 0, already_current=100)
        world.moved(world.map_runs[-1], 4)
        world.enter_map(arn, "Verify chunks", "VerifyChunks", 4)

    def verified() -> None:
        world.moved(world.map_runs[-1], 4)
        world.enter(arn, "Report")

    world.then(process, half, settle, sweep, swept, verified, lambda: world.end(arn))
    return arn


def test_a_run_is_followed_from_state_to_state_to_its_end(world: World, operator: Operator) -> None:
    script_of_a_re_encryption(world)
    said = operator("watch", "the-move")
    assert (said.code, said.errors) == (0, "")
    lines = [line[10:] for line in said.output.splitlines() if line[2:3] == ":"]
    states = [line for line in lines if not line.startswith((" ", "run "))]
    assert states == ["Preflight", "Plan chunks", "Process chunks", "Settle", "Sweep chunks", "Verify chunks", "Report"]
    assert lines.count("run the-move  re-encrypt → awskms.prod  MySQL 8.0  400 rows in 4 chunks") == 1
    [half] = [line for line in lines if "2/4 chunks" in line]
    assert half.startswith("  Process chunks: 2/4 chunks · ")
    assert "182 values so far: re-encrypted 180, unreadable 2 · about USD 0.001 so far" in half
    assert "left in this pass" in half
    assert any("Sweep chunks 1: 4/4 chunks" in line for line in lines)
    assert any(line.startswith("  waiting for Grafana's data key caches until ") for line in lines)
    for words in ("succeeded: 400 values", "a note", "the next step", "about USD 0.002", "s3://run-bucket/runs/the-move/report.html"):
        assert words in said.output


def test_it_asks_politely(world: World, operator: Operator) -> None:
    script_of_a_re_encryption(world)
    operator("watch", "the-move")
    asked = Counter(world.names())
    rounds = len(world.pauses) + 1
    assert asked["DescribeExecution"] + asked["DescribeMapRun"] <= rounds + 1, "one describe call a round, and one before the first"
    assert asked["ListMapRuns"] == 3, "once for each map"
    assert min(world.pauses) >= 1
    outcomes = [params["Key"] for name, params in world.calls if name == "GetObject" and "/outcomes/" in params["Key"]]
    assert len(outcomes) == len(set(outcomes)) == 5, "each outcome is read once"
    lists = Counter(params["Prefix"] for name, params in world.calls if name == "ListObjectsV2")
    assert lists["runs/the-move/outcomes/process/"] < rounds - 2, "a pass that has ended is not looked at again"


def test_rounds_come_less_often_the_longer_a_run_takes_and_do_not_oversleep_the_end_of_a_wait() -> None:
    now = datetime(2026, 11, 24, tzinfo=UTC)
    working = Snapshot("r", "verify", now, "Verify chunks")
    assert [interval(watched, working, now) for watched in (0, 59, 60, 600, 3600, 1e6)] == [1, 1, 2, 5, 10, 10]
    waiting = Snapshot("r", "re-encrypt", now, "Settle", wait_ends=now + timedelta(seconds=900))
    assert interval(0, waiting, now) == 10
    assert interval(0, waiting, now + timedelta(seconds=850)) == 1


def test_throttled_calls_are_tried_again_with_a_longer_and_longer_wait(world: World, operator: Operator) -> None:
    script_of_a_re_encryption(world)
    world.fail["GetExecutionHistory"] = [AwsSays("ThrottlingException")] * 3
    world.fail["GetObject"] = [AwsSays("SlowDown", status=503)]
    assert operator("watch", "the-move").code == 0
    assert world.patience == [1, 2, 4, 1]


def test_a_lasting_failure_while_watching_says_that_the_run_goes_on(world: World, operator: Operator) -> None:
    script_of_a_re_encryption(world)
    world.fail["ListMapRuns"] = [AwsSays("ExpiredTokenException")]
    said = operator("watch", "the-move")
    assert said.code == 3
    assert "credentials have expired" in said.errors
    assert "The run goes on by itself; watch it again: ./grafana-reencrypt watch --stack grafana the-move" in said.errors
    assert world.executions.popitem()[1]["status"] == "RUNNING"


def test_ctrl_c_leaves_the_run_going_and_says_how_to_watch_it_again(world: World, operator: Operator) -> None:
    arn = world.begin("the-move", {"mode": "re-encrypt"})

    def interrupt() -> None:
        raise KeyboardInterrupt

    world.then(interrupt)
    said = operator("watch", "the-move")
    assert said.code == 130
    assert "interrupted; the run goes on. Watch it again: ./grafana-reencrypt watch --stack grafana the-move\n" in said.errors
    assert f"To stop it: https://eu-north-1.console.aws.amazon.com/states/home?region=eu-north-1#/v2/executions/details/{arn}" in said.errors
    assert world.executions[arn]["status"] == "RUNNING"
    assert {"StopExecution", "StartExecution"}.isdisjoint(world.names())


@pytest.mark.parametrize(
    ("status", "outcome", "code"),
    [
        ("SUCCEEDED", "succeeded", ExitCode.ENDED_WELL),
        ("SUCCEEDED", "succeeded-with-unreadable", ExitCode.WITH_UNREADABLE),
        ("FAILED", "failed", ExitCode.RUN_FAILED),
        ("FAILED", None, ExitCode.RUN_FAILED),
        ("FAILED", "nothing-found", ExitCode.NOTHING_FOUND),
        ("ABORTED", None, ExitCode.STOPPED),
        ("TIMED_OUT", None, ExitCode.STOPPED),
    ],
)
def test_the_exit_code_tells_the_outcome_of_a_run_that_goes_on_and_of_one_that_has_ended(
    world: World, operator: Operator, status: str, outcome: str | None, code: ExitCode
) -> None:
    arn = world.begin("the-move", {"mode": "re-encrypt"})
    world.then(lambda: world.end(arn, status, outcome=outcome))
    assert [operator("watch", "the-move").code for _ in range(2)] == [code, code]
    said = operator("watch", "the-move", "--json")
    facts = json.loads(said.output)
    assert (said.code, facts["exit_code"], facts["status"], facts["outcome"]) == (code, code, status, outcome)


@pytest.mark.parametrize(("status", "outcome"), [("SUCCEEDED", None), ("SUCCEEDED", "a-new-word"), ("FAILED", "succeeded")])
def test_success_is_claimed_only_where_execution_and_report_both_say_so(status: str, outcome: str | None) -> None:
    assert of_run(status, outcome) == ExitCode.RUN_FAILED


def test_without_a_name_the_newest_run_is_watched(world: World, operator: Operator) -> None:
    for name in ("first", "second", "third"):
        world.end(world.begin(name, {}))
    assert "runs/third/report.html" in operator("watch").output


def test_a_run_that_is_not_there_is_named(world: World, operator: Operator) -> None:
    said = operator("watch", "never-was")
    assert (said.code, said.errors) == (2, "error: the stack grafana has no run never-was; its runs: ./grafana-reencrypt runs --stack grafana\n")
    said = operator("watch")
    assert (said.code, "has no run yet; start one that only plans: ./grafana-reencrypt start --stack grafana --input '{}'" in said.errors) == (2, True)


def test_a_redriven_run_is_followed_under_the_name_under_which_it_began_anew(world: World, operator: Operator) -> None:
    arn = world.begin("the-move", {"mode": "re-encrypt"}, redrives=1)
    world.facts("the-move")
    world.moved(world.enter_map(arn, "Process chunks", "ProcessChunks", 9), 9)
    world.outcome("the-move", "process", 0, re_encrypted=7)
    world.event(arn, "ExecutionFailed")
    world.event(arn, "ExecutionRedriven", executionRedrivenEventDetails={"redriveCount": 1})

    def anew() -> None:
        world.enter(arn, "Go on after a redrive", "Pass")
        world.facts("the-move-redrive-1")
        world.enter_map(arn, "Process chunks", "ProcessChunks", 4)

    def done() -> None:
        world.outcome("the-move-redrive-1", "process", 0, already_current=5)
        world.moved(world.map_runs[-1], 4)

    world.then(anew, done, lambda: world.end(arn, stored="the-move-redrive-1"))
    said = operator("watch", "the-move")
    assert said.code == 0
    assert "Process chunks: 4/4 chunks" in said.output
    assert "5 values so far: current 5" in said.output
    assert "s3://run-bucket/runs/the-move-redrive-1/report.html" in said.output


def test_without_the_workers_memory_no_cost_is_invented(world: World, operator: Operator) -> None:
    del world.outputs["WorkerMegabytes"]
    script_of_a_re_encryption(world)
    said = operator("watch", "the-move")
    assert "values so far" in said.output
    assert not [line for line in said.output.splitlines() if "USD" in line and "so far" in line]


def test_the_passes_are_known_by_the_labels_of_the_state_machine() -> None:
    assert {label: phase for phase, label in MAP_LABELS.items()} == PHASES
