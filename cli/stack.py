"""A deployed stack: its outputs and the clients that reach it. `find_stack("grafana-prod", …)`.

The stack's outputs say where its state machine and its run bucket are; nothing else is guessed.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from cli.aws_problems import Patience, code_of
from cli.exit_codes import CannotGoOn, ExitCode
from reencrypt.storage.bucket import S3Bucket
from reencrypt.storage.objects import RunStore

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_stepfunctions import SFNClient

STATE_MACHINE, BUCKET, WORKER_MEGABYTES, DECLARED_TABLES = "StateMachineArn", "RunBucketName", "WorkerMegabytes", "DeclaredTables"
_CONSOLES = {"aws": "console.aws.amazon.com", "aws-cn": "console.amazonaws.cn", "aws-us-gov": "console.amazonaws-us-gov.com"}
# The SDK's own quick tries; cli/aws_problems.py adds the patient ones.
_CONFIG = Config(retries={"mode": "standard", "total_max_attempts": 4}, connect_timeout=10, read_timeout=30)
_RUN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+=@-]{0,99}")


@dataclass(frozen=True)
class Stack:
    """One deployment. `options` is how the user named it, to be repeated in what we tell them to type."""

    name: str
    region: str
    options: str
    outputs: Mapping[str, str]
    stepfunctions: SFNClient
    s3: S3Client
    patience: Patience

    @property
    def state_machine(self) -> str:
        return self.outputs[STATE_MACHINE]

    @property
    def bucket(self) -> str:
        return self.outputs[BUCKET]

    @property
    def worker_megabytes(self) -> int | None:
        """A worker's memory, for the cost so far; None for a stack that was deployed before it had this output."""
        return int(self.outputs[WORKER_MEGABYTES]) if WORKER_MEGABYTES in self.outputs else None

    @property
    def declared_tables(self) -> frozenset[str]:
        """Tables with secrets that only this deployment knows of ([[secret_column]] of its settings)."""
        return frozenset(filter(None, self.outputs.get(DECLARED_TABLES, "").split(",")))

    def store(self, run: str) -> RunStore:
        """The objects of a run."""
        return RunStore(S3Bucket(self.bucket, self.s3), run)

    def text(self, run: str, file: str) -> str | None:
        """A file of a run exactly as it is; None where it has none."""
        body = S3Bucket(self.bucket, self.s3).get(self.store(run).full_key(file))
        return None if body is None else body.decode()

    def location(self, run: str, file: str) -> str:
        """Where a file of a run is, as `aws s3 cp` takes it."""
        return f"s3://{self.bucket}/{self.store(run).full_key(file)}"

    def execution(self, run: str) -> str:
        """The ARN of the execution of that name, or of that ARN. Raises CannotGoOn for what can be neither."""
        prefix = self.state_machine.replace(":stateMachine:", ":execution:") + ":"
        name = run.removeprefix(prefix)
        if run.startswith("arn:") and name == run:
            raise CannotGoOn(ExitCode.NOTHING_STARTED, f"{run} is no execution of the stack {self.name}, whose executions begin with {prefix}")
        if not _RUN.fullmatch(name):
            raise CannotGoOn(ExitCode.NOTHING_STARTED, "the name of a run has only letters, digits, - and _; `runs` lists them")
        return prefix + name

    def console_url(self, execution: str) -> str:
        """The execution's page in the Step Functions console."""
        console = _CONSOLES.get(execution.split(":")[1], _CONSOLES["aws"])
        return f"https://{self.region}.{console}/states/home?region={self.region}#/v2/executions/details/{execution}"

    def command(self, verb: str, run: str = "", more: str = "") -> str:
        """The command line to type next."""
        return " ".join(filter(None, ["./grafana-reencrypt", verb, self.options, shlex.quote(run) if run else "", more]))


def find_stack(name: str, region: str | None, profile: str | None, *, session: Any = None, patience: Patience | None = None) -> Stack:
    """The deployed stack `name`. Raises CannotGoOn where there is none, or it is another product's; whatever boto3 raises for the rest."""
    # boto3 itself reads AWS_DEFAULT_REGION only; every other SDK, the CDK and the AWS CLI know AWS_REGION.
    session = session or boto3.Session(profile_name=profile, region_name=region or os.environ.get("AWS_REGION") or None)
    patience = patience or Patience()
    formation = session.client("cloudformation", config=_CONFIG)
    where = formation.meta.region_name
    try:
        [described] = patience(lambda: formation.describe_stacks(StackName=name))["Stacks"]
    except ClientError as error:
        if code_of(error) == "ValidationError":  # CloudFormation's word for a stack that does not exist, and for a name that can be none
            raise CannotGoOn(ExitCode.AWS_PROBLEM, f"there is no stack {name} in {where} in this account: check --stack, --region and --profile") from None
        raise
    outputs = {output["OutputKey"]: output["OutputValue"] for output in described.get("Outputs", ())}
    missing = [key for key in (STATE_MACHINE, BUCKET) if key not in outputs]
    if missing:
        raise CannotGoOn(
            ExitCode.AWS_PROBLEM,
            f"the stack {name} ({described['StackStatus']}) has no output {' and no output '.join(missing)}: "
            "it is not one of this product's, or its deployment has not succeeded",
        )
    given = {"--stack": name, "--region": region, "--profile": profile}
    options = " ".join(f"{option} {shlex.quote(value)}" for option, value in given.items() if value)
    return Stack(name, where, options, outputs, session.client("stepfunctions", config=_CONFIG), session.client("s3", config=_CONFIG), patience)
