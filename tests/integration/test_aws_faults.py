"""An AWS service refuses in the middle of a run: nothing is lost, the run says who refused what, and the next run finishes the work.

The real handlers over a database that Grafana wrote, with KMS, S3, DynamoDB and Secrets Manager in this process (tests/support/faulty_aws.py).
What the deployed stack makes of KMS's refusals before a run is in tests/e2e.
"""

from __future__ import annotations

from typing import Any

import pytest

from reencrypt.errors import AwsRefused, ReencryptError
from tests.support import decryptor, snapshot
from tests.support.faulty_aws import INI_SECRET, JOURNAL_BUCKET, RUN_BUCKET, FaultyAws, HandlerRun
from tests.support.golden import KMS_SECTION, GoldenDatabase
from tests.support.local_run import KMS

TABLES = ("secrets", "data_source", "user_auth")  # enough for some chunks; each value costs a key derivation at every step
RE_ENCRYPT: dict[str, Any] = {"mode": "re-encrypt", "providerReady": True, "tables": TABLES, "chunkRows": 5, "settleSeconds": 0}
KEY = "arn:aws:kms:eu-north-1:111122223333:key/1234abcd"
DENIED = f"User: arn:aws:sts::111122223333:assumed-role/Worker/x is not authorized to perform: kms:Decrypt on resource: {KEY} because"

# (code and message of KMS, class of our error, what it must say: the key, and what to do)
KMS_REFUSALS = [
    ("DisabledException", "no", "KeyUnusable", ("alias/example", "disabled", "enable it")),
    ("KMSInvalidStateException", "no", "KeyUnusable", ("alias/example", "pending deletion", "cancel")),
    ("AccessDeniedException", DENIED, "KeyAccessDenied", (KEY, "kms:Decrypt", "assumed-role/Worker", "allow")),
    ("ThrottlingException", "no", "ProviderThrottled", (KMS, "maxConcurrency", "start again")),
    ("KMSInternalException", "no", "ProviderThrottled", (KMS, "start again")),
    ("UnrecognizedClientException", "no", "ConfigurationError", (KMS, "credentials", "region")),
]


@pytest.fixture
def aws(golden_database: GoldenDatabase, monkeypatch: pytest.MonkeyPatch) -> FaultyAws:
    return FaultyAws(monkeypatch, golden_database.ini + KMS_SECTION)


pytestmark = pytest.mark.parametrize("golden_database", ["12.4.0-sqlite"], indirect=True)


def assert_readable(database: GoldenDatabase, aws: FaultyAws, *, current: bool | None = None) -> None:
    """Every plaintext that Grafana stored, by the independent reader; with `current`, all under the KMS key or (False) none of them."""
    aws.recover()
    reader = decryptor.Reader(database.engine, database.expected["secret_key"], {KMS: aws.unwrap})
    for entry in database.expected["values"]:
        if entry["table"] not in TABLES:
            continue
        found = reader.read(entry)
        assert decryptor.matches(entry, found.plaintext), (entry["table"], entry["pk"], entry["path"])
        under_kms = found.key_id is not None and reader.rows[found.key_id][0] == KMS
        assert current is None or under_kms is current


def assert_the_next_run_finishes(database: GoldenDatabase, aws: FaultyAws, run: str = "again") -> HandlerRun:
    aws.recover()
    again = HandlerRun(run, RE_ENCRYPT)
    assert (again.report["outcome"], again.errors) == ("succeeded", [])
    assert_readable(database, aws, current=True)
    return again


def said(run: HandlerRun) -> str:
    """The first line of its report, which the notification repeats."""
    return str(run.report["headline"])


@pytest.mark.parametrize(("code", "message", "error", "words"), KMS_REFUSALS, ids=[refusal[0] for refusal in KMS_REFUSALS])
def test_kms_that_refuses_after_the_first_chunk_costs_no_value_and_is_named(
    golden_database: GoldenDatabase, aws: FaultyAws, code: str, message: str, error: str, words: tuple[str, ...]
) -> None:
    def break_kms(chunks: int) -> None:
        if chunks == 1:
            aws.cold_start()  # a warm process has the unwrapped data key no longer than for a chunk
            for operation in ("Decrypt", "Encrypt"):
                aws.refuse("kms", operation, code, message=message)

    run = HandlerRun("first", RE_ENCRYPT, break_kms)
    assert run.report["outcome"] == "failed"
    assert run.report["totals"]["re_encrypted"] > 0, "the first chunk was written"
    assert {type(each).__name__ for each in run.errors} == {error}
    for word in words:
        assert word in said(run)
    assert_readable(golden_database, aws)
    again = assert_the_next_run_finishes(golden_database, aws)
    assert again.report["totals"]["already_current"] > 0, "what the first run wrote stays"


def test_kms_that_refuses_between_writing_and_verifying_fails_the_run_and_no_value(golden_database: GoldenDatabase, aws: FaultyAws) -> None:
    chunks: list[int] = []
    HandlerRun("first", {"mode": "verify", "tables": TABLES, "chunkRows": 5}, chunks.append)

    def break_kms(count: int) -> None:
        if count == len(chunks):
            aws.refuse("kms", "Decrypt", "DisabledException")

    run = HandlerRun("second", RE_ENCRYPT, break_kms)
    assert run.report["outcome"] == "failed"
    assert_readable(golden_database, aws, current=True)
    assert assert_the_next_run_finishes(golden_database, aws).report["totals"]["re_encrypted"] == 0


def test_a_kms_key_that_is_disabled_on_the_way_back_leaves_its_values_under_it(golden_database: GoldenDatabase, aws: FaultyAws) -> None:
    """Then it is the old data key that does not open, and the values themselves are what the run cannot read."""

    def break_kms(chunks: int) -> None:
        if chunks == 1:
            aws.refuse("kms", "Decrypt", "DisabledException")

    HandlerRun("there", RE_ENCRYPT)
    back = RE_ENCRYPT | {"provider": "secretKey.v1"}
    run = HandlerRun("back", back, break_kms)
    assert run.report["outcome"] == "failed"
    assert run.report["totals"]["re_encrypted"] > 0
    assert run.report["totals"]["unreadable"] > 0
    assert_readable(golden_database, aws)
    assert HandlerRun("again", back).report["outcome"] == "succeeded"
    assert_readable(golden_database, aws, current=False)


def test_kms_that_stops_to_unwrap_when_the_new_data_key_is_read_back_is_named(golden_database: GoldenDatabase, aws: FaultyAws) -> None:
    aws.refuse("kms", "Decrypt", "DisabledException", spared=1)  # the first one is that of the new key before it is stored
    run = HandlerRun("first", RE_ENCRYPT)
    assert run.report["outcome"] == "failed"
    for word in ("alias/example", "enable it"):
        assert word in run.report["headline"]
    assert_readable(golden_database, aws, current=False)
    assert assert_the_next_run_finishes(golden_database, aws).report["totals"]["re_encrypted"] > 0


def test_kms_that_lets_wrap_and_not_unwrap_leaves_the_database_as_it_is(golden_database: GoldenDatabase, aws: FaultyAws) -> None:
    before = snapshot.take(golden_database.engine)
    aws.refuse("kms", "Decrypt", "AccessDeniedException", message=DENIED)
    run = HandlerRun("first", RE_ENCRYPT)
    assert run.report["outcome"] == "failed"
    for word in (KEY, "kms:Decrypt", "allow"):
        assert word in run.report["headline"]
    assert snapshot.difference(before, snapshot.take(golden_database.engine)) == [], "no data key that nobody can unwrap"


def test_an_outcome_that_s3_refuses_after_its_page_was_written_is_made_up_for_by_the_next_run(golden_database: GoldenDatabase, aws: FaultyAws) -> None:
    refusal = aws.refuse("s3", "PutObject", "AccessDenied", 403, where="/outcomes/process/")
    run = HandlerRun("first", RE_ENCRYPT)
    assert refusal.times > 1
    assert run.report["outcome"] == "failed", "written, but accounted for by nobody"
    assert {type(error) for error in run.errors} == {AwsRefused}
    assert "AWS answers AccessDenied to PutObject" in said(run)
    assert "IAM role" in said(run)
    assert_readable(golden_database, aws, current=True)
    again = assert_the_next_run_finishes(golden_database, aws)
    assert (again.report["totals"]["re_encrypted"], again.report["totals"]["unreadable"]) == (0, 0)


@pytest.mark.parametrize("code", ["AccessDenied", "SlowDown", "NoSuchBucket", "KMS.DisabledException"])
def test_nothing_of_a_page_is_written_whose_journal_s3_refuses(golden_database: GoldenDatabase, aws: FaultyAws, code: str) -> None:
    before = snapshot.take(golden_database.engine)
    aws.refuse("s3", "PutObject", code, 503 if code == "SlowDown" else 403, where=f"/{JOURNAL_BUCKET}/")
    run = HandlerRun("first", RE_ENCRYPT)
    assert run.report["outcome"] == "failed"
    assert f"{code} to PutObject" in said(run)
    changed = snapshot.difference(before, snapshot.take(golden_database.engine))
    assert {entry[0] for entry in changed} == {"data_keys"}, "only the new data key is there"
    assert_the_next_run_finishes(golden_database, aws)


def test_a_journal_that_s3_refuses_halfway_holds_what_has_been_written_until_then(golden_database: GoldenDatabase, aws: FaultyAws) -> None:
    aws.refuse("s3", "PutObject", "SlowDown", 503, where=f"/{JOURNAL_BUCKET}/", spared=1)
    run = HandlerRun("first", RE_ENCRYPT)
    assert (run.report["outcome"], run.report["totals"]["re_encrypted"] > 0) == ("failed", True)
    assert_readable(golden_database, aws)
    undone = HandlerRun("undo", {"mode": "restore", "run": "first"})
    assert (undone.report["outcome"], undone.report["totals"]["re_encrypted"]) == ("succeeded", run.report["totals"]["re_encrypted"])
    assert_readable(golden_database, aws, current=False)
    assert_the_next_run_finishes(golden_database, aws)


@pytest.mark.parametrize(("operation", "where"), [("GetObject", "plan.json"), ("GetObject", "preflight.json"), ("GetObject", "outcomes/")])
def test_an_object_that_s3_does_not_give_back_stops_its_step_with_its_name(golden_database: GoldenDatabase, aws: FaultyAws, operation: str, where: str) -> None:
    aws.refuse("s3", operation, "AccessDenied", 403, where=where)
    run = HandlerRun("first", RE_ENCRYPT)
    assert run.report["outcome"] == "failed"
    assert f"AccessDenied to {operation}" in f"{said(run)}\n{run.unreported}"
    assert_readable(golden_database, aws)
    assert_the_next_run_finishes(golden_database, aws)


def test_without_its_bucket_a_run_ends_before_it_writes_and_says_so_without_a_report(golden_database: GoldenDatabase, aws: FaultyAws) -> None:
    before = snapshot.take(golden_database.engine)
    for operation in ("PutObject", "GetObject", "HeadObject", "ListObjectsV2"):
        aws.refuse("s3", operation, "NoSuchBucket", 404, where=RUN_BUCKET)
    run = HandlerRun("first", RE_ENCRYPT)
    assert isinstance(run.unreported, AwsRefused)
    assert "NoSuchBucket" in str(run.unreported)
    assert run.report["headline"].startswith("AwsRefused"), "which the notification tells instead of a report"
    assert snapshot.difference(before, snapshot.take(golden_database.engine)) == []


def test_a_report_that_s3_refuses_leaves_the_values_done(golden_database: GoldenDatabase, aws: FaultyAws) -> None:
    aws.refuse("s3", "PutObject", "AccessDenied", 403, where="report.")
    run = HandlerRun("first", RE_ENCRYPT)
    assert (run.report["outcome"], type(run.unreported)) == ("failed", AwsRefused)
    assert_readable(golden_database, aws, current=True)
    assert_the_next_run_finishes(golden_database, aws)


@pytest.mark.parametrize("code", ["AccessDeniedException", "ResourceNotFoundException", "ProvisionedThroughputExceededException"])
def test_without_the_table_of_the_lease_no_run_writes(golden_database: GoldenDatabase, aws: FaultyAws, code: str) -> None:
    before = snapshot.take(golden_database.engine)
    aws.refuse("dynamodb", "PutItem", code)
    run = HandlerRun("first", RE_ENCRYPT)
    assert run.report["headline"].startswith(f"failed: AWS answers {code} to PutItem")
    assert snapshot.difference(before, snapshot.take(golden_database.engine)) == []
    assert_the_next_run_finishes(golden_database, aws)


def test_a_worker_that_cannot_renew_the_lease_writes_nothing_more(golden_database: GoldenDatabase, aws: FaultyAws) -> None:
    before = snapshot.take(golden_database.engine)
    aws.refuse("dynamodb", "UpdateItem", "InternalServerError", 500)
    run = HandlerRun("first", RE_ENCRYPT)
    assert "InternalServerError to UpdateItem" in said(run)
    changed = snapshot.difference(before, snapshot.take(golden_database.engine))
    assert {entry[0] for entry in changed} == {"data_keys"}
    assert_the_next_run_finishes(golden_database, aws)


def test_a_lease_that_cannot_be_given_back_does_not_undo_the_success(golden_database: GoldenDatabase, aws: FaultyAws) -> None:
    aws.refuse("dynamodb", "DeleteItem", "AccessDeniedException")
    run = HandlerRun("first", RE_ENCRYPT)
    assert (run.report["outcome"], [str(error)[:45] for error in run.errors]) == ("succeeded", ["AWS answers AccessDeniedException to DeleteItem"[:45]])
    aws.recover()
    assert HandlerRun("second", RE_ENCRYPT).report["headline"].startswith("failed: another run is going on: arn:first"), "until it has expired"


@pytest.mark.parametrize("code", ["AccessDeniedException", "ResourceNotFoundException", "DecryptionFailure", "ThrottlingException"])
def test_a_secret_that_secrets_manager_does_not_give_ends_the_run_in_words(golden_database: GoldenDatabase, aws: FaultyAws, code: str) -> None:
    before = snapshot.take(golden_database.engine)
    aws.refuse("secretsmanager", "GetSecretValue", code, message=f"not authorized to {INI_SECRET}")
    run = HandlerRun("first", RE_ENCRYPT)
    assert run.report["headline"].startswith(f"failed: AWS answers {code} to GetSecretValue")
    assert snapshot.difference(before, snapshot.take(golden_database.engine)) == []
    assert_the_next_run_finishes(golden_database, aws)


def test_a_secret_that_is_refused_to_one_worker_leaves_its_chunk_to_the_next_run(golden_database: GoldenDatabase, aws: FaultyAws) -> None:
    def break_secret(chunks: int) -> None:
        if chunks == 1:
            aws.cold_start()
            aws.refuse("secretsmanager", "GetSecretValue", "AccessDeniedException")

    run = HandlerRun("first", RE_ENCRYPT, break_secret)
    assert run.report["outcome"] == "failed"
    assert "AccessDeniedException to GetSecretValue" in said(run)
    assert all(isinstance(error, ReencryptError) for error in run.errors)
    assert_readable(golden_database, aws)
    assert_the_next_run_finishes(golden_database, aws)
