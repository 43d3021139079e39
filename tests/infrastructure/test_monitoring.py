"""Alarms, dashboard, saved queries, traces; what docs/monitoring.md says of them; and that what is switched off is not there."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from infra.announcements import FAILED, SOURCE, STARTED, SUCCEEDED, UNREADABLE
from infra.queries import QUERIES
from infra.workers import METRICS_NAMESPACE
from reencrypt.handlers.metrics import METRICS, NAMESPACE
from tests.infrastructure.conftest import ROOT, Synthesized
from tests.unit.test_docs import rows, section

PAGE = ROOT / "docs" / "monitoring.md"
OWN = {metric.name for metric in METRICS}
# name → (metric, told by the run itself, what no data means)
ALWAYS = {
    "run-failed": ("AWS/States ExecutionsFailed", True, "notBreaching"),
    "run-timed-out": ("AWS/States ExecutionsTimedOut", True, "notBreaching"),
    "run-aborted": ("AWS/States ExecutionsAborted", True, "notBreaching"),
    "values-unreadable": ("GrafanaReencrypt ValuesUnreadable", False, "notBreaching"),
}
SCHEDULED = {
    "start-failed": ("AWS/SQS ApproximateNumberOfMessagesVisible", False, "notBreaching"),
    "too-old-weekly-plan": ("GrafanaReencrypt DaysSinceSuccess", False, "missing"),
    "too-old-quarterly-rotation": ("GrafanaReencrypt DaysSinceSuccess", False, "missing"),
}
PAGER = "arn:aws:sns:eu-north-1:111122223333:pager"


@pytest.fixture
def scheduled(synthesize: Callable[[str], Synthesized]) -> Synthesized:
    return synthesize("two schedules")


def _alarms(stack: Synthesized, prefix: str) -> dict[str, dict[str, Any]]:
    return {alarm["Properties"]["AlarmName"].removeprefix(prefix): alarm["Properties"] for alarm in stack.resources("AWS::CloudWatch::Alarm").values()}


def test_an_alarm_waits_for_each_thing_that_can_go_wrong(minimal: Synthesized, scheduled: Synthesized) -> None:
    for stack, prefix, expected in ((minimal, "grafana-reencrypt-", ALWAYS), (scheduled, "grafana-scheduled-", ALWAYS | SCHEDULED)):
        found = {name: (f"{a['Namespace']} {a['MetricName']}", a["TreatMissingData"]) for name, a in _alarms(stack, prefix).items()}
        assert found == {name: (metric, missing) for name, (metric, _, missing) in expected.items()}


def test_an_alarm_about_runs_is_about_the_runs_of_this_state_machine(scheduled: Synthesized) -> None:
    (machine,) = scheduled.resources("AWS::StepFunctions::StateMachine")
    for name, alarm in _alarms(scheduled, "grafana-scheduled-").items():
        dimensions = {entry["Name"]: entry["Value"] for entry in alarm["Dimensions"]}
        expected = {
            "AWS/States": {"StateMachineArn": {"Ref": machine}},
            "AWS/SQS": {"QueueName": {"Fn::GetAtt": [*scheduled.resources("AWS::SQS::Queue"), "QueueName"]}},
            METRICS_NAMESPACE: {"stack": "grafana-scheduled"}
            | ({"mode": "plan"} if name == "too-old-weekly-plan" else {"mode": "rotate"} if name == "too-old-quarterly-rotation" else {}),
        }
        assert dimensions == expected[alarm["Namespace"]], name


def test_one_bad_run_is_enough_and_an_age_is_compared_with_the_settings_days(scheduled: Synthesized) -> None:
    for name, alarm in _alarms(scheduled, "grafana-scheduled-").items():
        days = {"too-old-weekly-plan": 9, "too-old-quarterly-rotation": 100}
        assert (alarm["Threshold"], alarm["EvaluationPeriods"]) == (days.get(name, 1), 1)
        assert alarm["ComparisonOperator"] == "GreaterThanOrEqualToThreshold"


def test_what_a_run_tells_by_itself_goes_to_the_pager_only_and_the_rest_to_the_topic_too(scheduled: Synthesized, minimal: Synthesized) -> None:
    (topic,) = scheduled.resources("AWS::SNS::Topic")
    for name, alarm in _alarms(scheduled, "grafana-scheduled-").items():
        metric_told = (ALWAYS | SCHEDULED)[name][1]
        assert alarm["AlarmActions"] == ([PAGER] if metric_told else [{"Ref": topic}, PAGER]), name
    assert ["AlarmActions" in alarm for alarm in _alarms(minimal, "grafana-reencrypt-").values()].count(True) == 1


def test_an_age_that_nobody_measures_any_more_is_told_too(scheduled: Synthesized) -> None:
    blind = {name for name, alarm in _alarms(scheduled, "grafana-scheduled-").items() if "InsufficientDataActions" in alarm}
    assert blind == {"too-old-weekly-plan", "too-old-quarterly-rotation"}


def test_what_is_switched_off_is_not_there(synthesize: Callable[[str], Synthesized]) -> None:
    off = synthesize("everything off")
    for kind in ("AWS::CloudWatch::Alarm", "AWS::CloudWatch::Dashboard", "AWS::Scheduler::Schedule", "AWS::SQS::Queue", "AWS::SNS::Subscription"):
        assert not off.resources(kind), kind
    assert "cloudwatch.amazonaws.com" not in json.dumps(off.template)


def _dashboard(stack: Synthesized) -> str:
    body = stack.only("AWS::CloudWatch::Dashboard")["Properties"]["DashboardBody"]["Fn::Join"][1]
    return "".join(part if isinstance(part, str) else "token" for part in body)


def test_the_dashboard_is_json_and_shows_runs_values_chunks_keys_alarms_and_errors(minimal: Synthesized) -> None:
    shown = json.loads(_dashboard(minimal))
    titles = [widget["properties"]["title"] for widget in shown["widgets"]]
    assert titles == [
        "Alarms", "Runs, as Step Functions counts them", "Values of the last runs, by outcome", "Values per hour", "Seconds per delivery of a chunk",
        "Data keys", "Workers", "Errors",
    ]  # fmt: skip
    assert minimal.only("AWS::CloudWatch::Dashboard")["Properties"]["DashboardName"] == "grafana-reencrypt"


def test_every_own_metric_that_an_alarm_or_the_dashboard_shows_is_one_that_the_functions_emit(scheduled: Synthesized) -> None:
    assert METRICS_NAMESPACE == NAMESPACE
    named = set(re.findall(rf'"{METRICS_NAMESPACE}","(\w+)"', _dashboard(scheduled)))
    named |= {alarm["MetricName"] for alarm in _alarms(scheduled, "").values() if alarm["Namespace"] == METRICS_NAMESPACE}
    assert "ChunkSeconds" in named
    assert named <= OWN


def test_every_query_is_saved_under_the_stacks_name_over_the_logs_of_every_function(stack: Synthesized) -> None:
    groups = {json.dumps(f["Properties"]["LoggingConfig"]["LogGroup"]) for f in stack.resources("AWS::Lambda::Function").values()}
    saved = [query["Properties"] for query in stack.resources("AWS::Logs::QueryDefinition").values()]
    assert {query["Name"].partition("/")[2] for query in saved} == set(QUERIES)
    for query in saved:
        assert {json.dumps(group) for group in query["LogGroupNames"]} == groups
        assert len(query["LogGroupNames"]) <= 50  # what Logs Insights takes
        assert "\n| " in query["QueryString"]


def test_every_function_and_the_state_machine_are_traced(stack: Synthesized) -> None:
    assert {f["Properties"]["TracingConfig"]["Mode"] for f in stack.resources("AWS::Lambda::Function").values()} == {"Active"}
    assert stack.only("AWS::StepFunctions::StateMachine")["Properties"]["TracingConfiguration"] == {"Enabled": True}


def test_the_page_explains_every_metric_with_its_unit_and_no_other() -> None:
    told = {row[0].strip("`"): row[1] for row in rows(section(PAGE, "Metrics"))}
    assert told == {metric.name: metric.unit for metric in METRICS}


def test_the_page_explains_every_alarm_and_no_other() -> None:
    told = {row[0].strip("`") for row in rows(section(PAGE, "Alarms"))}
    assert told == {*ALWAYS, "start-failed", "too-old-<schedule>"}


def test_the_page_shows_every_query_as_it_is_saved() -> None:
    text = section(PAGE, "Saved queries")
    assert {row[0].strip("`") for row in rows(text)} == set(QUERIES)


def test_the_events_on_the_page_are_what_the_state_machine_puts(minimal: Synthesized) -> None:
    text = section(PAGE, "Events")
    shown = [json.loads(block) for block in re.findall(r"```jsonc\n(.*?)```", text, re.DOTALL)]
    examples = {event["detail-type"]: event["detail"] for event in shown if "detail" in event and isinstance(event["detail-type"], str)}
    assert {row[0].strip("`") for row in rows(text)} == {STARTED, SUCCEEDED, FAILED, UNREADABLE}
    assert set(examples) == {STARTED, SUCCEEDED}
    assert {event["source"] for event in shown if isinstance(event["source"], str)} == {SOURCE}
    states = minimal.definition()["States"]
    for state, kind in (("Announce the start", STARTED), ("Announce the success", SUCCEEDED)):
        (entry,) = states[state]["Parameters"]["Entries"]
        assert set(examples[kind]) == {key.removesuffix(".$") for key in entry["Detail"]}
