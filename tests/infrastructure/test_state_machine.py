"""The state machine's definition: valid for AWS, every transition of the table, every Task with its Retry and Catch."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reencrypt import errors
from tests.infrastructure.conftest import ROOT, Synthesized

FAIL = "Report failure"
# state → (where it goes, where its errors go)
TRANSITIONS: dict[str, tuple[set[str], set[str]]] = {
    "Name the run": ({"Preflight"}, set()),
    "Preflight": ({"Plan chunks"}, {FAIL}),
    "Plan chunks": ({"Any chunk?"}, {FAIL}),
    "Any chunk?": ({"Report", "Does this run write?"}, set()),
    "Does this run write?": ({"Acquire lease", "Process chunks"}, set()),
    "Acquire lease": ({"Does it need a data key?"}, {FAIL}),
    "Does it need a data key?": ({"Choose data key", "Process chunks"}, set()),
    "Choose data key": ({"Process chunks"}, {FAIL}),
    "Process chunks": ({"Anything written?"}, {FAIL}),
    "Work on the chunk": ({"Is the chunk done?"}, {"Narrow the chunk"}),  # its failure is the child's; the outcomes are judged
    "Narrow the chunk": ({"Is the chunk done?"}, set()),
    "Is the chunk done?": ({"Chunk processed", "Work on the chunk"}, set()),
    "Chunk processed": (set(), set()),
    "Anything written?": ({"Judge the pass", "Report"}, set()),
    "Judge the pass": ({"What follows the pass?"}, {FAIL}),
    "What follows the pass?": ({"Settle", "Sweep chunks", "Verify chunks"}, set()),
    "Settle": ({"Sweep chunks"}, set()),
    "Sweep chunks": ({"Judge the pass"}, {FAIL}),
    "Work on the swept chunk": ({"Is the swept chunk done?"}, {"Narrow the swept chunk"}),  # its failure is the child's; the outcomes are judged
    "Narrow the swept chunk": ({"Is the swept chunk done?"}, set()),
    "Is the swept chunk done?": ({"Chunk swept", "Work on the swept chunk"}, set()),
    "Chunk swept": (set(), set()),
    "Verify chunks": ({"Report"}, {FAIL}),
    "Work on the verified chunk": ({"Is the verified chunk done?"}, {"Narrow the verified chunk"}),  # its failure is the child's; the outcomes are judged
    "Narrow the verified chunk": ({"Is the verified chunk done?"}, set()),
    "Is the verified chunk done?": ({"Chunk verified", "Work on the verified chunk"}, set()),
    "Chunk verified": (set(), set()),
    "Report": ({"Is a lease held?"}, {FAIL}),
    "Is a lease held?": ({"Release lease", "How did the run end?"}, set()),
    "Report failure": ({"Release lease"}, {"Failure without a report"}),
    "Failure without a report": ({"Release lease"}, set()),
    "Release lease": ({"How did the run end?"}, {"How did the run end?"}),
    "How did the run end?": ({"Run succeeded", "Notify"}, set()),
    "Notify": ({"Run failed"}, {"Run failed"}),
    "Run succeeded": (set(), set()),
    "Run failed": ({"Go on after a redrive"}, set()),  # its error is the execution's; a redrive comes past it
    "Go on after a redrive": ({"Preflight"}, set()),
}
DIED = ["Sandbox.Timedout", "Runtime.ExitError", "Lambda.Unknown", "States.Timeout"]
CURED_BY_WAITING = {"DatabaseUnavailable", "DatabaseBusy", "ProviderThrottled"}


@pytest.fixture
def definition(minimal: Synthesized) -> dict[str, Any]:
    return minimal.definition()


def _states(definition: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, state in definition["States"].items():
        yield name, state
        if "ItemProcessor" in state:
            yield from _states(state["ItemProcessor"])


def _ours(root: type[BaseException] = errors.ReencryptError) -> Iterator[str]:
    yield root.__name__
    for leaf in root.__subclasses__():
        yield from _ours(leaf)


def test_the_definition_is_valid_amazon_states_language(stack: Synthesized, tmp_path: Path) -> None:
    file = tmp_path / "definition.json"
    file.write_text(json.dumps(stack.definition()))
    validator = ROOT / "node_modules" / "asl-validator" / "dist" / "bin" / "asl-validator.js"
    assert validator.exists(), "asl-validator is missing: run npm ci"
    done = subprocess.run(["node", validator, "--json-path", file], capture_output=True, text=True, check=False)  # noqa: S607 - node is on PATH
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_states_and_their_transitions_are_those_of_the_table(definition: dict[str, Any]) -> None:
    found = {
        name: (
            {state.get("Next"), state.get("Default"), *(choice["Next"] for choice in state.get("Choices", []))} - {None},
            {catch["Next"] for catch in state.get("Catch", [])},
        )
        for name, state in _states(definition)
    }
    assert found == TRANSITIONS


def test_every_state_is_reachable_and_a_run_ends_only_green_or_red(definition: dict[str, Any]) -> None:
    reached, waiting = set(), ["Name the run"]
    while waiting:
        if (name := waiting.pop()) not in reached:
            reached.add(name)
            waiting += [*TRANSITIONS[name][0], *TRANSITIONS[name][1]]
    assert reached == set(definition["States"])
    assert {name for name in reached if not TRANSITIONS[name][0]} == {"Run succeeded"}
    assert "EndFailedFunction" in definition["States"]["Run failed"]["Resource"], "the red end is a task that fails, so that a redrive gets past it"


def test_every_task_is_retried_for_what_waiting_cures_and_has_a_time_limit(definition: dict[str, Any]) -> None:
    for name, state in _states(definition):
        if state["Type"] == "Task" and name != "Notify":
            retried = {error for retry in state["Retry"] for error in retry["ErrorEquals"]}
            assert retried >= CURED_BY_WAITING | {"Lambda.TooManyRequestsException", "Lambda.ServiceException", "Sandbox.Timedout"}
            assert state["TimeoutSeconds"] <= 930
    for name, state in _states(definition):
        for retry in state.get("Retry", []):
            assert retry["JitterStrategy"] == "FULL", name
            assert retry["BackoffRate"] > 1, name
            assert retry["MaxDelaySeconds"] <= 60, name


def test_no_error_that_stays_the_same_is_ever_retried(definition: dict[str, Any]) -> None:
    retried = {error for _, state in _states(definition) for retry in state.get("Retry", []) for error in retry["ErrorEquals"]}
    assert retried & set(_ours()) == CURED_BY_WAITING
    assert not retried & {"States.ALL", "States.TaskFailed", "Exception"}


def test_every_catch_takes_every_error_and_keeps_the_state(definition: dict[str, Any]) -> None:
    for name, state in _states(definition):
        for catch in state.get("Catch", []):
            # A child catches nothing but the death of its worker: any other error is the child's end, and its chunk stays without an outcome.
            assert catch["ErrorEquals"] == (DIED if name.startswith("Work on the ") else ["States.ALL"]), name
            assert catch["ResultPath"].startswith("$."), name


@pytest.mark.parametrize(("name", "phase"), [("Process chunks", "process"), ("Sweep chunks", "sweep"), ("Verify chunks", "verify")])
def test_a_map_reads_the_manifest_is_bounded_by_the_plan_and_outlives_a_failed_chunk(definition: dict[str, Any], name: str, phase: str) -> None:
    state = definition["States"][name]
    assert state["ItemProcessor"]["ProcessorConfig"] == {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"}
    assert state["ItemReader"]["ReaderConfig"] == {"InputType": "JSONL"}
    assert state["ItemReader"]["Parameters"]["Key.$"] == "$.plan.manifest"
    assert state["MaxConcurrencyPath"] == "$.plan.max_concurrency"
    assert state["ToleratedFailurePercentage"] == 100
    assert state["Label"] == f"{phase.title()}Chunks"
    assert state["ResultWriter"]["Parameters"]["Prefix.$"] == f"States.Format('runs/{{}}/children/{phase}', $.run)"
    assert state["ItemSelector"]["progress"] == {"position.$": "States.StringToJson('null')", "limit.$": "States.StringToJson('null')"}
    # The number of a sweep is the state machine's: its outcomes must not be taken for those of the sweep before.
    assert {key: value for key, value in state["ItemSelector"].items() if key.startswith("phase")} == (
        {"phase.$": "$.pass.phase"} if phase == "sweep" else {"phase": phase}
    )
    workers = [child for child in state["ItemProcessor"]["States"].values() if child["Type"] == "Task"]
    assert ["ProcessChunkFunction" in worker["Resource"] for worker in workers] == [True, False]
    assert ["NarrowChunkFunction" in worker["Resource"] for worker in workers] == [False, True]
    for worker in workers:
        assert worker["Parameters"] == {
            "run.$": "$.run", "input.$": "$.input", "execution.$": "$.execution", "phase.$": "$.phase", "chunk.$": "$.chunk",
            "position.$": "$.progress.position", "limit.$": "$.progress.limit"}  # fmt: skip
        assert worker["ResultPath"] == "$.progress"


def test_settling_is_a_wait_of_the_state_machine_and_no_function_sleeps(definition: dict[str, Any]) -> None:
    assert {key: value for key, value in definition["States"]["Settle"].items() if key != "Next"} == {"Type": "Wait", "SecondsPath": "$.pass.seconds"}


def test_a_redriven_run_begins_anew_under_a_name_of_its_own(definition: dict[str, Any]) -> None:
    assert definition["States"]["Run failed"]["ResultPath"] == "$.attempt"
    parameters = definition["States"]["Go on after a redrive"]["Parameters"]
    assert parameters["run.$"] == "States.Format('{}-redrive-{}', $$.Execution.Name, $.attempt.redrives)"
    assert parameters["pass"] == {"number": 0}
    assert set(parameters) >= set(definition["States"]["Name the run"]["Parameters"]) - {"attempt"}


def test_each_function_gets_the_payload_of_its_contract(definition: dict[str, Any]) -> None:
    run, execution = {"run.$": "$.run", "input.$": "$.input"}, {"execution.$": "$.execution"}
    payloads = {name: state["Parameters"] for name, state in definition["States"].items() if state["Type"] == "Task" and name != "Notify"}
    assert payloads == {
        "Preflight": run,
        "Plan chunks": run,
        "Acquire lease": {"run.$": "$.run", **execution},
        "Choose data key": run,
        "Report": {**run, **execution, "started.$": "$.started"},
        "Report failure": {**run, **execution, "started.$": "$.started", "error.$": "$.error"},
        "Release lease": {"run.$": "$.run", **execution},
        "Judge the pass": {**run, **execution, "number.$": "$.pass.number"},
        "Run failed": {
            "run.$": "$.run", "headline.$": "$.report.headline", "redrives.$": "$$.Execution.RedriveCount", "failed_in.$": "$.attempt.redrives"},
    }  # fmt: skip
    assert definition["States"]["Name the run"]["Parameters"] == {
        "run.$": "$$.Execution.Name", "execution.$": "$$.Execution.Id", "started.$": "$$.Execution.StartTime", "input.$": "$$.Execution.Input",
        "pass": {"number": 0}, "attempt": {"redrives": 0}}  # fmt: skip


def test_a_run_that_found_nothing_is_not_a_success(definition: dict[str, Any]) -> None:
    ended = definition["States"]["How did the run end?"]
    good = {condition["StringEquals"] for condition in ended["Choices"][0]["Or"]}
    assert good == {"succeeded", "succeeded-with-unreadable"}
    assert ended["Default"] == "Notify"


def test_the_whole_run_has_a_time_limit(definition: dict[str, Any]) -> None:
    assert definition["TimeoutSeconds"] == 48 * 3600
