"""The synthesized template: what is encrypted, kept, logged and announced; and the linters' word on it. cdk-nag runs in each synthesis."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aws_cdk as cdk
import pytest
from aws_cdk import aws_s3 as s3

from infra.nag import check
from infra.setting_grafana import fits
from infra.workers import WORKERS
from tests.infrastructure.conftest import PARAMETER_ARN, SECRET_ARN, Synthesized

WATCHES = "reencrypt.handlers.watch_age.handler"  # only where a schedule is watched: tests/infrastructure/test_schedule.py


def test_cfn_lint_finds_nothing(stack: Synthesized) -> None:
    # W3005: CDK itself writes a DependsOn on each role beside the reference to it, so that the role's policy is there first.
    lint = Path(sys.executable).parent / "cfn-lint"
    done = subprocess.run([lint, "--non-zero-exit-code", "warning", "--ignore-checks", "W3005", "--", stack.file],
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_cdk_nag_is_on_and_stops_a_synthesis_with_a_finding(tmp_path: Path) -> None:
    app = cdk.App(outdir=str(tmp_path))
    s3.Bucket(cdk.Stack(app, "Careless"), "Bucket")
    check(app)
    with pytest.raises(RuntimeError, match="does not require requests to use SSL"):
        app.synth()


def _bucket(stack: Synthesized, word: str) -> tuple[str, dict[str, Any]]:
    """The logical id and the resource of the bucket whose id has `word` in it."""
    ((name, bucket),) = ((name, bucket) for name, bucket in stack.resources("AWS::S3::Bucket").items() if word in name)
    return name, bucket


def _is_private_and_versioned_and_takes_tls_only(stack: Synthesized, name: str, bucket: dict[str, Any]) -> None:
    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
    assert bucket["VersioningConfiguration"] == {"Status": "Enabled"}
    policies = stack.resources("AWS::S3::BucketPolicy").values()
    (policy,) = (policy["Properties"] for policy in policies if policy["Properties"]["Bucket"] == {"Ref": name})
    (deny,) = policy["PolicyDocument"]["Statement"]
    assert (deny["Effect"], deny["Condition"]) == ("Deny", {"Bool": {"aws:SecureTransport": "false"}})


def _expiry(bucket: dict[str, Any]) -> tuple[int, int]:
    (rule,) = bucket["LifecycleConfiguration"]["Rules"]
    assert rule["Status"] == "Enabled"
    return rule["ExpirationInDays"], rule["NoncurrentVersionExpiration"]["NoncurrentDays"]


def test_the_run_bucket_is_encrypted_private_versioned_and_expires(stack: Synthesized) -> None:
    name, resource = _bucket(stack, "RunBucket")
    bucket = resource["Properties"]
    assert bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"][0]["ServerSideEncryptionByDefault"] == {"SSEAlgorithm": "AES256"}
    assert _expiry(bucket) == (400, 30)
    _is_private_and_versioned_and_takes_tls_only(stack, name, bucket)


def test_the_journal_lies_under_a_key_of_its_own_for_as_long_as_the_settings_say(minimal: Synthesized, everything: Synthesized) -> None:
    for stack, days in ((minimal, 30), (everything, 7)):
        name, resource = _bucket(stack, "Journal")
        bucket = resource["Properties"]
        ((key, properties),) = ((key, made["Properties"]) for key, made in stack.resources("AWS::KMS::Key").items() if "Journal" in key)
        encryption = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"][0]
        assert encryption["ServerSideEncryptionByDefault"] == {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": {"Fn::GetAtt": [key, "Arn"]}}
        assert properties["EnableKeyRotation"] is True
        assert _expiry(bucket) == (days, 1)
        _is_private_and_versioned_and_takes_tls_only(stack, name, bucket)
        assert {stack.resources("AWS::KMS::Key")[key]["DeletionPolicy"], resource["DeletionPolicy"]} == {"Retain" if stack is minimal else "Delete"}


def test_a_journal_that_is_switched_off_leaves_no_bucket_no_key_and_no_grant(synthesize: Callable[[str], Synthesized]) -> None:
    stack = synthesize("no journal")
    assert len(stack.resources("AWS::S3::Bucket")) == 1
    assert not [name for name in stack.resources("AWS::KMS::Key") if "Journal" in name]
    assert "JournalBucketName" not in stack.template["Outputs"]
    assert all("JOURNAL_BUCKET" not in f["Properties"]["Environment"]["Variables"] for f in stack.resources("AWS::Lambda::Function").values())
    assert "journal/" not in json.dumps(stack.resources("AWS::IAM::Policy"))


def test_the_lease_expires_by_itself(stack: Synthesized) -> None:
    table = stack.only("AWS::DynamoDB::Table")["Properties"]
    assert table["KeySchema"] == [{"AttributeName": "pk", "KeyType": "HASH"}]
    assert table["TimeToLiveSpecification"] == {"AttributeName": "expires", "Enabled": True}


def test_there_is_one_function_for_each_worker_with_its_own_role_and_log_group(stack: Synthesized) -> None:
    functions = stack.resources("AWS::Lambda::Function").values()
    assert {f["Properties"]["Handler"] for f in functions} - {WATCHES} == {f"reencrypt.handlers.{worker.name}.handler" for worker in WORKERS}
    assert len({json.dumps(f["Properties"]["Role"]) for f in functions}) == len(functions)
    assert len({json.dumps(f["Properties"]["LoggingConfig"]["LogGroup"]) for f in functions}) == len(functions)
    assert {f["Properties"]["TracingConfig"]["Mode"] for f in functions} == {"Active"}


def test_the_defaults_are_arm64_and_python_3_13(minimal: Synthesized) -> None:
    functions = minimal.resources("AWS::Lambda::Function").values()
    assert {(f["Properties"]["Runtime"], *f["Properties"]["Architectures"]) for f in functions} == {("python3.13", "arm64")}


def test_the_functions_get_names_of_secrets_and_no_secret(everything: Synthesized) -> None:
    for function in everything.resources("AWS::Lambda::Function").values():
        environment = function["Properties"]["Environment"]["Variables"]
        assert {name: value for name, value in environment.items() if isinstance(value, str)} == {
            "GRAFANA_INI_SECRET": "arn:aws:secretsmanager:eu-north-1:111122223333:secret:grafana/ini-AbCdEf",
            "GRAFANA_ENVIRONMENT_SECRET": "grafana/environment",
            "KMS_CREDENTIALS": "role",
            "KMS_ENCRYPTION_CONTEXT": '{"purpose": "grafana"}',
            "KMS_ROLE_TO_ASSUME": "arn:aws:iam::444455556666:role/grafana-kms",
            "MAX_CONCURRENCY": "7",
            "WORKER_MEMORY_MB": "1769",
            "POWERTOOLS_SERVICE_NAME": "grafana-prod",
            "POWERTOOLS_METRICS_NAMESPACE": "GrafanaReencrypt",
            "POWERTOOLS_LOG_LEVEL": "INFO",
        }
        assert set(environment) >= {"RUN_BUCKET", "LEASE_TABLE"}


OF_THE_CONFIGURATION = {"GRAFANA_INI_SECRET", "GRAFANA_INI_PARAMETER", "GRAFANA_INI_OBJECT", "GRAFANA_ENVIRONMENT_SECRET", "GRAFANA_ENVIRONMENT",
                        "DATABASE_ACCESS"}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "variables"),
    [
        ("minimal", {"GRAFANA_INI_SECRET": "grafana/ini"}),
        (
            "vpc, rds password",
            {
                "GRAFANA_INI_PARAMETER": "/grafana/grafana.ini",
                "GRAFANA_ENVIRONMENT": {"GF_SECURITY_SECRET_KEY": f"{SECRET_ARN}:secret_key::", "GF_DATABASE_NAME": PARAMETER_ARN},
                "DATABASE_ACCESS": {
                    "instance": "grafana", "port": 5432, "authentication": "secret", "secret": "rds!db-1234abcd", "tls": "verify-full", "ca_bundle": "public",
                },
            },
        ),
        (
            "aurora, iam token, keys of another account",
            {
                "GRAFANA_INI_OBJECT": {"bucket": "team-configuration", "key": "grafana/grafana.ini", "version": "3sL4kqtJlcpXroDTDmJ.rmSpXd3dIbrH"},
                "DATABASE_ACCESS": {"cluster": "grafana", "port": 3306, "authentication": "iam", "user": "grafana_reencrypt", "ca_bundle": "public"},
            },
        ),
    ],
)  # fmt: skip
def test_the_functions_learn_where_the_configuration_and_the_database_are(
    synthesize: Callable[[str], Synthesized], name: str, variables: dict[str, object]
) -> None:
    for function in synthesize(name).resources("AWS::Lambda::Function").values():
        environment = function["Properties"]["Environment"]["Variables"]
        found = {key: environment[key] for key in OF_THE_CONFIGURATION & set(environment)}
        assert {key: json.loads(value) if value.startswith("{") else value for key, value in found.items()} == variables


def test_the_environment_of_a_function_fits_into_lambdas_four_kilobytes_with_the_longest_map_of_variables(everything: Synthesized) -> None:
    longest: dict[str, str] = {}
    while fits(longest | {f"GF_{len(longest)}": SECRET_ARN}):
        longest[f"GF_{len(longest)}"] = SECRET_ARN
    assert len(longest) > 15
    for function in everything.resources("AWS::Lambda::Function").values():
        variables = function["Properties"]["Environment"]["Variables"] | {"GRAFANA_ENVIRONMENT": json.dumps(longest)}
        token = "x" * 255  # no name of ours is longer
        assert sum(len(name) + len(value if isinstance(value, str) else token) for name, value in variables.items()) < 4096


def test_tags_are_on_everything_that_takes_tags(synthesize: Callable[[str], Synthesized], minimal: Synthesized) -> None:
    wanted = {"team": "observability", "cost-center": "4711"}
    tagged = synthesize("vpc, rds password")
    for kind in ("AWS::Lambda::Function", "AWS::IAM::Role", "AWS::S3::Bucket", "AWS::DynamoDB::Table", "AWS::KMS::Key", "AWS::Logs::LogGroup",
                 "AWS::SNS::Topic", "AWS::StepFunctions::StateMachine", "AWS::EC2::SecurityGroup", "AWS::EC2::VPCEndpoint"):  # fmt: skip
        resources = tagged.resources(kind)
        assert resources, kind
        for name, resource in resources.items():
            assert {tag["Key"]: tag["Value"] for tag in resource["Properties"]["Tags"]} == wanted, name
    assert "observability" not in json.dumps(minimal.template)


def test_architecture_memory_python_log_retention_and_concurrency_are_those_of_the_settings(synthesize: Callable[[str], Synthesized]) -> None:
    everything, other = synthesize("everything"), synthesize("vpc, rds password")
    machines = {tuple(f["Properties"]["Architectures"]) for f in everything.resources("AWS::Lambda::Function").values()}
    assert machines == {("x86_64",)}
    functions = [f["Properties"] for f in other.resources("AWS::Lambda::Function").values()]
    assert {function["Runtime"] for function in functions} == {"python3.12"}
    light = {f"reencrypt.handlers.{worker.name}.handler" for worker in WORKERS if worker.light}
    assert {function["MemorySize"] for function in functions if function["Handler"] not in light} == {3008}
    assert {function["MemorySize"] for function in functions if function["Handler"] in light} == {512}
    assert {group["Properties"]["RetentionInDays"] for group in everything.resources("AWS::Logs::LogGroup").values()} == {30}
    assert {group["Properties"]["RetentionInDays"] for group in other.resources("AWS::Logs::LogGroup").values()} == {90}


def test_the_state_machine_logs_every_event_without_its_data(stack: Synthesized) -> None:
    machine = stack.only("AWS::StepFunctions::StateMachine")["Properties"]
    assert (machine["LoggingConfiguration"]["Level"], machine["LoggingConfiguration"]["IncludeExecutionData"]) == ("ALL", False)
    assert machine["TracingConfiguration"] == {"Enabled": True}


def test_the_outputs_are_those_that_the_operator_command_reads(stack: Synthesized) -> None:
    always = {"StateMachineArn", "RunBucketName", "LeaseTableName", "TopicArn", "WorkerMegabytes"}
    assert set(stack.template["Outputs"]) - {"JournalBucketName", "DeclaredTables"} == always
    assert stack.template["Outputs"].get("DeclaredTables", {}).get("Value") in (None, "setting"), "only where the settings declare columns"


def test_removal_retains_reports_and_logs_unless_the_settings_say_destroy(minimal: Synthesized, everything: Synthesized) -> None:
    for stack, policy in ((minimal, "Retain"), (everything, "Delete")):
        kept = [*stack.resources("AWS::S3::Bucket").values(), *stack.resources("AWS::Logs::LogGroup").values()]
        assert {resource["DeletionPolicy"] for resource in kept} == {policy}


def test_in_a_vpc_the_functions_use_the_given_subnets_and_groups_and_nothing_is_made(minimal: Synthesized, everything: Synthesized) -> None:
    assert all("VpcConfig" not in f["Properties"] for f in minimal.resources("AWS::Lambda::Function").values())
    for function in everything.resources("AWS::Lambda::Function").values():
        assert function["Properties"]["VpcConfig"] == {
            "SubnetIds": ["subnet-0123456789abcdef0", "subnet-0123456789abcdef1"], "SecurityGroupIds": ["sg-0123456789abcdef0"]}  # fmt: skip
    assert not {kind for kind in (r["Type"] for r in everything.template["Resources"].values()) if kind.startswith("AWS::EC2::")}
