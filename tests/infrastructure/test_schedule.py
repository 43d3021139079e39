"""Schedules: none by default, off until enabled, each with its own input, role and dead letters; a wrong input is refused at synthesis."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from infra.setting_schedule import ScheduleSettings
from infra.settings import DeploymentSettings, SettingsError, load_settings
from reencrypt.operations.modes import Mode
from tests.infrastructure.conftest import ROOT, Synthesized

TABLE = '[[schedule]]\nname = "a"\nexpression = "rate(7 days)"\n'
COLUMN = '[[secret_column]]\ntable = "setting"\nprimary_key = ["id"]\ncolumn = "v"\nshape = "base64"\nbase64 = "std"\nplaintext = "text"\n'
WRONG = {
    'input = {mode = "reencrypt"}': "schedule[0].input: mode: Input should be 'plan', 're-encrypt'",
    'input = {Mode = "plan"}': "schedule[0].input: 'Mode' is no key of the input; allowed: mode, tables, provider",
    'input = {mode = "re-encrypt", tables = ["users"]}': "schedule[0].input: tables: 'users' holds no secrets; allowed: alert_configuration",
    'input = {mode = "restore"}': 'schedule[0].input: mode restore needs "run"',
    'input = {chunkRows = "many"}': "schedule[0].input: chunkRows: ",
    "flexible_minutes = 1441": "schedule[0].flexible_minutes: is not allowed; allowed: a whole number of minutes from 1 to 1440, or 0 for exactly then",
    "retry_minutes = 0": "schedule[0].retry_minutes: is not allowed; allowed: a whole number of minutes from 1 to 1440",
    "alarm_after_days = 0": "schedule[0].alarm_after_days: is not allowed; allowed: a whole number of days from 1 to 366",
    'enabled = "yes"': "schedule[0].enabled: is not allowed; allowed: true or false",
    "every = 7": "schedule[0].every: unknown setting",
}


def _load(tmp_path: Path, text: str) -> DeploymentSettings:
    file = tmp_path / "settings.toml"
    file.write_text(f'grafana_ini_secret = "grafana/ini"\n{text}')
    return load_settings(file)


@pytest.fixture
def scheduled(synthesize: Callable[[str], Synthesized]) -> Synthesized:
    return synthesize("two schedules")


def _schedules(stack: Synthesized) -> dict[str, dict[str, Any]]:
    return {schedule["Properties"]["Name"]: schedule["Properties"] for schedule in stack.resources("AWS::Scheduler::Schedule").values()}


def _statements(stack: Synthesized, schedule: dict[str, Any]) -> list[tuple[Any, Any]]:
    return [(statement["Action"], statement["Resource"]) for statement in stack.statements(schedule["Target"]["RoleArn"]["Fn::GetAtt"][0])]


@pytest.mark.parametrize("text", WRONG)
def test_a_wrong_schedule_is_refused_with_its_key_before_anything_is_deployed(tmp_path: Path, text: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(WRONG[text])):
        _load(tmp_path, TABLE + text)


def test_a_schedule_may_name_a_table_that_the_settings_declare(tmp_path: Path) -> None:
    scheduled = TABLE + 'input = {mode = "re-encrypt", tables = ["setting", "data_source"]}\n'
    assert _load(tmp_path, scheduled + COLUMN).schedule[0].mode is Mode.RE_ENCRYPT
    with pytest.raises(SettingsError, match="'setting' holds no secrets"):
        _load(tmp_path, scheduled)


def test_the_example_shows_every_key_of_a_schedule() -> None:
    shown = re.sub(r"(?m)^#(?=\S)", "", (ROOT / "deployment.example.toml").read_text())
    (table,) = tomllib.loads(shown)["schedule"]
    assert set(table) == set(ScheduleSettings.model_fields)


def test_nothing_starts_by_itself_unless_it_is_declared_and_enabled(minimal: Synthesized, everything: Synthesized, scheduled: Synthesized) -> None:
    assert not [kind for kind in (r["Type"] for r in minimal.template["Resources"].values()) if kind.startswith(("AWS::Scheduler", "AWS::SQS"))]
    assert {name: schedule["State"] for name, schedule in _schedules(everything).items()} == {"weekly-plan": "DISABLED", "monthly": "DISABLED"}
    assert {schedule["State"] for schedule in _schedules(scheduled).values()} == {"ENABLED"}


def test_each_schedule_has_its_own_time_zone_and_input(everything: Synthesized, scheduled: Synthesized) -> None:
    found = {
        name: (s["ScheduleExpression"], s["ScheduleExpressionTimezone"], json.loads(s["Target"]["Input"]))
        for name, s in (_schedules(everything) | _schedules(scheduled)).items()
    }
    found.pop("_watch-age")
    assert found == {
        "weekly-plan": ("cron(0 3 ? * SUN *)", "Europe/Berlin", {}),
        "monthly": ("rate(30 days)", "UTC", {"mode": "re-encrypt", "tables": ["data_source"]}),
        "quarterly-rotation": ("cron(0 4 1 1,4,7,10 ? *)", "UTC", {"mode": "rotate", "onUnreadable": "report"}),
    }


def test_the_window_and_the_retries_are_those_of_the_settings(scheduled: Synthesized) -> None:
    schedules = _schedules(scheduled)
    assert schedules["weekly-plan"]["FlexibleTimeWindow"] == {"Mode": "FLEXIBLE", "MaximumWindowInMinutes": 30}
    assert schedules["quarterly-rotation"]["FlexibleTimeWindow"] == {"Mode": "OFF"}
    assert schedules["weekly-plan"]["Target"]["RetryPolicy"] == {"MaximumEventAgeInSeconds": 3600, "MaximumRetryAttempts": 5}
    assert schedules["quarterly-rotation"]["Target"]["RetryPolicy"] == {"MaximumEventAgeInSeconds": 7200, "MaximumRetryAttempts": 5}


def test_a_start_that_fails_lies_in_an_encrypted_queue_that_takes_tls_only(scheduled: Synthesized) -> None:
    ((queue, resource),) = scheduled.resources("AWS::SQS::Queue").items()
    assert resource["Properties"]["SqsManagedSseEnabled"] is True
    assert {json.dumps(s["Target"]["DeadLetterConfig"]) for s in _schedules(scheduled).values()} == {json.dumps({"Arn": {"Fn::GetAtt": [queue, "Arn"]}})}
    (deny,) = scheduled.only("AWS::SQS::QueuePolicy")["Properties"]["PolicyDocument"]["Statement"]
    assert (deny["Effect"], deny["Condition"]) == ("Deny", {"Bool": {"aws:SecureTransport": "false"}})


def test_a_schedule_may_start_this_state_machine_leave_a_dead_letter_and_nothing_else(everything: Synthesized, scheduled: Synthesized) -> None:
    for stack in (everything, scheduled):
        (machine,), (queue,) = stack.resources("AWS::StepFunctions::StateMachine"), stack.resources("AWS::SQS::Queue")
        dead_letter = ("sqs:SendMessage", {"Fn::GetAtt": [queue, "Arn"]})
        for name, schedule in _schedules(stack).items():
            if name != "_watch-age":
                assert _statements(stack, schedule) == [("states:StartExecution", {"Ref": machine}), dead_letter]
        assert len({json.dumps(schedule["Target"]["RoleArn"]) for schedule in _schedules(stack).values()}) == len(_schedules(stack)), "a role for each"


def test_only_schedules_of_this_stacks_group_may_take_a_schedules_role(scheduled: Synthesized) -> None:
    ((group, resource),) = scheduled.resources("AWS::Scheduler::ScheduleGroup").items()
    assert resource["Properties"]["Name"] == "grafana-scheduled"
    for schedule in _schedules(scheduled).values():
        role = scheduled.resources("AWS::IAM::Role")[schedule["Target"]["RoleArn"]["Fn::GetAtt"][0]]
        (trust,) = role["Properties"]["AssumeRolePolicyDocument"]["Statement"]
        assert trust["Principal"] == {"Service": "scheduler.amazonaws.com"}
        equal = trust["Condition"]["StringEquals"]
        assert (equal["aws:SourceAccount"], equal["aws:SourceArn"]) == ({"Ref": "AWS::AccountId"}, {"Fn::GetAtt": [group, "Arn"]})
        assert schedule["GroupName"] == resource["Properties"]["Name"]


def test_the_age_of_the_scheduled_modes_is_watched_by_a_function_that_may_read_and_write_run_objects_only(scheduled: Synthesized) -> None:
    watch = _schedules(scheduled)["_watch-age"]
    assert json.loads(watch["Target"]["Input"]) == {"modes": ["plan", "rotate"]}
    function = watch["Target"]["Arn"]["Fn::GetAtt"][0]
    assert scheduled.resources("AWS::Lambda::Function")[function]["Properties"]["Handler"] == "reencrypt.handlers.watch_age.handler"
    (role,) = [role for role, name in scheduled.function_of_role().items() if name == "watch_age"]
    actions = {action for s in scheduled.statements(role) for action in ([s["Action"]] if isinstance(s["Action"], str) else s["Action"])}
    assert {action for action in actions if not action.startswith(("logs:", "xray:"))} == {"s3:GetObject", "s3:PutObject", "s3:ListBucket"}


def test_nothing_is_watched_where_no_enabled_schedule_asks_for_it(everything: Synthesized) -> None:
    assert "_watch-age" not in _schedules(everything)
    assert "watch_age" not in everything.function_of_role().values()
