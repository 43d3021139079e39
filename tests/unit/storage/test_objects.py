"""What one step of a run leaves is what the next one finds, in S3 as in a folder; `once` lets one writer win."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError
from botocore.stub import Stubber
from hypothesis import given, settings
from hypothesis import strategies as st

from reencrypt.storage import objects
from reencrypt.storage.bucket import FolderBucket, S3Bucket
from reencrypt.storage.objects import RunStore
from tests.unit.storage.conftest import SESSION, Wire

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

RUN = "2026-11-25T12-00-00Z"
HALF_A_PAIR = {"path": ["jsonData", "\ud800", "ключ"], "primary_key": {"id": 5}}
VALUES = [{"id": 1, "after": None}, [], "", 0, False, {"line": "a\nb\r\u2028\x85c"}, {"path": ["é", "鍵"]}, HALF_A_PAIR]


@pytest.fixture(params=["S3", "folder"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> RunStore:
    if request.param == "folder":
        return RunStore(FolderBucket(tmp_path), RUN)
    return RunStore(S3Bucket(request.getfixturevalue("bucket"), request.getfixturevalue("s3")), RUN)


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_json_comes_back_as_it_was_put(store: RunStore, value: object) -> None:
    assert store.put_json("facts.json", value)
    assert store.get_json("facts.json") == value
    assert store.find_json("facts.json") == value


def test_json_is_written_over_unless_it_is_to_be_written_once(store: RunStore) -> None:
    assert store.put_json("outcomes/1.json", {"from": "first"}, once=True)
    assert not store.put_json("outcomes/1.json", {"from": "second"}, once=True)
    assert store.get_json("outcomes/1.json") == {"from": "first"}
    assert store.put_json("outcomes/1.json", {"from": "third"})
    assert store.get_json("outcomes/1.json") == {"from": "third"}


def test_an_object_that_is_not_there_is_said_to_be_absent(store: RunStore) -> None:
    assert not store.exists("facts.json")
    assert store.find_json("facts.json") is None
    with pytest.raises(LookupError, match=r"facts\.json"):
        store.get_json("facts.json")
    with pytest.raises(LookupError, match=r"chunks\.jsonl"):
        next(store.iter_lines("chunks.jsonl"))


def test_an_object_that_is_there_exists(store: RunStore) -> None:
    store.put_json("facts.json", {})
    assert store.exists("facts.json")
    assert not store.exists("facts")


def test_lines_come_back_in_their_order_whatever_line_ends_their_values_hold(store: RunStore) -> None:
    store.put_lines("chunks.jsonl", iter(VALUES))
    assert list(store.iter_lines("chunks.jsonl")) == VALUES


def test_no_lines_are_no_lines_and_not_an_absent_object(store: RunStore) -> None:
    store.put_lines("chunks.jsonl", [])
    assert store.exists("chunks.jsonl")
    assert list(store.iter_lines("chunks.jsonl")) == []


def test_every_key_lies_under_its_run(store: RunStore) -> None:
    assert store.full_key("chunks.jsonl") == f"runs/{RUN}/chunks.jsonl"


def test_one_run_does_not_see_the_objects_of_another(s3: S3Client, bucket: str, tmp_path: Path) -> None:
    stores: list[Callable[[str], RunStore]] = [lambda run: RunStore(S3Bucket(bucket, s3), run), lambda run: RunStore(FolderBucket(tmp_path), run)]
    for of_run in stores:
        of_run("one").put_json("facts.json", {})
        assert not of_run("two").exists("facts.json")


@settings(max_examples=50, deadline=None)
@given(st.recursive(st.none() | st.integers() | st.text(st.characters()), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_any_json_is_utf_8_on_one_line(value: object) -> None:
    line = objects._dump(value)
    line.decode("utf-8")
    assert b"\n" not in line
    assert b"\r" not in line


def test_a_text_is_stored_as_utf_8_with_its_type(s3: S3Client, bucket: str, tmp_path: Path) -> None:
    RunStore(S3Bucket(bucket, s3), RUN).put_text("report.html", "<p>naïve\r\n", "text/html; charset=utf-8")
    stored = s3.get_object(Bucket=bucket, Key=f"runs/{RUN}/report.html")
    assert (stored["Body"].read(), stored["ContentType"]) == ("<p>naïve\r\n".encode(), "text/html; charset=utf-8")
    RunStore(FolderBucket(tmp_path), RUN).put_text("report.html", "<p>naïve\r\n", "text/html; charset=utf-8")
    assert (tmp_path / "runs" / RUN / "report.html").read_bytes() == "<p>naïve\r\n".encode()


def test_a_large_line_file_is_never_held_whole(s3: S3Client, bucket: str, s3_wire: Wire) -> None:
    store = RunStore(S3Bucket(bucket, s3), RUN)
    store.put_lines("chunks.jsonl", ({"id": number, "padding": "x" * 100} for number in range(5_000)))
    s3_wire.reads.clear()
    lines = store.iter_lines("chunks.jsonl")
    assert [next(lines)["id"] for _ in range(10)] == list(range(10))
    assert sum(size or 1 << 40 for size in s3_wire.reads) < 64_000
    lines.close()  # type: ignore[attr-defined]  # iter_lines is a generator, which its type leaves open


def test_looking_for_an_object_leaves_no_trace_in_the_folder(tmp_path: Path) -> None:
    RunStore(FolderBucket(tmp_path), RUN).exists("outcomes/1.json")
    assert not list(tmp_path.iterdir())


# S3's answers that the emulator never gives: (HTTP status, code).
_CONFLICT = (409, "ConditionalRequestConflict")
_EXISTS = (412, "PreconditionFailed")


def _answers(stub: Stubber, *errors: tuple[int, str]) -> None:
    expected: dict[str, Any] = {
        "Bucket": "bucket", "Key": f"runs/{RUN}/outcomes/1.json", "Body": b"{}", "ContentType": "application/json", "IfNoneMatch": "*",
    }  # fmt: skip
    for status, code in errors:
        stub.add_client_error("put_object", code, http_status_code=status, expected_params=expected)


@pytest.mark.parametrize(
    ("errors", "written"),
    [((_EXISTS,), False), ((_CONFLICT, _EXISTS), False), ((_CONFLICT,), True), ((_CONFLICT,) * 4, True)],
    ids=["exists", "conflict, then exists", "conflict, then free", "four conflicts, then free"],
)
def test_of_two_writers_at_the_same_moment_each_learns_whether_its_own_counts(errors: tuple[tuple[int, str], ...], written: bool) -> None:
    client = SESSION.client("s3")
    with Stubber(client) as stub:
        _answers(stub, *errors)
        if written:
            stub.add_response("put_object", {})
        assert RunStore(S3Bucket("bucket", client), RUN).put_json("outcomes/1.json", {}, once=True) is written
        stub.assert_no_pending_responses()


@pytest.mark.parametrize("error", [(403, "AccessDenied"), (404, "NoSuchBucket"), (503, "SlowDown")], ids=lambda error: error[1])
def test_what_is_no_answer_about_the_object_is_never_taken_for_one(error: tuple[int, str]) -> None:
    client = SESSION.client("s3")
    store = RunStore(S3Bucket("bucket", client), RUN)
    calls: list[tuple[str, Callable[[], object]]] = [
        ("put_object", lambda: store.put_json("a", {}, once=True)),
        ("put_object", lambda: store.put_json("a", {})),
        ("put_object", lambda: store.put_lines("a", [])),
        ("get_object", lambda: store.find_json("a")),
        ("get_object", lambda: store.get_json("a")),
        ("get_object", lambda: next(store.iter_lines("a"))),
        ("head_object", lambda: store.exists("a")),
    ]
    with Stubber(client) as stub:
        for operation, call in calls:
            stub.add_client_error(operation, error[1], http_status_code=error[0])
            with pytest.raises(ClientError, match=error[1]):
                call()


def test_a_conflict_that_does_not_end_is_an_error_and_not_a_guess() -> None:
    client = SESSION.client("s3")
    with Stubber(client) as stub:
        _answers(stub, *(_CONFLICT,) * 5)
        with pytest.raises(ClientError, match="ConditionalRequestConflict"):
            RunStore(S3Bucket("bucket", client), RUN).put_json("outcomes/1.json", {}, once=True)
