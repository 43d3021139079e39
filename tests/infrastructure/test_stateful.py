"""A change of settings, or a newer version, never replaces what holds state: buckets with reports and old ciphertexts, their key, the lease, logs.

CloudFormation replaces a resource when its logical id, its type or one of its immutable properties changes. Compared are stacks that differ in
every setting there is. Sources: "Update requires: Replacement" in CloudFormation's reference of each type.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from infra.setting_database import DatabaseAccess
from infra.setting_network import VpcSettings
from infra.settings import DeploymentSettings, load_settings
from tests.infrastructure.conftest import SETTINGS, Synthesized

IMMUTABLE = {
    "AWS::S3::Bucket": {"BucketName", "BucketNamePrefix", "BucketNamespace", "ObjectLockEnabled"},
    "AWS::KMS::Key": {"KeySpec", "KeyUsage", "MultiRegion", "Origin"},
    "AWS::DynamoDB::Table": {"TableName", "KeySchema", "AttributeDefinitions", "LocalSecondaryIndexes", "ImportSourceSpecification"},
    "AWS::SNS::Topic": {"TopicName", "FifoTopic"},
}  # fmt: skip
# The logical ids in every version that was ever deployed. A resource whose id changes is deleted or left behind by the next upgrade, and made anew, empty.
EVER = {
    "StorageRunBucket22A71FB6",
    "StorageJournalBucket016255C9",
    "StorageJournalKey423CD972",
    "StorageLeaseTableF6E48245",
    "NotificationsTopicAE679CBD",
}


def _state(stack: Synthesized) -> dict[str, tuple[str, dict[str, Any]]]:
    """Logical id → (type, immutable properties) of what holds state."""
    return {
        name: (resource["Type"], {key: value for key, value in resource["Properties"].items() if key in IMMUTABLE[resource["Type"]]})
        for name, resource in stack.template["Resources"].items()
        if resource["Type"] in IMMUTABLE
    }


@pytest.mark.parametrize("name", [name for name in SETTINGS if name != "minimal"])
def test_no_setting_replaces_what_holds_state(synthesize: Callable[[str], Synthesized], minimal: Synthesized, name: str) -> None:
    before, after = _state(minimal), _state(synthesize(name))
    off = {key for key in before if "Journal" in key} if "journal_days = 0" in SETTINGS[name] else set()  # told to be given up
    assert {key: after.get(key) for key in before if key not in off} == {key: value for key, value in before.items() if key not in off}
    assert not off & set(after)
    assert {key for key in set(after) - set(before) if after[key][0] != "AWS::SNS::Topic"} == set()


def test_what_is_compared_differs_in_every_setting_there_is(tmp_path: Path) -> None:
    given: dict[str, set[str]] = {"": set(), "database": set(), "vpc": set()}
    for number, text in enumerate(SETTINGS.values()):
        file = tmp_path / f"{number}.toml"
        file.write_text(text)
        settings = load_settings(file)
        for name, model in (("", settings), ("database", settings.database), ("vpc", settings.vpc)):
            given[name] |= _changed(model) if model else set()
    assert set(DeploymentSettings.model_fields) - given[""] == set()
    assert set(DatabaseAccess.model_fields) - given["database"] == set()
    assert set(VpcSettings.model_fields) - given["vpc"] == set()


def _changed(model: BaseModel) -> set[str]:
    """The settings that are not at their defaults."""
    return {name for name, field in type(model).model_fields.items() if getattr(model, name) != field.default}


def test_the_logical_ids_of_what_holds_state_are_those_of_every_earlier_version(minimal: Synthesized) -> None:
    assert set(_state(minimal)) >= EVER


def test_no_physical_name_is_chosen_but_with_the_stacks_own_name_so_two_stacks_of_an_account_never_meet(synthesize: Callable[[str], Synthesized]) -> None:
    """Step Functions' log group, a dashboard and the like: whatever has a name of ours has the stack's name in it."""
    names = {"AWS::S3::Bucket": "BucketName", "AWS::Lambda::Function": "FunctionName", "AWS::IAM::Role": "RoleName", "AWS::DynamoDB::Table": "TableName",
             "AWS::Logs::LogGroup": "LogGroupName", "AWS::SNS::Topic": "TopicName", "AWS::StepFunctions::StateMachine": "StateMachineName",
             "AWS::Scheduler::Schedule": "Name", "AWS::Events::Rule": "Name", "AWS::CloudWatch::Alarm": "AlarmName", "AWS::KMS::Alias": "AliasName",
             "AWS::CloudWatch::Dashboard": "DashboardName", "AWS::Logs::QueryDefinition": "Name", "AWS::SQS::Queue": "QueueName",
             "AWS::Scheduler::ScheduleGroup": "Name", "AWS::EC2::SecurityGroup": "GroupName", "AWS::IAM::Policy": None,
             "AWS::CloudWatch::CompositeAlarm": "AlarmName", "AWS::SSM::Parameter": "Name", "AWS::IAM::ManagedPolicy": "ManagedPolicyName"}  # fmt: skip
    seen = set()
    for settings, prefix in (("vpc, rds password", "grafana-vpc"), ("two schedules", "grafana-scheduled")):
        for name, resource in synthesize(settings).template["Resources"].items():
            chosen = resource.get("Properties", {}).get(names.get(resource["Type"]) or "")
            if chosen is None:
                continue
            seen.add(resource["Type"])
            text = f"{resource['Properties'].get('GroupName', '')}/{chosen}"  # a schedule's name is one within its group
            assert prefix in text or "AWS::StackName" in text or "AWS::StackId" in text, f"{name} is called {text} in every stack"
    assert "AWS::Logs::LogGroup" in seen
