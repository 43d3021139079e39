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
from infra.workers import WORKERS
from tests.infrastructure.conftest import Synthesized


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


def test_there_is_one_function_for_each_worker_with_its_own_role_and_log_group(stack: Synthesized) -> None:
    functions = stack.resources("AWS::Lambda::Function").values()
    assert {f["Properties"]["Handler"] for f in functions} == {f"reencrypt.handlers.{worker.name}.handler" for worker in WORKERS}
    assert len({json.dumps(f["Properties"]["Role"]) for f in functions}) == len(WORKERS)
    assert len({json.dumps(f["Properties"]["LoggingConfig"]["LogGroup"]) for f in functions}) == len(WORKERS)
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


def test_the_state_machine_logs_every_event_without_its_data(stack: Synthesized) -> None:
    machine = stack.only("AWS::StepFunctions::StateMachine")["Properties"]
    assert (machine["LoggingConfiguration"]["Level"], machine["LoggingConfiguration"]["IncludeExecutionData"]) == ("ALL", False)
    assert machine["TracingConfiguration"] == {"Enabled": True}


def test_the_outputs_are_those_that_the_operator_command_reads(stack: Synthesized) -> None:
    always = {"StateMachineArn", "RunBucketName", "LeaseTableName", "TopicArn"}
    assert set(stack.template["Outputs"]) - {"JournalBucketName"} == always


def test_removal_retains_reports_and_logs_unless_the_settings_say_destroy(minimal: Synthesized, everything: Synthesized) -> None:
    for stack, policy in ((minimal, "Retain"), (everything, "Delete")):
        kept = [*stack.resources("AWS::S3::Bucket").values(), *stack.resources("AWS::Logs::LogGroup").values()]
        assert {resource["DeletionPolicy"] for resource in kept} == {policy}


def test_nothing_starts_by_itself_unless_a_schedule_is_declared(minimal: Synthesized, everything: Synthesized) -> None:
    assert not minimal.resources("AWS::Scheduler::Schedule")
    schedules = [schedule["Properties"] for schedule in everything.resources("AWS::Scheduler::Schedule").values()]
    found = {(s["ScheduleExpression"], s["ScheduleExpressionTimezone"], s["Target"]["Input"]) for s in schedules}
    assert found == {
        ("cron(0 3 ? * SUN *)", "Europe/Berlin", "{}"),
        ("rate(30 days)", "UTC", '{"mode":"re-encrypt","tables":["data_source"]}'),
    }


def test_in_a_vpc_the_functions_use_the_given_subnets_and_groups_and_nothing_is_made(minimal: Synthesized, everything: Synthesized) -> None:
    assert all("VpcConfig" not in f["Properties"] for f in minimal.resources("AWS::Lambda::Function").values())
    for function in everything.resources("AWS::Lambda::Function").values():
        assert function["Properties"]["VpcConfig"] == {
            "SubnetIds": ["subnet-0123456789abcdef0", "subnet-0123456789abcdef1"], "SecurityGroupIds": ["sg-0123456789abcdef0"]}  # fmt: skip
    assert not {kind for kind in (r["Type"] for r in everything.template["Resources"].values()) if kind.startswith("AWS::EC2::")}
