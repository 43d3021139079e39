"""The deployed stack end to end: the real state machine, the bundled functions, IAM enforced, a real KMS key (of the local AWS)."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from cli.deployment import Rehearsal, RunResult
from cli.sample import DEFAULT_SECRET_KEY
from tests.e2e.conftest import INI, PROVIDER, SECOND_PROVIDER, Sample, assert_golden_under
from tests.support import decryptor, golden, servers, snapshot

READY = {"mode": "re-encrypt", "providerReady": True, "settleSeconds": 0}


def engine(path: Path) -> sa.Engine:
    return sa.create_engine(sa.URL.create("sqlite", database=str(path)), poolclass=sa.pool.NullPool)


def unwrap_by_kms(deployed: Rehearsal, wrapped: bytes) -> bytes:
    plaintext: bytes = deployed.client("kms", region="eu-north-1").decrypt(CiphertextBlob=wrapped)["Plaintext"]
    return plaintext


def read_by_the_independent_decryptor(sample: Sample, secret_key: str = DEFAULT_SECRET_KEY) -> dict[str | None, tuple[str, bool]]:
    """Reads every secret of the sample; returns the keys that they are under (None: secret_key), each with its provider and whether it is active."""
    by_kms = {provider: lambda wrapped: unwrap_by_kms(sample.deployed, wrapped) for provider in (PROVIDER, SECOND_PROVIDER)}
    reader = decryptor.Reader(engine(sample.path), secret_key, by_kms)
    keys: dict[str | None, tuple[str, bool]] = {}
    for value in sample.secrets:
        found = reader.read({"table": value.table, "column": value.column, "pk": {"id": value.primary_key}, "path": value.path})
        assert found.plaintext == value.plaintext, (value.table, value.primary_key)
        keys[found.key_id] = ("", True) if found.key_id is None else reader.rows[found.key_id][::2]
    return keys


def assert_readable_under(sample: Sample, provider: str) -> None:
    """Every secret of the sample, by the independent decryptor, under an active data key of `provider`."""
    assert set(read_by_the_independent_decryptor(sample).values()) == {(provider, True)}


def failed_with(result: RunResult, name: str) -> dict[str, Any]:
    """The report's error of a run that failed with the exception `name`."""
    assert (result.status, result.error) == ("FAILED", "RunFailed")
    assert result.report is not None
    assert result.report["outcome"] == "failed"
    assert result.report["error"]["name"] == name
    assert "failed" in result.files["report.html"]
    error: dict[str, Any] = result.report["error"]
    return error


def test_the_main_job_plan_re_encrypt_verify_and_again(sample: Sample) -> None:
    before = snapshot.take(engine(sample.path))
    plan = sample.deployed.run({})
    assert plan.ended_well, plan.headline
    assert plan.report is not None
    assert plan.report["mode"] == "plan"
    assert plan.report["totals"]["re_encrypted"] == len(sample.secrets)
    assert snapshot.difference(before, snapshot.take(engine(sample.path))) == []

    done = sample.deployed.run({"mode": "re-encrypt", "providerReady": True})
    assert done.ended_well, done.headline
    assert done.report is not None
    assert done.report["totals"]["re_encrypted"] == len(sample.secrets)
    assert done.report["settle_seconds"] == 15 * 60 + 60, "the data key cache's time to live, and a margin"
    assert [(sweep["sweep"], sweep["moved"]) for sweep in done.report["sweeps"]] == [(1, 0)]
    assert done.report["census"]["after"] == {done.report["data_key"]: len(sample.secrets)}
    assert_readable_under(sample, PROVIDER)

    after = snapshot.take(engine(sample.path))
    verified = sample.deployed.run({"mode": "verify"})
    assert verified.ended_well, verified.headline
    assert verified.report is not None
    assert verified.report["totals"]["already_current"] == len(sample.secrets)
    again = sample.deployed.run(READY)
    assert again.report is not None
    assert (again.ended_well, again.report["totals"]["re_encrypted"]) == (True, 0)
    assert snapshot.difference(after, snapshot.take(engine(sample.path))) == []


def test_small_chunks_and_the_way_back_to_secret_key(sample: Sample) -> None:
    assert sample.deployed.run({**READY, "chunkRows": 2}).ended_well
    back = sample.deployed.run({"mode": "re-encrypt", "provider": "secretKey.v1", "chunkRows": 2, "maxConcurrency": 3})
    assert back.ended_well, back.headline
    assert_readable_under(sample, "secretKey.v1")


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"mode": "reencrypt"}, "'verify', 'restore' or 'prune-data-keys'"),
        ({"Mode": "plan"}, "allowed: mode, tables, provider"),
        ({"mode": "re-encrypt", "tables": ["users"]}, "allowed: alert_configuration"),
        (["plan"], "JSON object"),
    ],
)
def test_a_wrong_input_is_refused_in_words(sample: Sample, request_: object, words: str) -> None:
    assert words in failed_with(sample.deployed.run(request_), "InvalidInput")["message"]


def test_a_grafana_without_the_provider_is_not_stranded(sample: Sample) -> None:
    before = snapshot.take(engine(sample.path))
    assert "providerReady" in failed_with(sample.deployed.run({"mode": "re-encrypt"}), "ProviderNotReady")["message"]
    assert snapshot.difference(before, snapshot.take(engine(sample.path))) == []


def test_a_wrong_secret_key_writes_nothing(sample: Sample) -> None:
    before = snapshot.take(engine(sample.path))
    sample.configure(secret_key="another-key")
    assert "secret_key" in failed_with(sample.deployed.run(READY), "WrongSecretKey")["message"]
    assert snapshot.difference(before, snapshot.take(engine(sample.path))) == []


def test_an_unreachable_database_is_named(sample: Sample) -> None:
    sample.configure(path=sample.path.with_name("absent.db"))
    assert "[database] path" in failed_with(sample.deployed.run({}), "DatabaseUnavailable")["message"]


def test_a_disabled_kms_key_ends_the_run_before_it_writes(sample: Sample) -> None:
    before = snapshot.take(engine(sample.path))
    kms = sample.deployed.client("kms", region="eu-north-1")
    kms.disable_key(KeyId=kms.describe_key(KeyId="alias/ExampleAlias")["KeyMetadata"]["KeyId"])
    try:
        error = failed_with(sample.deployed.run(READY), "KeyUnusable")
    finally:
        kms.enable_key(KeyId=kms.describe_key(KeyId="alias/ExampleAlias")["KeyMetadata"]["KeyId"])
    assert "alias/ExampleAlias" in error["message"]
    assert "enable it" in error["message"]
    assert snapshot.difference(before, snapshot.take(engine(sample.path))) == []


def test_a_denied_kms_key_names_the_key_and_the_missing_permission(sample: Sample) -> None:
    before = snapshot.take(engine(sample.path))
    iam = sample.deployed.client("iam")
    taken = _take_away(iam, "kms:Encrypt")
    assert taken, "a role may wrap"
    try:
        sample.deployed.cold_start()
        error = failed_with(sample.deployed.run(READY), "KeyAccessDenied")
    finally:
        for role, policy, document in taken:
            iam.put_role_policy(RoleName=role, PolicyName=policy, PolicyDocument=json.dumps(document))
        sample.deployed.cold_start()
    assert "kms:Encrypt" in error["message"]
    assert "alias/ExampleAlias" in error["message"]
    assert snapshot.difference(before, snapshot.take(engine(sample.path))) == []


def _take_away(iam: Any, action: str) -> list[tuple[str, str, dict[str, Any]]]:
    """Removes every statement with `action`; returns (role, policy, document before)."""
    taken = []
    for role in iam.list_roles()["Roles"]:
        for policy in iam.list_role_policies(RoleName=role["RoleName"])["PolicyNames"]:
            document = iam.get_role_policy(RoleName=role["RoleName"], PolicyName=policy)["PolicyDocument"]
            kept = [statement for statement in document["Statement"] if action not in statement["Action"]]
            if len(kept) < len(document["Statement"]):
                taken.append((role["RoleName"], policy, document))
                iam.put_role_policy(RoleName=role["RoleName"], PolicyName=policy, PolicyDocument=json.dumps({**document, "Statement": kept}))
    return taken


def test_a_second_run_that_writes_ends_at_once_and_leaves_the_lease_of_the_first(sample: Sample) -> None:
    table = sample.deployed.client("dynamodb")
    name = sample.deployed.outputs["LeaseTableName"]
    held = {"pk": {"S": "run"}, "owner": {"S": "arn:of:the:first:run"}, "expires": {"N": str(int(time.time()) + 600)}}
    table.put_item(TableName=name, Item=held)
    try:
        assert "arn:of:the:first:run" in failed_with(sample.deployed.run(READY), "LeaseHeld")["message"]
        assert table.get_item(TableName=name, Key={"pk": {"S": "run"}})["Item"] == held
        assert sample.deployed.run({}).ended_well, "a plan disturbs nobody"
        table.put_item(TableName=name, Item={**held, "expires": {"N": str(int(time.time()) - 1)}})
        assert sample.deployed.run(READY).ended_well, "an expired lease is taken over"
    finally:
        table.delete_item(TableName=name, Key={"pk": {"S": "run"}})
    assert "Item" not in table.get_item(TableName=name, Key={"pk": {"S": "run"}})


def test_unreadable_values_fail_the_run_unless_the_input_allows_them(sample: Sample) -> None:
    with engine(sample.path).begin() as connection:
        connection.exec_driver_sql("UPDATE secrets SET value = substr(value, 1, 40) WHERE id = 1")
    failed = sample.deployed.run(READY)
    assert failed.report is not None
    assert (failed.status, failed.report["outcome"], failed.report["error"]) == ("FAILED", "failed", None)
    assert failed.report["unreadable"] == [{"table": "secrets", "column": "value", "primary_key": {"id": 1}, "path": None, "reason": "too-short"}]
    allowed = sample.deployed.run({**READY, "onUnreadable": "report"})
    assert allowed.ended_well
    assert allowed.report is not None
    assert allowed.report["outcome"] == "succeeded-with-unreadable"


@pytest.mark.parametrize("name", ["12.4.0-sqlite", "12.4.0-postgres"])  # MariaDB: test_second_installation.py
def test_the_deployed_stack_re_encrypts_what_the_real_grafana_wrote(deployed: Rehearsal, tmp_path: Path, name: str) -> None:
    golden.require(name)
    kind = golden.engine_of(name)
    if kind == "sqlite":
        with golden.loaded(name, tmp_path, None) as database:
            _run_golden(deployed, database)
        return
    with servers.server(kind) as url, golden.loaded(name, tmp_path, url) as database:
        _run_golden(deployed, database)


def _run_golden(deployed: Rehearsal, database: golden.GoldenDatabase) -> None:
    kms = INI.partition("[security.encryption")[2].partition("[database]")[0]
    ini = f"{database.ini}\n[security]\nencryption_provider = {PROVIDER}\n[security.encryption{kms}"
    deployed.set_grafana_ini(ini, {"GF_DATABASE_PASSWORD": database.url.password or "unused"})
    for request in (READY, {"mode": "verify"}):
        result = deployed.run(request)
        assert result.ended_well, result.headline
    assert_golden_under(database, lambda wrapped: unwrap_by_kms(deployed, wrapped))


def test_what_grafana_puts_back_under_an_old_key_while_the_run_settles_is_swept(sample: Sample) -> None:
    with engine(sample.path).connect() as connection:
        old = connection.exec_driver_sql("SELECT value FROM secrets WHERE id = 1").scalar_one()
    # 5 000 s are 10 s here: time enough to write, as a replica with an old cache would, when the run has settled down to wait.
    execution = sample.deployed.start({**READY, "settleSeconds": 5000})
    sample.wait_for_state(execution, "Settle")
    with engine(sample.path).begin() as connection:
        connection.exec_driver_sql("UPDATE secrets SET value = ? WHERE id = 1", (old,))
    report = _report_of(sample.deployed, execution)
    assert (report["outcome"], report["left_under_old_keys"]) == ("succeeded", 0)
    assert [(sweep["sweep"], sweep["moved"]) for sweep in report["sweeps"]] == [(1, 1), (2, 0)]
    assert report["totals"]["re_encrypted"] == len(sample.secrets)
    assert_readable_under(sample, PROVIDER)


def test_restore_puts_back_what_a_run_has_written_and_leaves_alone_what_grafana_wrote_since(sample: Sample) -> None:
    before = snapshot.take(engine(sample.path))
    done = sample.deployed.run(READY)
    with engine(sample.path).connect() as connection:
        newer = connection.exec_driver_sql("SELECT value FROM secrets WHERE id = 2").scalar_one()
    with engine(sample.path).begin() as connection:
        connection.exec_driver_sql("UPDATE secrets SET value = ? WHERE id = 1", (newer,))
    restored = sample.deployed.run({"mode": "restore", "run": done.run})
    assert restored.ended_well, restored.headline
    assert restored.report is not None
    totals = restored.report["totals"]
    assert (totals["re_encrypted"], totals["changed_by_grafana"]) == (len(sample.secrets) - 1, 1)
    assert "left alone since Grafana has written" in restored.headline
    differences = snapshot.difference(before, snapshot.take(engine(sample.path)))
    assert {(table, column) for table, _, column in differences} == {("secrets", "value"), ("data_keys", "*")}, "Grafana's new value and our data key"
    again = sample.deployed.run({"mode": "restore", "run": done.run})
    assert again.report is not None
    assert (again.report["totals"]["re_encrypted"], again.report["totals"]["already_current"]) == (0, len(sample.secrets) - 1)


def test_a_restore_of_what_never_was_is_refused_in_words(sample: Sample) -> None:
    assert "there is no run" in failed_with(sample.deployed.run({"mode": "restore", "run": "never-was"}), "InvalidInput")["message"]
    planned = sample.deployed.run({})
    assert "wrote nothing" in failed_with(sample.deployed.run({"mode": "restore", "run": planned.run}), "InvalidInput")["message"]


def _report_of(deployed: Rehearsal, execution: str) -> dict[str, Any]:
    """The report of an execution that was only started, when it has ended."""
    result = deployed.result(execution)
    assert result.report is not None, (result.status, result.cause)
    return dict(result.report)
