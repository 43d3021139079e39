"""Whatever keeps data is encrypted, refuses plain connections, and lets in nobody from outside; docs/threat-model.md names these tests."""

from __future__ import annotations

import json
from typing import Any

from tests.infrastructure.conftest import Synthesized

# Every type of resource that keeps data → how the template says that it is encrypted; None: AWS always does, with keys of its own.
KEEPS_DATA: dict[str, str | None] = {
    "AWS::S3::Bucket": "BucketEncryption",
    "AWS::SNS::Topic": "KmsMasterKeyId",
    "AWS::SQS::Queue": "SqsManagedSseEnabled",
    "AWS::DynamoDB::Table": None,
    "AWS::Logs::LogGroup": None,
}
KEEPS_NONE = {
    "AWS::CloudWatch::Alarm", "AWS::CloudWatch::CompositeAlarm", "AWS::CloudWatch::Dashboard", "AWS::Events::Rule", "AWS::IAM::Policy", "AWS::IAM::Role",
    "AWS::KMS::Key", "AWS::KMS::Alias", "AWS::Lambda::Function", "AWS::Lambda::Permission", "AWS::Logs::MetricFilter", "AWS::Logs::QueryDefinition",
    "AWS::S3::BucketPolicy", "AWS::SNS::Subscription", "AWS::SNS::TopicPolicy", "AWS::SQS::QueuePolicy", "AWS::Scheduler::Schedule",
    "AWS::Scheduler::ScheduleGroup", "AWS::StepFunctions::StateMachine", "AWS::EC2::SecurityGroup", "AWS::EC2::SecurityGroupIngress",
    "AWS::EC2::SecurityGroupEgress", "AWS::EC2::VPCEndpoint", "AWS::CDK::Metadata",
}  # fmt: skip
# Resource policy → the key in its properties, and the properties that name what it is for.
POLICIES = {"AWS::S3::BucketPolicy": "Bucket", "AWS::SNS::TopicPolicy": "Topics", "AWS::SQS::QueuePolicy": "Queues"}
# Services that a resource policy lets in, and why.
SERVICES = {
    "cloudwatch.amazonaws.com": "alarms publish to the topic",
}


def _statements(policy: dict[str, Any]) -> list[dict[str, Any]]:
    document = policy["Properties"].get("PolicyDocument") or policy["Properties"]["KeyPolicy"]
    found: list[dict[str, Any]] = document["Statement"]
    return found


def test_every_type_of_resource_is_known_to_keep_data_or_not(stack: Synthesized) -> None:
    used = {resource["Type"] for resource in stack.template["Resources"].values()}
    assert used - set(KEEPS_DATA) - KEEPS_NONE == set(), "does it keep data? then say how it is encrypted"


def test_everything_that_keeps_data_is_encrypted(stack: Synthesized) -> None:
    for kind, said in KEEPS_DATA.items():
        for name, resource in stack.resources(kind).items():
            assert said is None or resource["Properties"].get(said), name
    for name, key in stack.resources("AWS::KMS::Key").items():
        assert key["Properties"]["EnableKeyRotation"] is True, name


def test_plain_connections_are_refused(stack: Synthesized) -> None:
    for kind, policy_kind in (
        ("AWS::S3::Bucket", "AWS::S3::BucketPolicy"),
        ("AWS::SNS::Topic", "AWS::SNS::TopicPolicy"),
        ("AWS::SQS::Queue", "AWS::SQS::QueuePolicy"),
    ):
        refusing = [
            json.dumps(policy["Properties"][POLICIES[policy_kind]])
            for policy in stack.resources(policy_kind).values()
            if any(
                statement["Effect"] == "Deny" and statement.get("Condition") == {"Bool": {"aws:SecureTransport": "false"}} for statement in _statements(policy)
            )
        ]
        for name in stack.resources(kind):
            assert any(f'"{name}"' in target for target in refusing), f"{name} takes plain connections"


def test_a_resource_policy_allows_nobody_outside_the_account_but_the_services_that_must(stack: Synthesized) -> None:
    for kind in (*POLICIES, "AWS::KMS::Key"):
        for name, resource in stack.resources(kind).items():
            for statement in _statements(resource):
                if statement["Effect"] != "Allow":
                    continue
                principal = statement["Principal"]
                assert set(principal) <= {"AWS", "Service"}, f"{name} lets in {principal}"
                if "Service" in principal:
                    assert principal["Service"] in SERVICES, f"{name} lets in {principal}"
                    assert "*" not in [action for action in statement["Action"] if isinstance(statement["Action"], list)], name
                else:
                    own = json.dumps(principal["AWS"])
                    assert ":iam::" in own, f"{name} lets in {own}"
                    assert ":root" in own or "GetAtt" in own, f"{name} lets in {own}"
