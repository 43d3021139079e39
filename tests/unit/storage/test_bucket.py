"""An object is there whole or not at all, in S3 as in a folder, and of two that write it once the first one counts."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from botocore.exceptions import ClientError
from botocore.stub import Stubber

from reencrypt.storage.bucket import Bucket, FolderBucket, S3Bucket
from tests.unit.storage.conftest import SESSION, Wire

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

JSON = "application/json"
# In the order of their bytes: capitals before small letters, '/' before digits, all of ASCII before the rest.
KEYS = ["runs/a/1.json", "runs/a/10.json", "runs/a/2.json", "runs/a/B", "runs/a/b/c", "runs/a/b0", "runs/a/é", "runs/a0", "runs/ab/x"]


@pytest.fixture(params=["S3", "folder"])
def any_bucket(request: pytest.FixtureRequest, tmp_path: Path) -> Bucket:
    if request.param == "folder":
        return FolderBucket(tmp_path)
    return S3Bucket(request.getfixturevalue("bucket"), request.getfixturevalue("s3"))


@pytest.mark.parametrize("body", [b"", b"\x00\xff\r\n", b"{}"], ids=["empty", "binary", "json"])
def test_bytes_come_back_as_they_were_put(any_bucket: Bucket, body: bytes) -> None:
    any_bucket.put("runs/a/1", body, JSON)
    assert any_bucket.get("runs/a/1") == body
    assert any_bucket.exists("runs/a/1")


def test_what_is_absent_is_said_to_be_so(any_bucket: Bucket) -> None:
    assert any_bucket.get("runs/a/1") is None
    assert not any_bucket.exists("runs/a/1")
    assert list(any_bucket.keys("runs/")) == []
    with pytest.raises(LookupError, match="runs/a/1"):
        next(any_bucket.lines("runs/a/1"))


def test_of_two_that_write_once_the_first_counts_and_the_second_learns_it(any_bucket: Bucket) -> None:
    assert any_bucket.put_once("runs/a/1", b"first", JSON)
    assert not any_bucket.put_once("runs/a/1", b"second", JSON)
    assert any_bucket.get("runs/a/1") == b"first"
    any_bucket.put("runs/a/1", b"third", JSON)
    assert any_bucket.get("runs/a/1") == b"third"


def test_keys_are_those_of_the_prefix_in_the_order_of_their_bytes(any_bucket: Bucket) -> None:
    for key in reversed(KEYS):
        any_bucket.put(key, b"", JSON)
    assert list(any_bucket.keys("runs/")) == KEYS
    assert list(any_bucket.keys("runs/a/")) == [key for key in KEYS if key.startswith("runs/a/")]
    assert list(any_bucket.keys("runs/a")) == KEYS
    assert list(any_bucket.keys("runs/a/1")) == ["runs/a/1.json", "runs/a/10.json"]
    assert list(any_bucket.keys("runs/absent/")) == []


def test_more_keys_than_s3_lists_at_once_all_come_in_order(s3: S3Client, bucket: str, s3_wire: Wire) -> None:
    ours = S3Bucket(bucket, s3)
    wanted = [f"journal/run/{number:06d}/x" for number in range(2_100)]
    for key in wanted:
        ours.put(key, b"", JSON)
    before = len(s3_wire.requests)
    assert list(ours.keys("journal/run/")) == wanted
    assert len(s3_wire.requests) - before == 3


@pytest.mark.parametrize(("body", "lines"), [(b"", []), (b"a\n", [b"a"]), (b"a\n\nb\n", [b"a", b"", b"b"]), (b"a\nb", [b"a", b"b"])], ids=repr)
def test_lines_are_the_lines_of_the_object(any_bucket: Bucket, body: bytes, lines: list[bytes]) -> None:
    any_bucket.put("chunks.jsonl", body, "application/jsonl")
    assert list(any_bucket.lines("chunks.jsonl")) == lines


def test_lines_come_back_whole_however_long_they_are(any_bucket: Bucket) -> None:
    lines = [bytes([65 + number % 26]) * (number * 97 % 3_000) for number in range(200)]
    any_bucket.put("chunks.jsonl", b"".join(line + b"\n" for line in lines), "application/jsonl")
    assert list(any_bucket.lines("chunks.jsonl")) == lines


def test_whoever_reads_while_another_writes_finds_the_old_object_or_the_new_one(tmp_path: Path) -> None:
    ours = FolderBucket(tmp_path)
    bodies = [bytes([number]) * (4 << 20) for number in range(8)]
    ours.put("report.json", bodies[0], JSON)
    done = threading.Event()
    found: list[bytes | None] = []

    def read() -> None:
        while not done.is_set():
            found.append(ours.get("report.json"))

    reader = threading.Thread(target=read)
    reader.start()
    for body in bodies:
        ours.put("report.json", body, JSON)
    done.set()
    reader.join()
    assert all(body in bodies for body in found)
    assert list(ours.keys("")) == ["report.json"], "and no half-written one is left or listed"


def test_whoever_comes_second_finds_the_first_ones_object_whole(tmp_path: Path) -> None:
    ours = FolderBucket(tmp_path)
    bodies = [bytes([number]) * (4 << 20) for number in range(4)]
    wrong: list[object] = []

    def write(body: bytes) -> None:
        if not ours.put_once("outcome.json", body, JSON) and ours.get("outcome.json") not in bodies:
            wrong.append(body)

    writers = [threading.Thread(target=write, args=(body,)) for body in bodies]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert wrong == []


def test_the_type_is_kept_and_once_is_a_condition_that_s3_judges(s3: S3Client, bucket: str, s3_wire: Wire) -> None:
    S3Bucket(bucket, s3).put_once("a", b"{}", JSON)
    assert s3_wire.requests[-1].headers["If-None-Match"] in ("*", b"*")
    assert s3.get_object(Bucket=bucket, Key="a")["ContentType"] == JSON


@pytest.mark.parametrize("error", [(403, "AccessDenied"), (404, "NoSuchBucket"), (503, "SlowDown")], ids=lambda error: error[1])
def test_a_refusal_to_list_is_never_taken_for_an_empty_bucket(error: tuple[int, str]) -> None:
    client = SESSION.client("s3")
    with Stubber(client) as stub:
        stub.add_client_error("list_objects_v2", error[1], http_status_code=error[0])
        with pytest.raises(ClientError, match=error[1]):
            list(S3Bucket("bucket", client).keys("journal/"))
