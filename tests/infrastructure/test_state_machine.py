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
    "Acquire lease": ({"Choose data key"}, {FAIL}),
    "Choose data key": ({"Process chunks"}, {FAIL}),
    "Process chunks": ({"Anything written to verify?"}, {FAIL}),
    "Process chunk": ({"Is the chunk done?"}, set()),  # its failure is the child's; Report judges by the outcomes
    "Is the chunk done?": ({"Chunk done", "Process chunk"}, set()),
    "Chunk done": (set(), set()),
    "Anything written to verify?": ({"Verify chunks", "Report"}, set()),
    "Verify chunks": ({"Report"}, {FAIL}),
    "Verify chunk": ({"Is the chunk verified?"}, set()),
    "Is the chunk verified?": ({"Chunk verified", "Verify chunk"}, set()),
    "Chunk verified": (set(), set()),
    "Report": ({"Is a lease held?"}, {FAIL}),
    "Is a lease held?": ({"Release lease", "How did the run end?"}, set()),
    "Report failure": ({"Release lease"}, {"Failure without a report"}),
    "Failure without a report": ({"Release lease"}, set()),
    "Release lease": ({"How did the run end?"}, {"How did the run end?"}),
    "How did the run end?": ({"Run succeeded", "Notify"}, set()),
    "Notify": ({"Run failed"}, {"Run failed"}),
    "Run succeeded": (set(), set()),
    "Run failed": (set(), set()),
}
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
    assert {name for name in reached if not TRANSITIONS[name][0]} == {"Run succeeded", "Run failed"}


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
            assert catch["ErrorEquals"] == ["States.ALL"], name
            assert catch["ResultPath"].startswith("$."), name


@pytest.mark.parametrize(("name", "phase", "label"), [("Process chunks", "process", "ProcessChunks"), ("Verify chunks", "verify", "VerifyChunks")])
def test_a_map_reads_the_manifest_is_bounded_by_the_plan_and_outlives_a_failed_chunk(
    definition: dict[str, Any], name: str, phase: str, label: str
) -> None:
    state = definition["States"][name]
    assert state["ItemProcessor"]["ProcessorConfig"] == {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"}
    assert state["ItemReader"]["ReaderConfig"] == {"InputType": "JSONL"}
    assert state["ItemReader"]["Parameters"]["Key.$"] == "$.plan.manifest"
    assert state["MaxConcurrencyPath"] == "$.plan.max_concurrency"
    assert state["ToleratedFailurePercentage"] == 100
    assert state["Label"] == label
    assert state["ResultWriter"]["Parameters"]["Prefix.$"] == f"States.Format('runs/{{}}/children/{phase}', $.run)"
    assert state["ItemSelector"]["progress"] == {"position.$": "States.StringToJson('null')"}
    worker = state["ItemProcessor"]["States"][state["ItemProcessor"]["StartAt"]]
    assert worker["Parameters"] == {
        "run.$": "$.run", "input.$": "$.input", "execution.$": "$.execution", "phase": phase, "chunk.$": "$.chunk",
        "position.$": "$.progress.position"}  # fmt: skip


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
    }
    assert definition["States"]["Name the run"]["Parameters"] == {
        "run.$": "$$.Execution.Name", "execution.$": "$$.Execution.Id", "started.$": "$$.Execution.StartTime", "input.$": "$$.Execution.Input"}  # fmt: skip


def test_a_run_that_found_nothing_is_not_a_success(definition: dict[str, Any]) -> None:
    ended = definition["States"]["How did the run end?"]
    good = {condition["StringEquals"] for condition in ended["Choices"][0]["Or"]}
    assert good == {"succeeded", "succeeded-with-unreadable"}
    assert ended["Default"] == "Notify"
    assert definition["States"]["Run failed"] == {"Type": "Fail", "Error": "RunFailed", "CausePath": "$.report.headline"}


def test_the_whole_run_has_a_time_limit(definition: dict[str, Any]) -> None:
    assert definition["TimeoutSeconds"] == 24 * 3600
