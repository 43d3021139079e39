"""Another Grafana in the same account: a stack of its own in a VPC, with a password that RDS keeps, and the KMS key of another account.

grafana.ini is an SSM parameter, its secret_key comes from a secret as in an ECS task definition, the database is an RDS instance whose user has what
docs/install.md grants it, every role has a permissions boundary. What the functions reach, they reach by their roles alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from cli.__main__ import app
from cli.deployment import this_machine
from cli.exit_codes import ExitCode
from infra.toml_text import lines
from localaws.aws import ACCOUNT
from tests.e2e.conftest import PROVIDER, Sample, assert_golden_under
from tests.support import golden, servers, snapshot

ROOT = Path(__file__).resolve().parents[2]
STACK, OTHER_ACCOUNT, KEY_REGION = "grafana-vpc", "444455556666", "eu-north-1"
USER, PASSWORD = "grafana_reencrypt", "made-for-this-product"
PARAMETER, KEYS_SECRET, LOGIN_SECRET, ROLE, BOUNDARY = "/grafana/grafana.ini", "grafana/keys", "rds!db-grafana", "grafana-kms", "boundary"
# What docs/iam.md lists, by service: a boundary as an organisation would have it.
SERVICES = ("secretsmanager", "ssm", "s3", "kms", "sts", "rds", "dynamodb", "lambda", "states", "sns", "events", "logs", "xray", "ec2")


@dataclass(frozen=True)
class Installation:
    """The second stack, the database that it is for, and what it is deployed beside."""

    sample: Sample
    database: golden.GoldenDatabase
    outputs: dict[str, str]
    database_group: str

    def client(self, service: str, **options: Any) -> Any:
        return self.sample.deployed.client(service, **options)

    def run(self, request: object) -> dict[str, Any]:
        """A run from an operator's shell, with the facts of its end."""
        arguments = ["start", "--stack", STACK, "--input", json.dumps(request), "--watch", "--json"]
        done = CliRunner().invoke(app, arguments, env=dict(self.sample.deployed.aws.environment))
        assert done.exit_code == ExitCode.ENDED_WELL, done.output
        facts: dict[str, Any] = json.loads(done.stdout)
        return facts


@pytest.fixture
def installation(sample: Sample, tmp_path: Path) -> Iterator[Installation]:
    """Deployed; whether it is destroyed is the test's."""
    golden.require("12.4.0-mysql")
    deployed = sample.deployed
    with servers.server("mysql") as url, golden.loaded("12.4.0-mysql", tmp_path, url) as database:
        make_user(url, str(database.url.database))
        network = make_network(deployed.client("ec2"))
        settings = {
            "stack_name": STACK,
            "grafana_ini_parameter": PARAMETER,
            "kms_credentials": "role",
            "kms_role_to_assume": f"arn:aws:iam::{OTHER_ACCOUNT}:role/{ROLE}",
            "permissions_boundary": f"arn:aws:iam::{ACCOUNT}:policy/{BOUNDARY}",
            **this_machine(),
            "journal_days": 3,
            "tags": {"team": "observability"},
            "grafana_environment": {"GF_SECURITY_SECRET_KEY": f"{keep_settings(deployed, database)}:secret_key::"},
            "database": {
                "instance": "grafana",
                "port": url.port,
                "security_group_id": network["group"],
                "authentication": "secret",
                "secret": LOGIN_SECRET,
            },
            "vpc": {
                "vpc_id": network["vpc"],
                "subnet_ids": network["subnets"],
                "availability_zones": ["us-east-1a", "us-east-1b"],
                "security_group": "make",
                "endpoints": ["s3", "dynamodb", "kms", "secretsmanager", "ssm", "sts", "rds"],
                "route_table_ids": [network["routes"]],
            },
        }
        file, outputs = tmp_path / "grafana-vpc.toml", tmp_path / "outputs.json"
        file.write_text(lines(settings), encoding="utf-8")
        deployed.aws.synth({"settings": str(file)})
        deployed.aws.cdk("deploy", "--require-approval", "never", "--progress", "events", "--outputs-file", str(outputs))
        yield Installation(sample, database, json.loads(outputs.read_text())[STACK], network["group"])


def make_user(url: sa.URL, database: str) -> None:
    """With the statement that docs/install.md gives, and no other right."""
    [grant] = re.findall(r"^(GRANT .* ON grafana\.\* TO 'grafana_reencrypt'@'%');", (ROOT / "docs/install.md").read_text(), re.MULTILINE)
    with sa.create_engine(url).begin() as connection:
        connection.exec_driver_sql(f"CREATE OR REPLACE USER '{USER}'@'%%' IDENTIFIED BY '{PASSWORD}'")
        connection.exec_driver_sql(grant.replace("grafana.*", f"`{database}`.*").replace("%", "%%"))


def make_network(ec2: Any) -> dict[str, Any]:
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    zones = {"us-east-1a": "10.0.1.0/24", "us-east-1b": "10.0.2.0/24"}
    return {
        "vpc": vpc,
        "subnets": [ec2.create_subnet(VpcId=vpc, CidrBlock=block, AvailabilityZone=zone)["Subnet"]["SubnetId"] for zone, block in zones.items()],
        "group": ec2.create_security_group(GroupName="database", Description="of the database", VpcId=vpc)["GroupId"],
        "routes": ec2.create_route_table(VpcId=vpc)["RouteTable"]["RouteTableId"],
    }


def keep_settings(deployed: Any, database: golden.GoldenDatabase) -> str:
    """Makes what the settings name, but for the network; returns the ARN of the secret with secret_key."""
    rds, secrets, iam = deployed.client("rds"), deployed.client("secretsmanager"), deployed.client("iam")
    rds.create_db_instance(DBInstanceIdentifier="grafana", DBInstanceClass="db.t4g.micro", Engine="mariadb", MasterUsername="root",
                           MasterUserPassword="of-nobody", AllocatedStorage=20)  # fmt: skip
    secrets.create_secret(Name=LOGIN_SECRET, SecretString=json.dumps({"username": USER, "password": PASSWORD}))
    boundary = {"Effect": "Allow", "Action": [f"{service}:*" for service in SERVICES], "Resource": "*"}
    iam.create_policy(PolicyName=BOUNDARY, PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [boundary]}))
    there = deployed.client("iam", account=OTHER_ACCOUNT)
    key = deployed.client("kms", account=OTHER_ACCOUNT, region=KEY_REGION).create_key()["KeyMetadata"]["Arn"]
    trust = {"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}, "Action": "sts:AssumeRole"}
    there.create_role(RoleName=ROLE, AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [trust]}))
    use = {"Effect": "Allow", "Action": ["kms:Encrypt", "kms:Decrypt", "kms:DescribeKey"], "Resource": key}
    there.put_role_policy(RoleName=ROLE, PolicyName="keys", PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [use]}))
    ini = (
        f"{database.ini}\n[security]\nsecret_key = of another Grafana\nencryption_provider = {PROVIDER}\n"
        f"[security.encryption.{PROVIDER}]\nkey_id = {key}\nregion = {KEY_REGION}\n"
        "[database]\nhost = a-name-of-inside:1\nuser = grafana\npassword = of Grafana\n"
    )
    deployed.client("ssm").put_parameter(Name=PARAMETER, Value=ini, Type="SecureString")
    text = json.dumps({"secret_key": database.expected["secret_key"]})
    return str(secrets.create_secret(Name=KEYS_SECRET, SecretString=text)["ARN"])


def assert_under_the_other_accounts_key(installed: Installation) -> None:
    """Every value that the real Grafana wrote, read by the independent decryptor."""
    kms = installed.client("kms", account=OTHER_ACCOUNT, region=KEY_REGION)
    assert_golden_under(installed.database, lambda wrapped: kms.decrypt(CiphertextBlob=wrapped)["Plaintext"])


def test_a_second_grafana_in_a_vpc_with_anothers_kms_key_is_deployed_run_and_destroyed(installation: Installation) -> None:
    before = snapshot.take(installation.database.engine)
    plan = installation.run({})
    assert snapshot.difference(before, snapshot.take(installation.database.engine)) == []
    assert plan["totals"]["re_encrypted"] > 10
    done = installation.run({"mode": "re-encrypt", "providerReady": True, "settleSeconds": 0})
    assert done["totals"]["re_encrypted"] == plan["totals"]["re_encrypted"]
    assert_under_the_other_accounts_key(installation)
    verified = installation.run({"mode": "verify"})
    assert (verified["totals"]["re_encrypted"], verified["totals"]["unreadable"]) == (0, 0)
    listed = CliRunner().invoke(app, ["runs", "--stack", STACK, "--json"], env=dict(installation.sample.deployed.aws.environment))
    assert [run["run"] for run in json.loads(listed.stdout)] == [verified["run"], done["run"], plan["run"]], "its own runs, and not the other stack's"

    assert rules_of(installation) != []
    endpoints = installation.client("ec2").describe_vpc_endpoints()["VpcEndpoints"]
    assert len(endpoints) == 7

    installation.sample.deployed.aws.cdk("destroy", "--force")
    assert rules_of(installation) == [], "the database's group is as it was"
    assert installation.client("ec2").describe_vpc_endpoints()["VpcEndpoints"] == []
    left = {found["FunctionName"] for found in installation.client("lambda").list_functions()["Functions"]}
    assert left, "the other stack's"
    assert not any(name.startswith(STACK) for name in left)
    s3 = installation.client("s3")
    report = s3.get_object(Bucket=installation.outputs["RunBucketName"], Key=f"runs/{done['run']}/report.json")["Body"].read()
    assert json.loads(report)["outcome"] == "succeeded", "removal = retain: reports stay"
    assert s3.list_objects_v2(Bucket=installation.outputs["JournalBucketName"])["KeyCount"] > 0, "and so does the journal"
    assert_under_the_other_accounts_key(installation)
    assert installation.sample.deployed.run({}).ended_well, "the first installation has not noticed"


def rules_of(installed: Installation) -> list[Any]:
    """The rules of the database's security group."""
    [group] = installed.client("ec2").describe_security_groups(GroupIds=[installed.database_group])["SecurityGroups"]
    rules: list[Any] = group["IpPermissions"]
    return rules
