"""The state machine's definition: valid for AWS, every transition of the table, every Task with its Retry and Catch."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest

from reencrypt import errors
from reencrypt.operations.judge_pass import Next
from reencrypt.operations.judge_scan import After
from reencrypt.operations.modes import Mode
from tests.infrastructure.conftest import ROOT, Synthesized

FAIL = "Report failure"
# state → (where it goes, where its errors go)
TRANSITIONS: dict[str, tuple[set[str], set[str]]] = {
    "Name the run": ({"Preflight"}, set()),
    "Preflight": ({"Plan chunks"}, {FAIL}),
    "Plan chunks": ({"Announce the start"}, {FAIL}),
    "Announce the start": ({"Any chunk?"}, {"Any chunk?"}),
    "Any chunk?": ({"Report", "Does this run write?"}, set()),
    "Does this run write?": ({"Acquire lease", "Process chunks"}, set()),
    "Acquire lease": ({"Does it need a data key?"}, {FAIL}),
    "Does it need a data key?": ({"Choose data key", "Must it look everywhere?"}, set()),
    "Choose data key": ({"Must it look everywhere?"}, {FAIL}),
    "Must it look everywhere?": ({"Scan every column", "Process chunks"}, set()),
    "Scan every column": ({"Judge the scan"}, {FAIL}),
    "Work on the scanned chunk": ({"Is the scanned chunk done?"}, {"Narrow the scanned chunk"}),  # its failure is the child's; the outcomes are judged
    "Narrow the scanned chunk": ({"Is the scanned chunk done?"}, set()),
    "Is the scanned chunk done?": ({"Chunk scanned", "Work on the scanned chunk"}, set()),
    "Chunk scanned": (set(), set()),
    "Judge the scan": ({"What follows the scan?"}, {FAIL}),
    "What follows the scan?": ({"Process chunks", "Wait out the caches", "Scan every column", "Remove data keys"}, set()),
    "Wait out the caches": ({"Scan every column"}, set()),
    "Remove data keys": ({"Report"}, {FAIL}),
    "Process chunks": ({"Anything written?"}, {FAIL}),
    "Work on the chunk": ({"Is the chunk done?"}, {"Narrow the chunk"}),  # its failure is the child's; the outcomes are judged
    "Narrow the chunk": ({"Is the chunk done?"}, set()),
    "Is the chunk done?": ({"Chunk processed", "Work on the chunk"}, set()),
    "Chunk processed": (set(), set()),
    "Anything written?": ({"Judge the pass", "Report"}, set()),
    "Judge the pass": ({"What follows the pass?"}, {FAIL}),
    "What follows the pass?": ({"Settle", "Sweep chunks", "Rewrap data keys", "Verify chunks"}, set()),
    "Settle": ({"Sweep chunks"}, set()),
    "Sweep chunks": ({"Judge the pass"}, {FAIL}),
    "Work on the swept chunk": ({"Is the swept chunk done?"}, {"Narrow the swept chunk"}),  # its failure is the child's; the outcomes are judged
    "Narrow the swept chunk": ({"Is the swept chunk done?"}, set()),
    "Is the swept chunk done?": ({"Chunk swept", "Work on the swept chunk"}, set()),
    "Chunk swept": (set(), set()),
    "Rewrap data keys": ({"Are all data keys done?"}, {FAIL}),
    "Are all data keys done?": ({"Rewrap data keys", "Verify chunks"}, set()),
    "Verify chunks": ({"Does it remove data keys?"}, {FAIL}),
    "Does it remove data keys?": ({"Scan every column", "Report"}, set()),
    "Work on the verified chunk": ({"Is the verified chunk done?"}, {"Narrow the verified chunk"}),  # its failure is the child's; the outcomes are judged
    "Narrow the verified chunk": ({"Is the verified chunk done?"}, set()),
    "Is the verified chunk done?": ({"Chunk verified", "Work on the verified chunk"}, set()),
    "Chunk verified": (set(), set()),
    "Report": ({"Is a lease held?"}, {FAIL}),
    "Is a lease held?": ({"Release lease", "Anything unreadable?"}, set()),
    "Report failure": ({"Release lease"}, {"Failure without a report"}),
    "Failure without a report": ({"Release lease"}, set()),
    "Release lease": ({"Anything unreadable?"}, {"Anything unreadable?"}),
    "Anything unreadable?": ({"Announce unreadable values", "How did the run end?"}, set()),
    "Announce unreadable values": ({"How did the run end?"}, {"How did the run end?"}),
    "How did the run end?": ({"Announce the success", "Announce the failure"}, set()),
    "Announce the success": ({"Run succeeded"}, {"Run succeeded"}),
    "Announce the failure": ({"Notify"}, {"Notify"}),
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


def _is_a_function(state: dict[str, Any]) -> bool:
    """Not a state that tells the world: those are tests/infrastructure/test_announcements.py's."""
    return state["Type"] == "Task" and not state["Resource"].startswith("arn:aws:states:::")


def _ours(root: type[BaseException] = errors.ReencryptError) -> Iterator[str]:
    yield root.__name__
    for leaf in root.__subclasses__():
        yield from _ours(leaf)


def _at(path: str, state: dict[str, Any]) -> Any:
    value: Any = state
    for part in path.removeprefix("$.").split("."):
        value = value[part]
    return value


def _holds(rule: dict[str, Any], state: dict[str, Any]) -> bool:
    if "Or" in rule:
        return any(_holds(part, state) for part in rule["Or"])
    (operator,) = set(rule) - {"Variable", "Next"}
    assert operator in ("BooleanEquals", "StringEquals", "NumericEquals", "NumericGreaterThan")
    value = _at(rule["Variable"], state)
    return bool(value > rule[operator] if operator == "NumericGreaterThan" else value == rule[operator])


def _way(definition: dict[str, Any], answers: dict[str, list[dict[str, Any]]]) -> list[str]:
    """The states that do something, in the order in which a run comes to them whose tasks answer one after the other of `answers`."""
    state: dict[str, Any] = {"scan": dict(definition["States"]["Name the run"]["Parameters"]["scan"])}
    name, way = definition["StartAt"], list[str]()
    while True:
        step = definition["States"][name]
        if step["Type"] == "Choice":
            name = next((rule["Next"] for rule in step["Choices"] if _holds(rule, state)), step["Default"])
            continue
        if name == "Scan every column":
            way.append(f"{name} ({_at(step['ItemSelector']['phase.$'], state)})")
        elif step["Type"] in ("Task", "Map", "Wait"):
            way.append(name)
        if name in answers:
            state[step["ResultPath"].removeprefix("$.")] = answers[name].pop(0)
        if step["Type"] == "Succeed":
            return way
        name = step["Next"]


BEGIN, END = ["Preflight", "Plan chunks", "Announce the start"], ["Report", "Release lease", "Announce the success"]
SETTLED = ["Process chunks", "Judge the pass", "Settle", "Sweep chunks", "Judge the pass", "Verify chunks"]
REWRAPPED = ["Acquire lease", "Process chunks", "Judge the pass", "Rewrap data keys", "Rewrap data keys", "Verify chunks", *END]
WAYS = {
    Mode.PLAN: ["Process chunks", "Report", "Announce the success"],
    Mode.VERIFY: ["Process chunks", "Report", "Announce the success"],
    Mode.RE_ENCRYPT: ["Acquire lease", "Choose data key", *SETTLED, *END],
    Mode.ROTATE: ["Acquire lease", "Choose data key", *SETTLED, *END],
    Mode.RESTORE: ["Acquire lease", "Process chunks", "Judge the pass", "Verify chunks", *END],
    Mode.REWRAP_DATA_KEYS: REWRAPPED,
    Mode.ROTATE_SECRET_KEY: ["Acquire lease", "Scan every column (survey)", "Judge the scan", *REWRAPPED[1:]],
    Mode.ROLLBACK: [
        "Acquire lease", "Scan every column (survey)", "Judge the scan", *SETTLED, "Scan every column (scan)", "Judge the scan", "Remove data keys", *END],
    Mode.PRUNE_DATA_KEYS: [
        "Acquire lease", "Scan every column (survey)", "Judge the scan", "Wait out the caches", "Scan every column (scan)", "Judge the scan",
        "Remove data keys", *END],
}  # fmt: skip


@pytest.mark.parametrize("mode", list(Mode))
def test_a_run_of_each_mode_goes_its_way(definition: dict[str, Any], mode: Mode) -> None:
    steps = mode.steps
    passes = [Next.REWRAP] if steps.rewraps else [Next.SETTLE, Next.VERIFY] if steps.sweeps else [Next.VERIFY]
    looks = [After.PROCESS if steps.reads_values else After.SETTLE, After.REMOVE]
    answers: dict[str, list[dict[str, Any]]] = {
        "Preflight": [{"writes": mode.writes, "encrypts": mode.encrypts, "surveys": steps.surveys, "removes": steps.removes}],
        "Plan chunks": [{"chunks": 3}],
        "Judge the pass": [{"next": word.value} for word in passes],
        "Judge the scan": [{"next": word.value, "phase": "scan"} for word in looks],
        "Rewrap data keys": [{"done": False}, {"done": True}],
        "Report": [{"outcome": "succeeded", "unreadable": 0}],
    }
    assert _way(definition, answers) == [*BEGIN, *WAYS[mode]]


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
    for _, state in _states(definition):
        if _is_a_function(state):
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


@pytest.mark.parametrize(
    ("name", "children", "manifest", "phase"),
    [
        ("Process chunks", "process", "manifest", {"phase": "process"}),
        # The number of a sweep is the state machine's: its outcomes must not be taken for those of the sweep before.
        ("Sweep chunks", "sweep", "manifest", {"phase.$": "$.pass.phase"}),
        ("Verify chunks", "verify", "manifest", {"phase": "verify"}),
        ("Scan every column", "scan", "everything", {"phase.$": "$.scan.phase"}),
    ],
)
def test_a_map_reads_its_manifest_is_bounded_by_the_plan_and_outlives_a_failed_chunk(
    definition: dict[str, Any], name: str, children: str, manifest: str, phase: dict[str, str]
) -> None:
    state = definition["States"][name]
    assert state["ItemProcessor"]["ProcessorConfig"] == {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"}
    assert state["ItemReader"]["ReaderConfig"] == {"InputType": "JSONL"}
    assert state["ItemReader"]["Parameters"]["Key.$"] == f"$.plan.{manifest}"
    assert state["MaxConcurrencyPath"] == "$.plan.max_concurrency"
    assert state["ToleratedFailurePercentage"] == 100
    assert state["Label"] == "".join(word.title() for word in name.split())
    assert state["ResultWriter"]["Parameters"]["Prefix.$"] == f"States.Format('runs/{{}}/children/{children}', $.run)"
    assert state["ItemSelector"]["progress"] == {"position.$": "States.StringToJson('null')", "limit.$": "States.StringToJson('null')"}
    assert {key: value for key, value in state["ItemSelector"].items() if key.startswith("phase")} == phase
    assert state["ResultPath"] not in {f"$.{known}" for known in definition["States"]["Name the run"]["Parameters"]}, "what later states go by stays"
    workers = [child for child in state["ItemProcessor"]["States"].values() if child["Type"] == "Task"]
    assert ["ProcessChunkFunction" in worker["Resource"] for worker in workers] == [True, False]
    assert ["NarrowChunkFunction" in worker["Resource"] for worker in workers] == [False, True]
    for worker in workers:
        assert worker["Parameters"] == {
            "run.$": "$.run", "input.$": "$.input", "execution.$": "$.execution", "phase.$": "$.phase", "chunk.$": "$.chunk",
            "position.$": "$.progress.position", "limit.$": "$.progress.limit"}  # fmt: skip
        assert worker["ResultPath"] == "$.progress"


@pytest.mark.parametrize(("name", "seconds"), [("Settle", "$.pass.seconds"), ("Wait out the caches", "$.scan.seconds")])
def test_waiting_is_done_by_the_state_machine_and_no_function_sleeps(definition: dict[str, Any], name: str, seconds: str) -> None:
    assert {key: value for key, value in definition["States"][name].items() if key != "Next"} == {"Type": "Wait", "SecondsPath": seconds}


@pytest.mark.parametrize(
    ("name", "words", "variable"),
    [("What follows the pass?", Next, "$.pass.next"), ("What follows the scan?", After, "$.scan.next")],
)
def test_a_choice_knows_every_word_that_its_judge_may_say(definition: dict[str, Any], name: str, words: type[StrEnum], variable: str) -> None:
    choice = definition["States"][name]
    told = {rule["StringEquals"]: rule["Next"] for rule in choice["Choices"]}
    assert {rule["Variable"] for rule in choice["Choices"]} == {variable}
    (default,) = set(words) - set(told)
    assert default in (Next.VERIFY, After.REMOVE)
    assert choice["Default"] == {Next.VERIFY: "Verify chunks", After.REMOVE: "Remove data keys"}[default]
    expected = {"settle": "Settle", "sweep": "Sweep chunks", "rewrap": "Rewrap data keys"}
    if words is After:
        expected = {"settle": "Wait out the caches", "scan": "Scan every column", "process": "Process chunks"}
    assert told == expected


def test_a_redriven_run_begins_anew_under_a_name_of_its_own(definition: dict[str, Any]) -> None:
    assert definition["States"]["Run failed"]["ResultPath"] == "$.attempt"
    parameters = definition["States"]["Go on after a redrive"]["Parameters"]
    assert parameters["run.$"] == "States.Format('{}-redrive-{}', $$.Execution.Name, $.attempt.redrives)"
    assert (parameters["pass"], parameters["scan"]) == ({"number": 0}, {"phase": "survey"})
    assert set(parameters) >= set(definition["States"]["Name the run"]["Parameters"]) - {"attempt"}


def test_each_function_gets_the_payload_of_its_contract(definition: dict[str, Any]) -> None:
    run, execution = {"run.$": "$.run", "input.$": "$.input"}, {"execution.$": "$.execution"}
    payloads = {name: state["Parameters"] for name, state in definition["States"].items() if _is_a_function(state)}
    assert payloads == {
        "Preflight": run,
        "Plan chunks": run,
        "Acquire lease": {"run.$": "$.run", **execution},
        "Choose data key": run,
        "Report": {**run, **execution, "started.$": "$.started"},
        "Report failure": {**run, **execution, "started.$": "$.started", "error.$": "$.error"},
        "Release lease": {"run.$": "$.run", **execution},
        "Judge the pass": {**run, **execution, "number.$": "$.pass.number"},
        "Judge the scan": {**run, **execution, "phase.$": "$.scan.phase"},
        "Rewrap data keys": {**run, **execution},
        "Remove data keys": {**run, **execution},
        "Run failed": {
            "run.$": "$.run", "headline.$": "$.report.headline", "redrives.$": "$$.Execution.RedriveCount", "failed_in.$": "$.attempt.redrives"},
    }  # fmt: skip
    assert definition["States"]["Name the run"]["Parameters"] == {
        "run.$": "$$.Execution.Name", "execution.$": "$$.Execution.Id", "started.$": "$$.Execution.StartTime", "input.$": "$$.Execution.Input",
        "pass": {"number": 0}, "scan": {"phase": "survey"}, "attempt": {"redrives": 0}}  # fmt: skip


def test_a_run_that_found_nothing_is_not_a_success(definition: dict[str, Any]) -> None:
    ended = definition["States"]["How did the run end?"]
    good = {condition["StringEquals"] for condition in ended["Choices"][0]["Or"]}
    assert good == {"succeeded", "succeeded-with-unreadable"}
    assert ended["Default"] == "Announce the failure"


def test_the_whole_run_has_a_time_limit(definition: dict[str, Any]) -> None:
    assert definition["TimeoutSeconds"] == 48 * 3600
