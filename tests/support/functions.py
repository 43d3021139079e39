"""The Lambda functions in this process: the real handlers over folders, a database and an AWS that answers what a test tells it to.

`Functions.run(request)` calls them in the order of the state machine, hands a failure to `report_failure` in the words that Lambda would use, and
keeps all that leaves: exceptions with their tracebacks, answers, and the reports. Logs are the caller's to capture.
"""

from __future__ import annotations

import json
import os
import traceback
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aws_lambda_powertools.utilities import parameters
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from reencrypt.errors import ReencryptError
from reencrypt.handlers import (
    acquire_lease,
    choose_data_key,
    end_failed,
    judge_pass,
    judge_scan,
    plan_chunks,
    preflight,
    process_chunk,
    release_lease,
    remove_data_keys,
    report,
    report_failure,
    rewrap_data_keys,
    workspace,
)
from reencrypt.providers.awskms import AwsKmsProvider
from reencrypt.storage.bucket import FolderBucket
from reencrypt.storage.lease import Lease
from tests.support.leaks import Emission
from tests.unit.storage.conftest import SESSION, Wire, dynamodb_service

RUNS, JOURNAL = "run-bucket", "journal-bucket"
EXECUTION = "arn:aws:states:eu-north-1:111122223333:execution:grafana-reencrypt:leak-test"
_VARIABLES = {
    "RUN_BUCKET": RUNS, "JOURNAL_BUCKET": JOURNAL, "LEASE_TABLE": "lease", "GRAFANA_INI_SECRET": "ini", "GRAFANA_ENVIRONMENT_SECRET": "environment",
    "MAX_CONCURRENCY": "4", "WORKER_MEMORY_MB": "1024", "KMS_CREDENTIALS": "configured-first", "KMS_ENCRYPTION_CONTEXT": "{}",
}  # fmt: skip


class Context:
    """Lambda's context, with time enough."""

    def get_remaining_time_in_millis(self) -> int:
        return 900_000


@dataclass
class KmsClient:
    """KMS in memory, or `fails`."""

    key: bytes = field(default_factory=lambda: os.urandom(32), repr=False)
    fails: Exception | None = None

    def encrypt(self, *, KeyId: str, Plaintext: bytes) -> dict[str, bytes]:  # noqa: N803 - AWS's names
        self._check()
        nonce = os.urandom(12)
        return {"CiphertextBlob": b"\x01\x02\x02\x00" + nonce + AESGCM(self.key).encrypt(nonce, Plaintext, None)}

    def decrypt(self, *, CiphertextBlob: bytes) -> dict[str, bytes]:  # noqa: N803 - AWS's names
        self._check()
        return {"Plaintext": AESGCM(self.key).decrypt(CiphertextBlob[4:16], CiphertextBlob[16:], None)}

    def re_encrypt(self, *, CiphertextBlob: bytes, DestinationKeyId: str) -> dict[str, bytes]:  # noqa: N803 - AWS's names
        return self.encrypt(KeyId=DestinationKeyId, Plaintext=self.decrypt(CiphertextBlob=CiphertextBlob)["Plaintext"])

    def describe_key(self, *, KeyId: str) -> dict[str, dict[str, str]]:  # noqa: N803 - AWS's names
        self._check()
        return {"KeyMetadata": {"Arn": f"arn:aws:kms:eu-north-1:111122223333:key/of-{KeyId.rpartition('/')[2]}"}}

    def _check(self) -> None:
        if self.fails is not None:
            raise self.fails


def _lease_table() -> tuple[Any, str]:
    """(client, name) of a fresh table of DynamoDB, as the local AWS emulates it, in this process."""
    client: Any = SESSION.client("dynamodb")
    client.meta.events.register("before-send.dynamodb", Wire(dynamodb_service).answer)
    name = f"lease-{uuid.uuid4().hex}"
    client.create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
    )
    return client, name


class Functions:
    """The functions, configured by `secrets` (what Secrets Manager holds: `ini`, `environment`)."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.patch = folder, monkeypatch
        self.secrets: dict[str, object] = {"environment": "{}"}
        self.kms = KmsClient()
        self.dynamodb, self.lease_table = _lease_table()
        self.emissions: list[Emission] = []
        self.between: Callable[[str], None] = lambda step: None
        self._number = 0
        for name, value in _VARIABLES.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(parameters, "get_secret", lambda name: self.secrets[name])
        monkeypatch.setattr(workspace, "S3Bucket", lambda name: FolderBucket(folder / name))
        monkeypatch.setattr(workspace, "Lease", lambda _: Lease(self.lease_table, self.dynamodb))
        monkeypatch.setattr(AwsKmsProvider, "_kms", property(lambda provider: self.kms))

    def run(self, request: object) -> str | None:
        """A whole execution. The class name of the error that ended it, None where none did; `name` is its run's."""
        workspace._settings.cache_clear()
        workspace._providers_of.cache_clear()
        workspace._manager_providers_of.cache_clear()
        self._number += 1
        common = {"run": self.name, "input": request, "execution": EXECUTION, "started": "2026-11-25T03:00:00Z"}
        try:
            self._steps(common)
        except ReencryptError as error:
            self.left(error)
            failure = {"Error": type(error).__name__, "Cause": json.dumps({"errorMessage": str(error), "errorType": type(error).__name__})}
            self._keep(self._call("report_failure", report_failure.handler, {**common, "error": failure}))
            try:
                self._call("end_failed", end_failed.handler, {**common, "headline": str(error), "redrives": 0, "failed_in": 0})
            except ReencryptError as ended:
                self.left(ended)
            return type(error).__name__
        finally:
            self._call("release_lease", release_lease.handler, common)
        return None

    @property
    def name(self) -> str:
        """The run's name."""
        return f"run-{self._number}"

    @property
    def report(self) -> dict[str, Any]:
        """The last run's report."""
        found: dict[str, Any] = json.loads((self.folder / RUNS / f"runs/{self.name}/report.json").read_text())
        return found

    def bucket(self, name: str) -> FolderBucket:
        """A bucket by its name."""
        return FolderBucket(self.folder / name)

    def items(self) -> Emission:
        """What is in the lease's table."""
        return Emission("the lease's table", json.dumps(self.dynamodb.scan(TableName=self.lease_table)["Items"]).encode())

    def objects(self, bucket: str) -> Iterator[Emission]:
        """Every object of a bucket."""
        for path in sorted((self.folder / bucket).rglob("*")):
            if path.is_file():
                yield Emission(f"s3://{path.relative_to(self.folder)}", path.read_bytes())

    def _steps(self, common: dict[str, Any]) -> None:
        summary = self._call("preflight", preflight.handler, common)
        plan = self._call("plan_chunks", plan_chunks.handler, common)
        if summary["writes"]:
            self._call("acquire_lease", acquire_lease.handler, common)
        if summary["encrypts"]:
            self._call("choose_data_key", choose_data_key.handler, common)
        if not summary["surveys"] or self._looks_everywhere(common, plan["everything"], "survey"):
            self._over_the_values(common, plan["manifest"], summary)
            if summary["removes"]:
                self._looks_everywhere(common, plan["everything"], "scan")
        self._keep(self._call("report", report.handler, common))

    def _over_the_values(self, common: dict[str, Any], manifest: str, summary: dict[str, Any]) -> None:
        self._pass(common, manifest, "process")
        if not summary["writes"]:
            return
        judged = self._call("judge_pass", judge_pass.handler, {**common, "number": 0})
        while judged["next"] in ("settle", "sweep"):
            self._pass(common, manifest, judged["phase"])
            judged = self._call("judge_pass", judge_pass.handler, {**common, "number": judged["number"]})
        if judged["next"] == "rewrap":
            while not self._call("rewrap_data_keys", rewrap_data_keys.handler, common)["done"]:
                pass
        self._pass(common, manifest, "verify")

    def _looks_everywhere(self, common: dict[str, Any], manifest: str, phase: str) -> bool:
        """Looks through every column until that leads on; True where it is to the values."""
        while True:
            self._pass(common, manifest, phase)
            judged = self._call("judge_scan", judge_scan.handler, {**common, "phase": phase})
            if judged["next"] == "remove":
                self._call("remove_data_keys", remove_data_keys.handler, common)
            if judged["next"] in ("process", "remove"):
                return bool(judged["next"] == "process")
            phase = judged["phase"]

    def _pass(self, common: dict[str, Any], manifest: str, phase: str) -> None:
        for line in (self.folder / RUNS / manifest).read_text().splitlines():
            progress = {"position": None, "limit": None, "done": False}
            while not progress["done"]:
                progress = self._call("process_chunk", process_chunk.handler, {**common, "phase": phase, "chunk": json.loads(line), **progress})

    def _call(self, step: str, handler: Callable[[Any, Any], dict[str, Any]], event: dict[str, Any]) -> dict[str, Any]:
        self.between(step)
        answer = handler(event, Context())
        self._keep(answer)
        return answer

    def _keep(self, answer: dict[str, Any]) -> None:
        self.emissions.append(Emission("a function's answer", json.dumps(answer).encode()))

    def left(self, error: BaseException) -> None:
        """Keeps what an exception shows."""
        self.emissions += exception_emissions(error)


def exception_emissions(error: BaseException) -> Iterator[Emission]:
    """All that is shown of an exception that leaves a function: text, repr, arguments, attributes, notes, causes, traceback."""
    parts = [str(error), repr(error), repr(error.args), repr(vars(error)), *traceback.format_exception(error)]
    yield Emission(f"the exception {type(error).__name__}", "\n".join(parts).encode(errors="surrogatepass"))
