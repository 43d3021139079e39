"""The topic: encrypted, TLS only, open to exactly those who have something to tell; and the ends that only EventBridge can tell."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from tests.infrastructure.conftest import Synthesized


def test_the_topic_is_encrypted_and_takes_tls_only(stack: Synthesized) -> None:
    ((key, properties),) = ((key, made["Properties"]) for key, made in stack.resources("AWS::KMS::Key").items() if "Topic" in key)
    assert stack.only("AWS::SNS::Topic")["Properties"]["KmsMasterKeyId"] == {"Fn::GetAtt": [key, "Arn"]}
    assert properties["EnableKeyRotation"] is True
    statements = stack.only("AWS::SNS::TopicPolicy")["Properties"]["PolicyDocument"]["Statement"]
    assert any(s["Effect"] == "Deny" and s["Condition"] == {"Bool": {"aws:SecureTransport": "false"}} for s in statements)


def test_ends_that_the_state_machine_cannot_announce_are_announced_by_rules(stack: Synthesized) -> None:
    details = [rule["Properties"]["EventPattern"]["detail"] for rule in stack.resources("AWS::Events::Rule").values()]
    assert {status for detail in details for status in detail["status"]} == {"TIMED_OUT", "ABORTED", "FAILED"}
    (uncaught,) = [detail for detail in details if detail["status"] == ["FAILED"]]
    assert uncaught["error"] == [{"anything-but": ["RunFailed"]}]  # that one has passed Notify


def _services(statements: list[dict[str, Any]], action: str) -> dict[str, dict[str, Any] | None]:
    """Service → condition, of those that a resource's policy lets do `action`."""
    found: dict[str, dict[str, Any] | None] = {}
    for statement in statements:
        actions = [statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"]
        principal = statement["Principal"]
        if statement["Effect"] == "Allow" and action in actions and isinstance(principal, dict) and "Service" in principal:
            found[principal["Service"]] = statement.get("Condition")
    return found


def _topic_and_key(stack: Synthesized) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    ((_, key),) = ((name, made) for name, made in stack.resources("AWS::KMS::Key").items() if "Topic" in name)
    topic: list[dict[str, Any]] = stack.only("AWS::SNS::TopicPolicy")["Properties"]["PolicyDocument"]["Statement"]
    return topic, key["Properties"]["KeyPolicy"]["Statement"]


def test_alarms_may_publish_to_the_topic_and_use_its_key_and_no_other_service(stack: Synthesized) -> None:
    topic, key = _topic_and_key(stack)
    telling = {"cloudwatch.amazonaws.com"} if stack.resources("AWS::CloudWatch::Alarm") else set()
    assert set(_services(topic, "sns:Publish")) == telling
    assert set(_services(key, "kms:GenerateDataKey*")) == set(_services(key, "kms:Decrypt")) == telling


def test_rules_publish_by_a_role_that_only_this_accounts_rules_may_take(stack: Synthesized) -> None:
    ((name, role),) = ((name, made) for name, made in stack.resources("AWS::IAM::Role").items() if "RulePublisher" in name)
    (trust,) = role["Properties"]["AssumeRolePolicyDocument"]["Statement"]
    assert trust["Principal"] == {"Service": "events.amazonaws.com"}
    assert set(trust["Condition"]) == {"StringEquals"}
    assert trust["Condition"]["StringEquals"]["aws:SourceAccount"] in ({"Ref": "AWS::AccountId"}, "111122223333")
    for rule in stack.resources("AWS::Events::Rule").values():
        (target,) = rule["Properties"]["Targets"]
        assert target["RoleArn"] == {"Fn::GetAtt": [name, "Arn"]}
    (policy,) = (made for made in stack.resources("AWS::IAM::Policy").values() if made["Properties"]["Roles"] == [{"Ref": name}])
    granted = [statement["Action"] for statement in policy["Properties"]["PolicyDocument"]["Statement"]]
    assert granted == ["sns:Publish", ["kms:Decrypt", "kms:GenerateDataKey"]]


def test_only_alarms_of_this_account_may_publish(minimal: Synthesized) -> None:
    topic, key = _topic_and_key(minimal)
    condition = {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}}
    assert _services(topic, "sns:Publish")["cloudwatch.amazonaws.com"] == condition
    assert _services(key, "kms:Decrypt")["cloudwatch.amazonaws.com"] == condition


def test_the_mail_about_a_run_that_was_stopped_says_which_and_what_to_do(synthesize: Callable[[str], Synthesized]) -> None:
    stack = synthesize("two schedules")
    for rule in stack.resources("AWS::Events::Rule").values():
        (target,) = rule["Properties"]["Targets"]
        text = json.dumps(target["InputTransformer"])
        assert "of grafana-scheduled" in text
        assert "What to do: start again with the same input" in text
        assert set(target["InputTransformer"]["InputPathsMap"].values()) == {"$.detail.status", "$.detail.name", "$.detail.executionArn"}
    assert not [path for path in ("$.detail.input", "$.detail.cause") if path in json.dumps(stack.resources("AWS::Events::Rule"))]


def test_the_addresses_of_the_settings_are_subscribed(minimal: Synthesized, everything: Synthesized) -> None:
    assert not minimal.resources("AWS::SNS::Subscription")
    assert [(s["Properties"]["Protocol"], s["Properties"]["Endpoint"]) for s in everything.resources("AWS::SNS::Subscription").values()] == [
        ("email", "oncall@example.com")
    ]
