"""Nothing that the deployed stack emits holds a secret: logs, objects, executions, items, notifications, events, the stack itself.

Good and failing runs come first; then everything that AWS keeps of them is collected and searched (tests/support/leaks.py) for every plaintext, data
key, password and credential. The journal may hold ciphertexts, as the database does; nothing else may. Metrics leave as lines of the logs; the local AWS makes
none of them, so what it lists is collected, and empty.
"""

from __future__ import annotations

import base64
import datetime
import gzip
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from cli.deployment import ENVIRONMENT_SECRET, INI_SECRET, STACK, Rehearsal, RunResult
from cli.sample import ExpectedValue, make_sample
from tests.e2e.conftest import PROVIDER
from tests.support import decryptor
from tests.support.leaks import Emission, Needle, Searcher, told

SECRETS = {
    "secret_key": "leaktest-secret-key-2c71",
    "a wrong secret_key": "leaktest-wrong-key-90be",
    "[database] password": "leaktest db p&ssw0rd/7f",
    "the password in [database] url": "leaktest-url-passw0rd-31",
    "[smtp] password": "leaktest-smtp-passw0rd-a8",
    "a password in GF_SECURITY_ADMIN_PASSWORD": "leaktest-admin-passw0rd-e4",
    "the access key": "AKIALEAKTEST00000042",
    "the secret access key": "leaktest/secret+access/key/0123456789abcd",
    "a password in a line that is no ini": "leaktest-line-passw0rd-5d",
    "a password in text that is no JSON": "leaktest-json-passw0rd-b2",
}
INI = """\
[security]
secret_key = {secret_key}
encryption_provider = {provider}
[security.encryption.{provider}]
key_id = alias/ExampleAlias
region = eu-north-1
access_key_id = {access_key}
secret_access_key = {secret_access_key}
[smtp]
password = {smtp}
[database]
{database}
"""
QUICK = {"mode": "re-encrypt", "providerReady": True, "settleSeconds": 2}


def ini(path: Path, *, secret_key: str = SECRETS["secret_key"], database: str | None = None) -> str:
    return INI.format(
        secret_key=secret_key, provider=PROVIDER, smtp=SECRETS["[smtp] password"],
        access_key=SECRETS["the access key"], secret_access_key=SECRETS["the secret access key"],
        database=database or f"type = sqlite3\npath = {path}\npassword = {SECRETS['[database] password']}",
    )  # fmt: skip


@dataclass
class Emitted:
    """What was collected, by kind, and the needles that must not be in it. `ended` is how each run did."""

    deployed: Rehearsal
    since: datetime.datetime
    needles: list[Needle]
    payloads: list[Needle] = field(default_factory=list)
    queues: dict[str, str] = field(default_factory=dict)
    ended: dict[str, RunResult] = field(default_factory=dict)
    received: dict[str, list[Emission]] = field(default_factory=dict)
    by_kind: dict[str, list[Emission]] = field(default_factory=dict)

    def all(self) -> list[Emission]:
        return [emission for emissions in self.by_kind.values() for emission in emissions]


@pytest.fixture(scope="module")
def emitted(deployed: Rehearsal, tmp_path_factory: pytest.TempPathFactory) -> Emitted:
    """Every kind of run, good and failing, and all that they emitted."""
    path = tmp_path_factory.mktemp("leaks") / "grafana.db"
    secrets = make_sample(path, SECRETS["secret_key"], rows=4)
    known = [Needle(name, value.encode()) for name, value in SECRETS.items()]
    known += [Needle(f"plaintext of {value.table}.{value.column} {value.primary_key} {value.path or ''}", value.plaintext) for value in secrets]
    made = Emitted(deployed, datetime.datetime.now(datetime.UTC).replace(microsecond=0), known)
    made.queues = {"notification": _subscribed(deployed), "event": _watching(deployed)}
    environment = {"GF_SECURITY_ADMIN_PASSWORD": SECRETS["a password in GF_SECURITY_ADMIN_PASSWORD"]}
    deployed.set_grafana_ini(ini(path), environment)

    def run(name: str, request: object, payloads_change: bool = False) -> RunResult:
        made.ended[name] = deployed.run(request)
        made.payloads += _payloads(path, secrets, name) if payloads_change else ()
        return made.ended[name]

    made.payloads += _payloads(path, secrets, "before")
    run("plan", {})
    first = run("re-encrypt", QUICK, payloads_change=True)
    run("verify", {"mode": "verify"})
    with _Denied(deployed):
        run("denied", QUICK)
    run("restore", {"mode": "restore", "run": first.run})
    with sa.create_engine(f"sqlite:///{path}").begin() as connection:
        connection.exec_driver_sql("UPDATE secrets SET value = substr(value, 1, 40) WHERE id = 1")
    run("unreadable", {**QUICK, "settleSeconds": 0, "tables": ["secrets"]}, payloads_change=True)
    run("invalid input", {"mode": "re-encrypt", "chunkRows": "many"})
    deployed.set_grafana_ini(ini(path, secret_key=SECRETS["a wrong secret_key"]), environment)
    run("wrong secret_key", QUICK)
    deployed.set_grafana_ini(ini(path, database=f"url = postgres://grafana:{SECRETS['the password in [database] url']}@127.0.0.1:1/grafana"), environment)
    run("no database", {})
    _put_secret_text(deployed, INI_SECRET, f"{ini(path)}\n[oauth]\nclient_secret {SECRETS['a password in a line that is no ini']}\n")
    run("no ini", {})
    _put_secret_text(deployed, INI_SECRET, ini(path))
    _put_secret_text(deployed, ENVIRONMENT_SECRET, f"GF_DATABASE_PASSWORD={SECRETS['a password in text that is no JSON']}")
    run("no JSON", {})
    reader = decryptor.Reader(sa.create_engine(f"sqlite:///{path}"), SECRETS["secret_key"], {PROVIDER: lambda wrapped: _unwrapped(deployed, wrapped)})
    made.needles += [Needle(f"data key {key_id}", reader.data_key(key_id)) for key_id in reader.rows]
    made.by_kind = collect(made)
    return made  # whoever comes next puts settings of its own in place


def collect(made: Emitted) -> dict[str, list[Emission]]:
    """What AWS keeps and sends of what happened since the runs began, by kind."""
    deployed, since = made.deployed, made.since
    for kind, queue in made.queues.items():
        made.received.setdefault(kind, []).extend(_messages(deployed, queue, kind))
    executions = list(_executions(deployed, since))
    return {
        "log": list(_logs(deployed, since)),
        "object": list(_objects(deployed, since)),
        **{kind: [emission for found, emission in executions if found == kind] for kind in sorted({found for found, _ in executions})},
        "item": [
            _as_json(f"table {name}", deployed.client("dynamodb").scan(TableName=name)) for name in deployed.client("dynamodb").list_tables()["TableNames"]
        ],
        "stack": list(_stack(deployed)),
        "function": [_as_json(f"function {found['FunctionName']}", found) for found in deployed.client("lambda").list_functions()["Functions"]],
        "metric": [_as_json("metrics", entry) for entry in deployed.client("cloudwatch").list_metrics()["Metrics"]],
        "report": [Emission(f"report of {name}", json.dumps(result.report).encode()) for name, result in made.ended.items() if result.report]
        + [Emission(f"{file} of {name}", text.encode()) for name, result in made.ended.items() for file, text in result.files.items()],
        **made.received,
    }


def _logs(deployed: Rehearsal, since: datetime.datetime) -> Iterator[Emission]:
    logs = deployed.client("logs")
    for group in logs.describe_log_groups()["logGroups"]:
        name, lines = group["logGroupName"], []
        for page in logs.get_paginator("filter_log_events").paginate(logGroupName=name, startTime=int(since.timestamp() * 1000)):
            lines += [event["message"] for event in page["events"]]
        if lines:
            yield Emission(f"log {name}", "\n".join(lines).encode())


def _objects(deployed: Rehearsal, since: datetime.datetime) -> Iterator[Emission]:
    """Every version of every object of every bucket, with what is said about it. (The code that CDK uploaded is older than any run.)"""
    s3 = deployed.client("s3")
    for bucket in (entry["Name"] for entry in s3.list_buckets()["Buckets"]):
        for page in s3.get_paginator("list_object_versions").paginate(Bucket=bucket):
            for version in page.get("Versions", []):
                if version["LastModified"] >= since:
                    found = s3.get_object(Bucket=bucket, Key=version["Key"], VersionId=version["VersionId"])
                    yield Emission(f"s3://{bucket}/{version['Key']}", found["Body"].read())
                    yield _as_json(f"headers of s3://{bucket}/{version['Key']}", [version, found["ResponseMetadata"], found["Metadata"]])


def _executions(deployed: Rehearsal, since: datetime.datetime) -> Iterator[tuple[str, Emission]]:
    """(kind, emission) of each execution and of each child of its maps: inputs, outputs, causes, histories."""
    sfn = deployed.client("stepfunctions")
    for listed in sfn.list_executions(stateMachineArn=deployed.outputs["StateMachineArn"])["executions"]:
        if listed["startDate"] < since:
            continue
        yield from _execution(sfn, "execution", listed)
        for run in sfn.list_map_runs(executionArn=listed["executionArn"])["mapRuns"]:
            yield "map run", _as_json(f"map run {run['mapRunArn']}", sfn.describe_map_run(mapRunArn=run["mapRunArn"]))
            for child in sfn.list_executions(mapRunArn=run["mapRunArn"])["executions"]:
                yield from _execution(sfn, "child", child)


def _execution(sfn: Any, kind: str, listed: Mapping[str, Any]) -> Iterator[tuple[str, Emission]]:
    arn = listed["executionArn"]
    yield kind, _as_json(f"{kind} {arn}", sfn.describe_execution(executionArn=arn))
    pages = sfn.get_paginator("get_execution_history").paginate(executionArn=arn, includeExecutionData=True)
    yield f"{kind} history", _as_json(f"history of {kind} {arn}", [page["events"] for page in pages])


def _stack(deployed: Rehearsal) -> Iterator[Emission]:
    formation = deployed.client("cloudformation")
    yield _as_json("template", formation.get_template(StackName=STACK)["TemplateBody"])
    yield _as_json("outputs and parameters", formation.describe_stacks(StackName=STACK)["Stacks"])
    yield _as_json("events of the stack", formation.describe_stack_events(StackName=STACK)["StackEvents"])
    machine = deployed.client("stepfunctions").describe_state_machine(stateMachineArn=deployed.outputs["StateMachineArn"])
    yield _as_json("state machine", machine)


def _messages(deployed: Rehearsal, queue: str, kind: str) -> Iterator[Emission]:
    sqs = deployed.client("sqs")
    while found := sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=1, MaxNumberOfMessages=10).get("Messages"):
        for message in found:
            yield _as_json(kind, message)
            sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])


def _as_json(place: str, value: object) -> Emission:
    return Emission(place, json.dumps(value, default=str).encode())


def _queue(deployed: Rehearsal, name: str, service: str) -> tuple[str, str]:
    """(URL, ARN) of a new queue that `service` may send to."""
    sqs = deployed.client("sqs")
    url = sqs.create_queue(QueueName=f"{name}-{time.time_ns()}")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    allow = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sqs:SendMessage", "Resource": arn}
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": json.dumps({"Version": "2012-10-17", "Statement": [allow]})})
    return url, arn


def _subscribed(deployed: Rehearsal) -> str:
    url, arn = _queue(deployed, "notifications", "sns.amazonaws.com")
    deployed.client("sns").subscribe(TopicArn=deployed.outputs["TopicArn"], Protocol="sqs", Endpoint=arn)
    return url


def _watching(deployed: Rehearsal) -> str:
    """Every event of the account's bus."""
    url, arn = _queue(deployed, "events", "events.amazonaws.com")
    events = deployed.client("events")
    events.put_rule(Name="leak-test", EventPattern=json.dumps({"source": [{"prefix": "aws."}, "grafana-reencrypt"]}))
    events.put_targets(Rule="leak-test", Targets=[{"Id": "queue", "Arn": arn}])
    return url


class _Denied:
    """While it lasts, the user of the ini's access key may not use KMS."""

    def __init__(self, deployed: Rehearsal) -> None:
        self._iam = deployed.client("iam")
        tags = {user["UserName"]: self._iam.list_access_keys(UserName=user["UserName"])["AccessKeyMetadata"] for user in self._iam.list_users()["Users"]}
        self._user = next(name for name, keys in tags.items() if any(key["AccessKeyId"] == SECRETS["the access key"] for key in keys))
        self._policy = self._iam.get_user_policy(UserName=self._user, PolicyName="kms")["PolicyDocument"]

    def __enter__(self) -> None:
        self._iam.delete_user_policy(UserName=self._user, PolicyName="kms")

    def __exit__(self, *_: object) -> None:
        self._iam.put_user_policy(UserName=self._user, PolicyName="kms", PolicyDocument=json.dumps(self._policy))


def _put_secret_text(deployed: Rehearsal, name: str, text: str) -> None:
    deployed.client("secretsmanager").put_secret_value(SecretId=name, SecretString=text)
    deployed.cold_start()


def _unwrapped(deployed: Rehearsal, wrapped: bytes) -> bytes:
    plaintext: bytes = deployed.client("kms", region="eu-north-1").decrypt(CiphertextBlob=wrapped)["Plaintext"]
    return plaintext


def _payloads(path: Path, secrets: list[ExpectedValue], when: str) -> Iterator[Needle]:
    """The end of each payload as it stands now: IV and ciphertext, and not the data key's id, which a report may name."""
    with sa.create_engine(f"sqlite:///{path}").connect() as connection:
        for value in secrets:
            stored = connection.exec_driver_sql(f'SELECT "{value.column}" FROM "{value.table}" WHERE id = ?', (value.primary_key,)).scalar_one()
            for step in value.path or ():
                stored = (json.loads(stored) if isinstance(stored, str) else stored)[step]
            payload = bytes(stored) if isinstance(stored, bytes) else base64.b64decode(stored + "=" * (-len(stored) % 4))
            yield Needle(f"payload of {value.table}.{value.column} {value.primary_key}, {when}", payload[-24:], in_pieces=False)


KINDS = (
    "log", "object", "execution", "execution history", "map run", "child", "child history", "item", "stack", "function", "report", "notification", "event",
)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_something_of_each_kind_was_collected(emitted: Emitted, kind: str) -> None:
    assert emitted.by_kind[kind]
    assert all(emission.content for emission in emitted.by_kind[kind])


def test_the_runs_ended_as_they_were_meant_to(emitted: Emitted) -> None:
    errors = {name: result.report["error"] and result.report["error"]["name"] for name, result in emitted.ended.items() if result.report}
    assert errors == {
        "plan": None, "re-encrypt": None, "verify": None, "restore": None,
        "wrong secret_key": "WrongSecretKey", "no database": "DatabaseUnavailable", "denied": "KeyAccessDenied", "invalid input": "InvalidInput",
        "unreadable": None, "no ini": "InvalidIni", "no JSON": "ConfigurationError",
    }  # fmt: skip
    assert [name for name, result in emitted.ended.items() if result.ended_well] == ["plan", "re-encrypt", "verify", "restore"]


def test_nothing_that_was_emitted_holds_a_secret(emitted: Emitted) -> None:
    searcher = Searcher(emitted.needles)  # nobody is excused: not even the plaintext `Bearer` comes out by itself
    assert searcher.too_short == []
    assert len(searcher.names) > 45
    assert sum(name.startswith("data key") for name in searcher.names) == 3
    leaks = searcher.search(emitted.all())
    assert not leaks, told(leaks)


def test_only_the_journal_holds_ciphertexts(emitted: Emitted) -> None:
    searcher = Searcher(emitted.payloads)
    places = {leak.place for leak in searcher.search(emitted.all())}
    assert places, "the journal holds the old ciphertexts, so the search finds some"
    assert {place for place in places if "/journal/" not in place} == set()


PLANTED: dict[str, Callable[[bytes], bytes]] = {
    "raw": bytes, "base64": base64.b64encode, "repr": lambda value: repr(value).encode(), "hex": lambda value: value.hex().encode(),
    "gzip": gzip.compress,
}  # fmt: skip


def test_a_secret_that_is_planted_is_found(emitted: Emitted) -> None:
    """The same collector and searcher, after a plaintext was put into logs, objects and items, in a different encoding each."""
    deployed, needle = emitted.deployed, emitted.needles[len(SECRETS)]
    logs, s3, dynamodb = deployed.client("logs"), deployed.client("s3"), deployed.client("dynamodb")
    group, bucket, table = f"/leak-test-{time.time_ns()}", deployed.outputs["RunBucketName"], deployed.outputs["LeaseTableName"]
    since, versions = datetime.datetime.now(datetime.UTC).replace(microsecond=0), dict[str, str]()
    logs.create_log_group(logGroupName=group)
    logs.create_log_stream(logGroupName=group, logStreamName="planted")
    lines = [{"timestamp": int(time.time() * 1000), "message": f"INFO {PLANTED[name](needle.value).decode()}"} for name in ("raw", "base64", "repr", "hex")]
    logs.put_log_events(logGroupName=group, logStreamName="planted", logEvents=lines)
    for name, encode in PLANTED.items():
        versions[f"runs/planted-{name}"] = s3.put_object(Bucket=bucket, Key=f"runs/planted-{name}", Body=encode(needle.value))["VersionId"]
    dynamodb.put_item(TableName=table, Item={"pk": {"S": "planted"}, "note": {"B": needle.value}})
    try:
        found_since = collect(replace(emitted, since=since))
    finally:
        logs.delete_log_group(logGroupName=group)
        for key, version in versions.items():
            s3.delete_object(Bucket=bucket, Key=key, VersionId=version)
        dynamodb.delete_item(TableName=table, Key={"pk": {"S": "planted"}})
    leaks = Searcher(emitted.needles).search(emission for emissions in found_since.values() for emission in emissions)
    found = {(leak.place, leak.encoding) for leak in leaks if leak.needle == needle.name}
    assert {place for place, _ in found} == {f"log {group}", f"table {table}", *(f"s3://{bucket}/{key}" for key in versions)}
    assert {encoding for place, encoding in found if place == f"log {group}"} >= {"raw", "base64 at 0", "hex"}
    assert (f"s3://{bucket}/runs/planted-gzip", "raw in gzip") in found
