"""What the state machine tells: events on the default bus, messages to the topic; nothing of it can fail a run, and no secret is in it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from infra.announcements import FAILED, SOURCE, STARTED, SUCCEEDED, UNREADABLE
from tests.infrastructure.conftest import Synthesized

EVENTS = {
    "Announce the start": STARTED,
    "Announce unreadable values": UNREADABLE,
    "Announce the success": SUCCEEDED,
    "Announce the failure": FAILED,
}
_AT = {"run": "$.run", "mode": "$.report.mode", "outcome": "$.report.outcome", "headline": "$.report.headline", "counts": "$.report.totals",
       "unreadable": "$.report.unreadable", "report": "$.report.report"}  # fmt: skip


@pytest.fixture
def scheduled(synthesize: Callable[[str], Synthesized]) -> Synthesized:
    return synthesize("two schedules")


def _telling(stack: Synthesized) -> dict[str, dict[str, Any]]:
    """The states that call a service of AWS's, and no function."""
    states = stack.definition()["States"].items()
    return {name: state for name, state in states if state["Type"] == "Task" and state["Resource"].startswith("arn:aws:states:::")}


def _detail(state: dict[str, Any]) -> dict[str, Any]:
    (entry,) = state["Parameters"]["Entries"]
    detail: dict[str, Any] = entry["Detail"]
    return detail


def test_there_are_four_kinds_of_events_of_one_source_on_the_default_bus(minimal: Synthesized) -> None:
    found = {name: state["Parameters"]["Entries"] for name, state in _telling(minimal).items() if state["Resource"] == "arn:aws:states:::events:putEvents"}
    assert {name: entry["DetailType"] for name, (entry,) in found.items()} == EVENTS
    assert {entry["Source"] for (entry,) in found.values()} == {SOURCE}
    assert all("EventBusName" not in entry for (entry,) in found.values())


def test_an_event_says_of_which_stack_and_run_it_is_how_that_ended_with_which_counts_and_where_the_report_is(scheduled: Synthesized) -> None:
    for name in set(EVENTS) - {"Announce the start"}:
        assert _detail(_telling(scheduled)[name]) == {"stack": "grafana-scheduled", **{f"{key}.$": path for key, path in _AT.items()}}
    started = _detail(_telling(scheduled)["Announce the start"])
    report = started.pop("report.$")
    assert report.startswith("States.Format('s3://StorageRunBucket")
    assert report.endswith("/runs/{}/report.json', $.run)")
    assert started == {
        "stack": "grafana-scheduled", "run.$": "$.run", "mode.$": "$.preflight.mode", "outcome": "started",
        "counts": {"chunks.$": "$.plan.chunks", "rows.$": "$.plan.rows"},
    }  # fmt: skip


def test_no_event_and_no_message_repeats_the_input(scheduled: Synthesized) -> None:
    """Somebody may have pasted a secret into it."""
    for name, state in _telling(scheduled).items():
        assert "$.input" not in json.dumps(state["Parameters"]), name


def test_everything_an_event_or_a_message_needs_is_there_even_without_a_report(minimal: Synthesized) -> None:
    """A path that is missing would be States.Runtime, which nothing catches."""
    kept = minimal.definition()["States"]["Failure without a report"]
    assert kept["ResultPath"] == "$.report"
    needed = {path.removeprefix("$.report.") for path in _AT.values() if path.startswith("$.report.")} | {"message"}
    assert {key.removesuffix(".$") for key in kept["Parameters"]} >= needed


def test_what_cannot_be_told_is_tried_again_and_then_left(scheduled: Synthesized) -> None:
    telling = _telling(scheduled)
    assert set(telling) == {*EVENTS, "Notify", "Notify of the success"}
    for name, state in telling.items():
        (retry,), (catch,) = state["Retry"], state["Catch"]
        assert retry["MaxAttempts"] >= 3, name
        assert retry["MaxDelaySeconds"] <= 30, name
        assert (catch["ErrorEquals"], catch["Next"]) == (["States.ALL"], state["Next"]), "told or not, the run goes the same way"
        assert catch["ResultPath"] == "$.telling_error", "the report stays what it was"
        assert state["ResultPath"] is None
        assert state["TimeoutSeconds"] == 60
    assert {name for name, state in telling.items() if "EventBridge.FailedEntry" in state["Retry"][0]["ErrorEquals"]} == set(EVENTS)


def test_a_success_is_told_by_mail_only_where_the_settings_want_it(minimal: Synthesized, scheduled: Synthesized) -> None:
    assert "Notify of the success" not in minimal.definition()["States"]
    assert minimal.definition()["States"]["Announce the success"]["Next"] == "Run succeeded"
    states = scheduled.definition()["States"]
    assert (states["Announce the success"]["Next"], states["Notify of the success"]["Next"]) == ("Notify of the success", "Run succeeded")


def test_a_message_is_the_functions_text_and_its_subject_names_the_stack(scheduled: Synthesized) -> None:
    for name, words in (("Notify", "a run failed"), ("Notify of the success", "a run succeeded")):
        parameters = _telling(scheduled)[name]["Parameters"]
        assert parameters["Message.$"] == "$.report.message"
        assert parameters["Subject"] == f"grafana-reencrypt: {words} (grafana-scheduled)"
        assert len(parameters["Subject"]) + 60 - len("grafana-scheduled") < 100, "SNS takes no longer subject, and a stack's name may have 60 characters"


def test_the_state_machine_may_put_events_on_the_default_bus_only(stack: Synthesized) -> None:
    role = stack.only("AWS::StepFunctions::StateMachine")["Properties"]["RoleArn"]["Fn::GetAtt"][0]
    resources = [json.dumps(statement["Resource"]) for statement in stack.statements(role) if statement["Action"] == "events:PutEvents"]
    assert resources
    assert all(":event-bus/default" in resource and "*" not in resource for resource in resources)
