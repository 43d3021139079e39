"""Least privilege, written down a second time: who may do what. A grant too many or too few in the template fails here."""

from __future__ import annotations

from typing import Any

import pytest

from tests.infrastructure.conftest import KEY_ARNS, Synthesized

READS_ROWS = {"secretsmanager:GetSecretValue", "kms:Decrypt"}
READS_GRAFANA = READS_ROWS | {"sts:AssumeRole"}
RUN_OBJECTS = {"s3:GetObject", "s3:PutObject", "s3:ListBucket"}
RENEW = "dynamodb:UpdateItem"
JOURNAL_KEY = {"kms:GenerateDataKey", "kms:Decrypt"}
KEEPS_JOURNAL = {"process_chunk", "rewrap_data_keys", "remove_data_keys"}
EXPECTED = {
    "preflight": READS_GRAFANA | RUN_OBJECTS | {"kms:DescribeKey"},
    "plan_chunks": READS_ROWS | RUN_OBJECTS,
    "acquire_lease": {"dynamodb:PutItem", "dynamodb:GetItem"},
    "choose_data_key": READS_GRAFANA | RUN_OBJECTS | {"kms:Encrypt"},
    "process_chunk": READS_GRAFANA | RUN_OBJECTS | {RENEW} | JOURNAL_KEY,
    "narrow_chunk": READS_ROWS | RUN_OBJECTS,
    "judge_pass": RUN_OBJECTS | {RENEW},
    "rewrap_data_keys": READS_GRAFANA | RUN_OBJECTS | {RENEW, "kms:Encrypt", "kms:ReEncryptFrom", "kms:ReEncryptTo"} | JOURNAL_KEY,
    "judge_scan": READS_ROWS | RUN_OBJECTS | {RENEW},
    "remove_data_keys": READS_ROWS | RUN_OBJECTS | {RENEW} | JOURNAL_KEY,
    "report": RUN_OBJECTS,
    "report_failure": RUN_OBJECTS,
    "release_lease": {"dynamodb:DeleteItem"},
    "end_failed": set(),
}
EVERY_FUNCTION = {"logs:CreateLogStream", "logs:PutLogEvents", "xray:PutTraceSegments", "xray:PutTelemetryRecords"}
IN_A_VPC = {"ec2:CreateNetworkInterface", "ec2:DescribeNetworkInterfaces", "ec2:DescribeSubnets", "ec2:DeleteNetworkInterface",
            "ec2:AssignPrivateIpAddresses", "ec2:UnassignPrivateIpAddresses"}  # fmt: skip


def _actions(statement: dict[str, Any]) -> set[str]:
    return {statement["Action"]} if isinstance(statement["Action"], str) else set(statement["Action"])


def _resources(statement: dict[str, Any]) -> list[Any]:
    return statement["Resource"] if isinstance(statement["Resource"], list) else [statement["Resource"]]


def _granted(stack: Synthesized) -> dict[str, dict[str, list[Any]]]:
    """Function → action → resources."""
    granted: dict[str, dict[str, list[Any]]] = {}
    for role, function in stack.function_of_role().items():
        for statement in stack.statements(role):
            assert statement["Effect"] == "Allow"
            for action in _actions(statement):
                granted.setdefault(function, {}).setdefault(action, []).extend(_resources(statement))
    return granted


def test_each_function_may_do_exactly_what_the_table_says(everything: Synthesized) -> None:
    assert {name: set(actions) for name, actions in _granted(everything).items()} == {
        name: actions | EVERY_FUNCTION | IN_A_VPC for name, actions in EXPECTED.items()
    }


def test_without_kms_keys_and_role_no_function_may_use_kms_or_assume_a_role(minimal: Synthesized) -> None:
    absent = {"kms:Decrypt", "kms:Encrypt", "kms:ReEncryptFrom", "kms:ReEncryptTo", "kms:DescribeKey", "sts:AssumeRole"}
    assert {name: set(actions) for name, actions in _granted(minimal).items()} == {
        name: (actions - absent) | EVERY_FUNCTION | (JOURNAL_KEY if name in KEEPS_JOURNAL else set()) for name, actions in EXPECTED.items()
    }


def test_kms_grants_name_exactly_the_keys_of_the_settings_and_the_journals_own(everything: Synthesized) -> None:
    (journal_key,) = (name for name in everything.resources("AWS::KMS::Key") if "Journal" in name)
    for name, actions in _granted(everything).items():
        own = [{"Fn::GetAtt": [journal_key, "Arn"]}] if name in KEEPS_JOURNAL else []
        for action in ("kms:Encrypt", "kms:ReEncryptFrom", "kms:ReEncryptTo", "kms:DescribeKey"):
            assert actions.get(action, list(KEY_ARNS)) == list(KEY_ARNS)
        assert actions.get("kms:GenerateDataKey", []) == own
        assert actions.get("kms:Decrypt", []) in ([], [*KEY_ARNS, *own])


def test_only_network_and_tracing_actions_have_no_resource(stack: Synthesized) -> None:
    for actions in _granted(stack).values():
        assert {action.split(":")[0] for action, resources in actions.items() if "*" in resources} <= {"ec2", "xray"}


def test_run_objects_are_readable_and_writable_under_runs_only_and_the_journal_by_its_writers_only(stack: Synthesized) -> None:
    for name, actions in _granted(stack).items():
        for action in ("s3:GetObject", "s3:PutObject"):
            found = [resource["Fn::Join"][1][-1] for resource in actions.get(action, [])]
            assert found in ([], ["/runs/*"], ["/runs/*", "/journal/*"])
            assert "/journal/*" not in found or name in (KEEPS_JOURNAL if action == "s3:PutObject" else {"process_chunk"})


def test_no_role_has_a_managed_policy(stack: Synthesized) -> None:
    for role in stack.resources("AWS::IAM::Role").values():
        assert "ManagedPolicyArns" not in role["Properties"]


@pytest.mark.parametrize("denied", ["lambda:*", "s3:*", "s3:DeleteObject", "states:*", "kms:*", "secretsmanager:GetSecretValue"])
def test_the_state_machine_may_not(stack: Synthesized, denied: str) -> None:
    role = stack.only("AWS::StepFunctions::StateMachine")["Properties"]["RoleArn"]["Fn::GetAtt"][0]
    assert denied not in set().union(*map(_actions, stack.statements(role)))


def test_the_state_machine_may_publish_to_the_encrypted_topic(stack: Synthesized) -> None:
    role = stack.only("AWS::StepFunctions::StateMachine")["Properties"]["RoleArn"]["Fn::GetAtt"][0]
    (topic,) = stack.resources("AWS::SNS::Topic")
    (key,) = (name for name in stack.resources("AWS::KMS::Key") if "Topic" in name)
    grants = [(_actions(statement), _resources(statement)) for statement in stack.statements(role)]
    assert ({"sns:Publish"}, [{"Ref": topic}]) in grants
    assert ({"kms:Decrypt", "kms:GenerateDataKey"}, [{"Fn::GetAtt": [key, "Arn"]}]) in grants


def test_a_schedule_may_start_this_state_machine_and_nothing_else(everything: Synthesized) -> None:
    (machine,) = everything.resources("AWS::StepFunctions::StateMachine")
    for schedule in everything.resources("AWS::Scheduler::Schedule").values():
        role = schedule["Properties"]["Target"]["RoleArn"]["Fn::GetAtt"][0]
        assert [(_actions(s), _resources(s)) for s in everything.statements(role)] == [({"states:StartExecution"}, [{"Ref": machine}])]
