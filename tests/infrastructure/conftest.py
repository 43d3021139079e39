"""Synthesizes the stack once per settings file, in this process, without bundling: no wheel is downloaded, no account is asked."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION", "20")  # before jsii starts node

import aws_cdk as cdk

from infra.nag import check
from infra.settings import load_settings
from infra.stack import ReencryptStack

ROOT = Path(__file__).resolve().parents[2]
KEY_ARNS = (
    "arn:aws:kms:eu-north-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
    "arn:aws:kms:us-east-1:444455556666:key/mrk-1234abcd12ab34cd56ef1234567890ab",
)
SETTINGS_KEY_ARN = "arn:aws:kms:eu-north-1:111122223333:key/0987dcba-09fe-87dc-65ba-ab0987654321"
SECRET_ARN = "arn:aws:secretsmanager:eu-north-1:111122223333:secret:grafana/keys-AbCdEf"
PARAMETER_ARN = "arn:aws:ssm:eu-north-1:111122223333:parameter/grafana/database-name"
SETTINGS = {
    "minimal": 'grafana_ini_secret = "grafana/ini"\n',
    "no journal": 'grafana_ini_secret = "grafana/ini"\njournal_days = 0\n',
    "everything": f"""
        stack_name = "grafana-prod"
        account = "111122223333"
        region = "eu-north-1"
        grafana_ini_secret = "arn:aws:secretsmanager:eu-north-1:111122223333:secret:grafana/ini-AbCdEf"
        grafana_environment_secret = "grafana/environment"
        kms_key_arns = {json.dumps(KEY_ARNS)}
        kms_credentials = "role"
        kms_encryption_context = {{purpose = "grafana"}}
        kms_role_to_assume = "arn:aws:iam::444455556666:role/grafana-kms"
        max_concurrency = 7
        architecture = "x86_64"
        notify_emails = ["oncall@example.com"]
        log_retention_days = 30
        journal_days = 7
        removal = "destroy"
        [[secret_column]]
        table = "setting"
        primary_key = ["id"]
        column = "encrypted_value"
        shape = "base64"
        base64 = "std"
        plaintext = "text"
        [[schedule]]
        name = "weekly-plan"
        expression = "cron(0 3 ? * SUN *)"
        time_zone = "Europe/Berlin"
        [[schedule]]
        name = "monthly"
        expression = "rate(30 days)"
        input = {{mode = "re-encrypt", tables = ["data_source"]}}
        [vpc]
        vpc_id = "vpc-0123456789abcdef0"
        subnet_ids = ["subnet-0123456789abcdef0", "subnet-0123456789abcdef1"]
        availability_zones = ["eu-north-1a", "eu-north-1b"]
        security_group_ids = ["sg-0123456789abcdef0"]
    """,
    "vpc, rds password": f"""
        stack_name = "grafana-vpc"
        grafana_ini_parameter = "/grafana/grafana.ini"
        grafana_environment = {{GF_SECURITY_SECRET_KEY = "{SECRET_ARN}:secret_key::", GF_DATABASE_NAME = "{PARAMETER_ARN}"}}
        settings_kms_key_arns = ["{SETTINGS_KEY_ARN}"]
        permissions_boundary = "arn:aws:iam::111122223333:policy/boundary"
        tags = {{team = "observability", cost-center = "4711"}}
        memory_mb = 3008
        lambda_python = "3.12"
        [database]
        instance = "grafana"
        port = 5432
        security_group_id = "sg-0123456789abcdef1"
        authentication = "secret"
        secret = "rds!db-1234abcd"
        tls = "verify-full"
        ca_bundle = "public"
        [vpc]
        vpc_id = "vpc-0123456789abcdef0"
        subnet_ids = ["subnet-0123456789abcdef0", "subnet-0123456789abcdef1", "subnet-0123456789abcdef2"]
        availability_zones = ["eu-north-1a", "eu-north-1b", "eu-north-1a"]
        security_group = "make"
        prefix_list_ids = ["pl-0123456789abcdef0"]
        endpoints = ["s3", "dynamodb", "kms", "secretsmanager", "ssm", "rds"]
        route_table_ids = ["rtb-0123456789abcdef0"]
    """,
    "aurora, iam token, keys of another account": f"""
        stack_name = "grafana-aurora"
        account = "111122223333"
        region = "eu-north-1"
        kms_key_arns = ["{KEY_ARNS[1]}"]
        kms_role_to_assume = "arn:aws:iam::444455556666:role/grafana-kms"
        kms_credentials = "role"
        [grafana_ini_object]
        bucket = "team-configuration"
        key = "grafana/grafana.ini"
        version = "3sL4kqtJlcpXroDTDmJ.rmSpXd3dIbrH"
        [database]
        cluster = "grafana"
        port = 3306
        security_group_id = "sg-0123456789abcdef1"
        authentication = "iam"
        user = "grafana_reencrypt"
        resource_id = "cluster-ABCDEFGHIJKL01234"
        ca_bundle = "public"
        [vpc]
        vpc_id = "vpc-0123456789abcdef0"
        subnet_ids = ["subnet-0123456789abcdef0"]
        availability_zones = ["eu-north-1a"]
        security_group_ids = ["sg-0123456789abcdef0"]
    """,
    "rds proxy": """
        stack_name = "grafana-proxy"
        [grafana_ini_object]
        bucket = "team-configuration"
        key = "grafana/grafana.ini"
        [database]
        host = "grafana.proxy-abcdefghijkl.eu-north-1.rds.amazonaws.com"
        port = 5432
        authentication = "iam"
        user = "grafana_reencrypt"
        resource_id = "prx-0123456789abcdef0"
        ca_bundle = "public"
        security_group_id = "sg-0123456789abcdef1"
        [vpc]
        vpc_id = "vpc-0123456789abcdef0"
        subnet_ids = ["subnet-0123456789abcdef0"]
        availability_zones = ["eu-north-1a"]
        security_group = "make"
    """,
    "two schedules": """
        stack_name = "grafana-scheduled"
        grafana_ini_secret = "grafana/ini"
        notify_emails = ["oncall@example.com"]
        notify_on_success = true
        alarm_topic_arns = ["arn:aws:sns:eu-north-1:111122223333:pager"]
        [[schedule]]
        name = "weekly-plan"
        expression = "cron(0 3 ? * SUN *)"
        time_zone = "Europe/Berlin"
        enabled = true
        flexible_minutes = 30
        alarm_after_days = 9
        [[schedule]]
        name = "quarterly-rotation"
        expression = "cron(0 4 1 1,4,7,10 ? *)"
        input = {mode = "rotate", onUnreadable = "report"}
        enabled = true
        retry_minutes = 120
        alarm_after_days = 100
    """,
    "everything off": """
        grafana_ini_secret = "grafana/ini"
        journal_days = 0
        alarms = false
        dashboard = false
    """,
}


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: downloads packages; part of ./test, left out with -m 'not slow'")


@dataclass(frozen=True)
class Synthesized:
    """A template, with helpers that the tests share."""

    template: dict[str, Any]
    file: Path

    def resources(self, kind: str) -> dict[str, dict[str, Any]]:
        return {name: resource for name, resource in self.template["Resources"].items() if resource["Type"] == kind}

    def only(self, kind: str) -> dict[str, Any]:
        (resource,) = self.resources(kind).values()
        return resource

    def function_of_role(self) -> dict[str, str]:
        """Logical id of each function's role → the function's name in `infra.workers.WORKERS`."""
        return {
            function["Properties"]["Role"]["Fn::GetAtt"][0]: function["Properties"]["Handler"].split(".")[2]
            for function in self.resources("AWS::Lambda::Function").values()
        }

    def statements(self, role: str) -> list[dict[str, Any]]:
        """Every statement of every policy of the role."""
        return [
            statement
            for policy in self.resources("AWS::IAM::Policy").values()
            if {"Ref": role} in policy["Properties"]["Roles"]
            for statement in policy["Properties"]["PolicyDocument"]["Statement"]
        ]

    def definition(self) -> dict[str, Any]:
        """The state machine's definition, its tokens replaced by ARN-shaped dummies."""
        parts = self.only("AWS::StepFunctions::StateMachine")["Properties"]["DefinitionString"]["Fn::Join"][1]
        loaded: dict[str, Any] = json.loads("".join(part if isinstance(part, str) else _dummy(part) for part in parts))
        return loaded


def _dummy(token: dict[str, Any]) -> str:
    match token:
        case {"Ref": "AWS::Partition"}:
            return "aws"
        case {"Fn::GetAtt": [name, "Arn"]}:
            return f"arn:aws:lambda:eu-north-1:111122223333:function:{name}"
        case {"Ref": name}:
            return f"arn:aws:sns:eu-north-1:111122223333:{name}" if "Topic" in name else name
        case _:
            raise AssertionError(f"unexpected token in the definition: {token}")


def synthesized(name: str, folder: Path) -> Synthesized:
    """The stack of `SETTINGS[name]`, made in `folder`."""
    folder.mkdir(exist_ok=True)
    (folder / "settings.toml").write_text(SETTINGS[name])
    settings = load_settings(folder / "settings.toml")
    context = json.loads((ROOT / "cdk.json").read_text())["context"]
    app = cdk.App(outdir=str(folder / "cdk.out"), context={**context, "aws:cdk:bundling-stacks": []})
    ReencryptStack(app, settings)
    check(app)
    app.synth()
    file = folder / "cdk.out" / f"{settings.stack_name}.template.json"
    return Synthesized(json.loads(file.read_text()), file)


@pytest.fixture(scope="session")
def synthesize(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Synthesized]:
    """`synthesize(name)`: the stack of `SETTINGS[name]`, made once; cdk-nag runs within, and a finding raises."""
    done: dict[str, Synthesized] = {}

    def of(name: str) -> Synthesized:
        if name not in done:
            done[name] = synthesized(name, tmp_path_factory.mktemp(f"cdk-{name}"))
        return done[name]

    return of


@pytest.fixture(params=list(SETTINGS))
def stack(request: pytest.FixtureRequest, synthesize: Callable[[str], Synthesized]) -> Synthesized:
    """Each of the stacks in turn."""
    return synthesize(request.param)


@pytest.fixture
def minimal(synthesize: Callable[[str], Synthesized]) -> Synthesized:
    return synthesize("minimal")


@pytest.fixture
def everything(synthesize: Callable[[str], Synthesized]) -> Synthesized:
    return synthesize("everything")
