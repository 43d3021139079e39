"""Least privilege, written down a second time: who may do what. A grant too many or too few in the template fails here."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.infrastructure.conftest import KEY_ARNS, PARAMETER_ARN, SECRET_ARN, SETTINGS_KEY_ARN, Synthesized

READS_ROWS = {"secretsmanager:GetSecretValue"}
READS_GRAFANA = READS_ROWS | {"sts:AssumeRole", "kms:Decrypt"}
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


# Of the settings, by stack: each action on exactly the resource that the settings name, of those functions that read the database and no other.
READ_THE_DATABASE = {"preflight", "plan_chunks", "choose_data_key", "process_chunk", "narrow_chunk", "rewrap_data_keys", "judge_scan", "remove_data_keys"}
OF_SETTINGS = {
    "secretsmanager:GetSecretValue",
    "ssm:GetParameter",
    "s3:GetObjectVersion",
    "rds-db:connect",
    "rds:DescribeDBInstances",
    "rds:DescribeDBClusters",
}
_INI_OBJECT = ":s3:::team-configuration/grafana/grafana.ini"
INI_OBJECT = {"Fn::Join": ["", ["arn:", {"Ref": "AWS::Partition"}, _INI_OBJECT]]}
SETTINGS_GRANTS: dict[str, dict[str, list[str]]] = {
    "minimal": {"secretsmanager:GetSecretValue": ["arn:aws:secretsmanager:REGION:ACCOUNT:secret:grafana/ini-??????"]},
    "everything": {
        "secretsmanager:GetSecretValue": [
            "arn:aws:secretsmanager:eu-north-1:111122223333:secret:grafana/ini-AbCdEf",
            "arn:aws:secretsmanager:eu-north-1:111122223333:secret:grafana/environment-??????",
        ]
    },
    "vpc, rds password": {
        "secretsmanager:GetSecretValue": ["arn:aws:secretsmanager:REGION:ACCOUNT:secret:rds!db-1234abcd-??????", SECRET_ARN],
        "ssm:GetParameter": ["arn:aws:ssm:REGION:ACCOUNT:parameter/grafana/grafana.ini", PARAMETER_ARN],
        "rds:DescribeDBInstances": ["arn:aws:rds:REGION:ACCOUNT:db:grafana"],
    },
    "aurora, iam token, keys of another account": {
        "s3:GetObjectVersion": [f"arn:aws{_INI_OBJECT}"],
        "rds:DescribeDBClusters": ["arn:aws:rds:eu-north-1:111122223333:cluster:grafana"],
        "rds-db:connect": ["arn:aws:rds-db:eu-north-1:111122223333:dbuser:cluster-ABCDEFGHIJKL01234/grafana_reencrypt"],
    },
    "rds proxy": {"rds-db:connect": ["arn:aws:rds-db:REGION:ACCOUNT:dbuser:prx-0123456789abcdef0/grafana_reencrypt"]},
}  # fmt: skip


def _text(resource: Any) -> str:
    """An ARN, with words for what is known at the deployment only."""
    if isinstance(resource, str):
        return resource
    words = {"AWS::Partition": "aws", "AWS::Region": "REGION", "AWS::AccountId": "ACCOUNT"}
    return "".join(part if isinstance(part, str) else words[part["Ref"]] for part in resource["Fn::Join"][1])


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
        assert actions.get("kms:Decrypt", []) in (own, [*KEY_ARNS, *own])


@pytest.mark.parametrize("name", SETTINGS_GRANTS)
def test_what_the_settings_name_is_granted_exactly_and_to_those_that_read_the_database(synthesize: Callable[[str], Synthesized], name: str) -> None:
    for function, actions in _granted(synthesize(name)).items():
        found = {action: sorted(map(_text, actions[action])) for action in OF_SETTINGS & set(actions)}
        assert found == ({action: sorted(resources) for action, resources in SETTINGS_GRANTS[name].items()} if function in READ_THE_DATABASE else {})


def test_a_current_object_with_grafana_ini_is_readable_by_the_same_functions_only(synthesize: Callable[[str], Synthesized]) -> None:
    granted = _granted(synthesize("rds proxy"))
    assert {function for function, actions in granted.items() if INI_OBJECT in actions.get("s3:GetObject", [])} == READ_THE_DATABASE


def test_keys_of_the_settings_are_usable_through_the_services_that_keep_them_only(synthesize: Callable[[str], Synthesized]) -> None:
    stack = synthesize("vpc, rds password")
    found = {
        function: statement["Condition"]
        for role, function in stack.function_of_role().items()
        for statement in stack.statements(role)
        if SETTINGS_KEY_ARN in _resources(statement)
        if _actions(statement) == {"kms:Decrypt"}
    }
    services = [{"Fn::Join": ["", [f"{service}.", {"Ref": "AWS::Region"}, ".amazonaws.com"]]} for service in ("secretsmanager", "ssm", "s3")]
    assert found == {name: {"StringEquals": {"kms:ViaService": services}} for name in READ_THE_DATABASE}
    assert "kms:Encrypt" not in json.dumps(stack.resources("AWS::IAM::Policy"))


def test_a_permissions_boundary_bounds_every_role(synthesize: Callable[[str], Synthesized], minimal: Synthesized) -> None:
    roles = synthesize("vpc, rds password").resources("AWS::IAM::Role").values()
    assert {role["Properties"]["PermissionsBoundary"] for role in roles} == {"arn:aws:iam::111122223333:policy/boundary"}
    assert all("PermissionsBoundary" not in role["Properties"] for role in minimal.resources("AWS::IAM::Role").values())


def test_only_network_and_tracing_actions_have_no_resource(stack: Synthesized) -> None:
    for actions in _granted(stack).values():
        assert {action.split(":")[0] for action, resources in actions.items() if "*" in resources} <= {"ec2", "xray"}


def test_run_objects_are_readable_and_writable_under_runs_only_and_the_journal_by_its_writers_only(stack: Synthesized) -> None:
    for name, actions in _granted(stack).items():
        for action in ("s3:GetObject", "s3:PutObject"):
            found = [resource["Fn::Join"][1][-1] for resource in actions.get(action, []) if resource != INI_OBJECT]
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
