"""The AWS services of a run in this process, real boto3 clients and all, and a switch that makes any of their operations refuse.

MiniStack's services answer without a socket between. A refusal is given where botocore's own Stubber gives one, so the caller gets the very
ClientError, of the class that the service's model has for the code, and no retry waits. `HandlerRun` takes the real Lambda handlers through
the steps of the state machine, in its order and with its catches (infra/run_definition.py).
"""

from __future__ import annotations

import asyncio
import importlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import boto3
import pytest
from aws_lambda_powertools.utilities import parameters
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.config import Config

from reencrypt.errors import ReencryptError
from reencrypt.grafana.settings import KmsSection
from reencrypt.handlers import workspace
from reencrypt.providers.awskms import AwsKmsProvider, KmsOptions

SERVICES = ("s3", "dynamodb", "kms", "secretsmanager")
RUN_BUCKET, JOURNAL_BUCKET, LEASE_TABLE, INI_SECRET = "run-bucket", "journal-bucket", "lease", "grafana.ini"
KMS_ALIAS = "alias/example"
_SESSION = boto3.Session("testing", "testing", region_name="eu-north-1")  # loads each service's model once
_make_client = _SESSION.client


class _Body:
    """A response's body as botocore reads it from urllib3."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def read(self, amount: int | None = None) -> bytes:
        size = len(self._body) if amount is None else amount
        taken, self._body = self._body[:size], self._body[size:]
        return taken

    def stream(self) -> list[bytes]:
        return [self.read()]

    def close(self) -> None:
        """Nothing is open."""


@dataclass
class _Answer:
    status_code: int


@dataclass
class Refusal:
    """`operation` of `service` is answered with `code` where `where` stands in the request's URL; the first `spared` calls are let through."""

    service: str
    operation: str
    code: str
    status: int = 400
    where: str = ""
    spared: int = 0
    message: str = "no"
    times: int = field(default=0, init=False)


class FaultyAws:
    """One account with what a deployment has: two buckets, the lease's table, a KMS key, and the secret with grafana.ini."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, ini: str) -> None:
        self.refusals: list[Refusal] = []
        self._clients = {name: self._client(name) for name in SERVICES}
        monkeypatch.setattr(boto3.session.Session, "client", lambda _session, name, **_options: self._clients[name])
        for name, value in {
            "RUN_BUCKET": RUN_BUCKET, "JOURNAL_BUCKET": JOURNAL_BUCKET, "LEASE_TABLE": LEASE_TABLE, "GRAFANA_INI_SECRET": INI_SECRET,
            "MAX_CONCURRENCY": "4", "AWS_DEFAULT_REGION": "eu-north-1",
        }.items():  # fmt: skip
            monkeypatch.setenv(name, value)
        for name in ("GRAFANA_ENVIRONMENT_SECRET", "KMS_CREDENTIALS", "KMS_ROLE_TO_ASSUME", "KMS_ENCRYPTION_CONTEXT"):
            monkeypatch.delenv(name, raising=False)
        self._deploy(ini)
        self.cold_start()

    def refuse(self, service: str, operation: str, code: str, status: int = 400, **options: Any) -> Refusal:
        """From now on `operation` is refused; see Refusal."""
        self.refusals.append(Refusal(service, operation, code, status, **options))
        return self.refusals[-1]

    def recover(self) -> None:
        """Every service answers again, to new processes."""
        self.refusals.clear()
        self.cold_start()

    @staticmethod
    def cold_start() -> None:
        """The next handler is called in a process that has read nothing yet."""
        workspace._settings.cache_clear()
        workspace._providers_of.cache_clear()
        parameters.clear_caches()  # type: ignore[no-untyped-call]  # Powertools declares no types for it

    def unwrap(self, wrapped: bytes) -> bytes:
        """A data key by KMS, for a test's own reader."""
        return AwsKmsProvider(KmsSection("awskms.test", KMS_ALIAS), KmsOptions(), self._clients["kms"]).unwrap(wrapped)

    def client(self, service: str) -> Any:
        """The service's client."""
        return self._clients[service]

    def _client(self, name: str) -> Any:
        module = importlib.import_module(f"ministack.services.{name}")
        module.reset()
        made: Any = _make_client(name, config=Config(request_checksum_calculation="when_required", s3={"addressing_style": "path"}))  # type: ignore[call-overload]  # any service
        made.meta.events.register_first("before-call", self._before_call)
        made.meta.events.register("before-send", lambda request, **_: _answered(module, request))
        return made

    def _before_call(self, event_name: str, params: dict[str, Any], **_: Any) -> tuple[_Answer, dict[str, Any]] | None:
        service, operation = event_name.split(".")[1:]
        for refusal in self.refusals:
            if (refusal.service, refusal.operation) != (service.replace("-", ""), operation) or refusal.where not in params["url"]:
                continue
            if refusal.spared > 0:
                refusal.spared -= 1
                continue
            refusal.times += 1
            answer = {"Code": refusal.code, "Message": refusal.message}
            return _Answer(refusal.status), {"Error": answer, "ResponseMetadata": {"HTTPStatusCode": refusal.status}}
        return None

    def _deploy(self, ini: str) -> None:
        for bucket in (RUN_BUCKET, JOURNAL_BUCKET):
            self._clients["s3"].create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "eu-north-1"})
        self._clients["dynamodb"].create_table(
            TableName=LEASE_TABLE,
            BillingMode="PAY_PER_REQUEST",
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
        )
        key = self._clients["kms"].create_key()["KeyMetadata"]["KeyId"]
        self._clients["kms"].create_alias(AliasName=KMS_ALIAS, TargetKeyId=key)
        self._clients["secretsmanager"].create_secret(Name=INI_SECRET, SecretString=ini)


@dataclass
class HandlerRun:
    """An execution of the state machine: `errors` are those of the map's children, which a map tolerates; `report` is what the report's state returns."""

    name: str
    given: dict[str, Any]
    after_chunk: Callable[[int], None] = lambda count: None
    errors: list[ReencryptError] = field(default_factory=list)
    report: dict[str, Any] = field(default_factory=dict)
    unreported: ReencryptError | None = None

    def __post_init__(self) -> None:
        self._event = {"run": self.name, "input": self.given, "execution": f"arn:{self.name}", "started": datetime.now(UTC).isoformat()}
        try:
            self._steps()
        except ReencryptError as error:
            self._report_failure(error)
        if self.given.get("mode") in ("re-encrypt", "restore"):
            try:
                self._call("release_lease")
            except ReencryptError as error:
                self.errors.append(error)

    def _steps(self) -> None:
        found = self._call("preflight")
        self._call("plan_chunks")
        if found["writes"]:
            self._call("acquire_lease")
        if found["encrypts"]:
            self._call("choose_data_key")
        self._map("process")
        if found["writes"]:
            judged = self._call("judge_pass", number=0)
            while judged["next"] != "verify":
                if judged["next"] == "sweep":
                    self._map(judged["phase"])
                    judged = self._call("judge_pass", number=judged["number"])
                else:
                    judged = {**judged, "next": "sweep"}
            self._map("verify")
        self.report = self._call("report")

    def _map(self, phase: str) -> None:
        lines = boto3.client("s3").get_object(Bucket=RUN_BUCKET, Key=f"runs/{self.name}/chunks.jsonl")["Body"].read().splitlines()
        for count, line in enumerate(lines, 1):
            position, limit, done = None, None, False
            while not done:
                try:
                    answer = self._call("process_chunk", phase=phase, chunk=json.loads(line), position=position, limit=limit)
                except ReencryptError as error:
                    self.errors.append(error)
                    break
                position, limit, done = answer["position"], answer["limit"], answer["done"]
            if phase == "process":
                self.after_chunk(count)

    def _report_failure(self, error: ReencryptError) -> None:
        caught = {"Error": type(error).__name__, "Cause": json.dumps({"errorMessage": str(error)})}
        try:
            self.report = self._call("report_failure", error=caught)
        except ReencryptError as unreported:
            self.unreported = unreported
            self.report = {"outcome": "failed", "headline": f"{caught['Error']}, and the report of it could not be written"}

    def _call(self, handler: str, **more: Any) -> dict[str, Any]:
        module = importlib.import_module(f"reencrypt.handlers.{handler}")
        answer: dict[str, Any] = module.handler(json.loads(json.dumps({**self._event, **more})), _Context())
        return answer


class _Context:
    """Of Lambda's context what the handlers ask for: there is time enough."""

    @staticmethod
    def get_remaining_time_in_millis() -> int:
        return 900_000


def _answered(module: Any, request: AWSPreparedRequest) -> AWSResponse:
    url = urlsplit(request.url)
    headers = {name.lower(): value.decode() if isinstance(value, bytes) else str(value) for name, value in request.headers.items()}
    given: Any = request.body or b""
    body = given.read() if hasattr(given, "read") else given
    call = module.handle_request(
        request.method, unquote(url.path), headers, body.encode() if isinstance(body, str) else body, parse_qs(url.query, keep_blank_values=True)
    )
    status, answered, content = asyncio.run(call)
    return AWSResponse(request.url, status, answered, _Body(content.encode() if isinstance(content, str) else content or b""))
