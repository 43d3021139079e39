"""What a run writes over can be read back from its undo journal, byte for byte, and nothing of it is shown on the way."""

from __future__ import annotations

import gzip
import os
import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reencrypt.storage.bucket import Bucket, FolderBucket, S3Bucket
from reencrypt.storage.journal import Entry, Journal, digest
from tests.unit.storage.conftest import Wire

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

RUN = "2026-11-25T12-00-00Z"
OLD = b"#cg5b0mkd3pc00e#*YWVzLWNmYg*\x00\xff\nold"


@dataclass
class Clock:
    now: float = 1_795_608_000.0

    def __call__(self) -> float:
        self.now += 0.001
        return self.now


def entry(number: int = 1, old: bytes = OLD, **changes: object) -> Entry:
    return Entry(**{"group": "secrets", "column": "secrets.value", "key": (number,), "path": None, "old": old, "new": digest(b"new"), **changes})  # type: ignore[arg-type]  # fields by name


def all_of(journal: Journal, chunk: int) -> list[Entry]:
    return [entry for page in journal.pages(chunk) for entry in journal.read(page)]


@pytest.fixture(params=["S3", "folder"])
def bucket_of_kind(request: pytest.FixtureRequest, tmp_path: Path) -> Bucket:
    if request.param == "folder":
        return FolderBucket(tmp_path)
    return S3Bucket(request.getfixturevalue("bucket"), request.getfixturevalue("s3"))


_TEXT = st.text(st.characters())  # half surrogate pairs too, as a key of Grafana's JSON may be
_ENTRIES = st.builds(
    Entry,
    group=st.just("user_auth"),
    column=st.just("user_auth.o_auth_access_token"),
    key=st.lists(st.integers(-(1 << 63), 1 << 63) | _TEXT, min_size=1, max_size=3).map(tuple),
    path=st.none() | st.lists(st.integers(0, 99) | _TEXT, max_size=5).map(tuple),
    old=st.binary(max_size=200) | st.sampled_from([b"\n", b'{"g": 1}\n', b"\r\n" * 20, b"\x1f\x8b"]),
    new=st.binary(max_size=9).map(digest),
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(_ENTRIES, max_size=5))
def test_whatever_was_kept_comes_back_byte_for_byte(tmp_path: Path, entries: list[Entry]) -> None:
    journal = Journal(FolderBucket(tmp_path / digest(os.urandom(8))), RUN)
    journal.record(3, iter(entries))
    assert all_of(journal, 3) == entries


def test_what_was_written_last_is_read_first(bucket_of_kind: Bucket) -> None:
    journal = Journal(bucket_of_kind, RUN, Clock())
    for number in range(12):
        journal.record(1, [entry(number), entry(number + 100)])
    assert [each.key[0] for each in all_of(journal, 1)] == [key for number in reversed(range(12)) for key in (number, number + 100)]


def test_attempts_at_the_same_moment_are_all_kept(bucket_of_kind: Bucket) -> None:
    journal = Journal(bucket_of_kind, RUN, lambda: 1_795_608_000.0)
    for number in range(20):
        journal.record(1, [entry(number)])
    assert {each.key[0] for each in all_of(journal, 1)} == set(range(20))


def test_the_order_holds_as_the_number_of_digits_grows(tmp_path: Path) -> None:
    times = iter([9.0, 99_999.0, 1_795_608_000.0, 9_999_999_999.0])
    journal = Journal(FolderBucket(tmp_path), RUN, lambda: next(times))
    for number in range(4):
        journal.record(1, [entry(number)])
    assert [each.key[0] for each in all_of(journal, 1)] == [3, 2, 1, 0]


def test_a_journal_knows_the_chunks_that_were_written_in_and_only_those_of_its_run(bucket_of_kind: Bucket) -> None:
    for run, chunk in (("run-1", 0), ("run-1", 12), ("run-1", 2_000_000), ("run-10", 7), ("run-1", 12)):
        Journal(bucket_of_kind, run).record(chunk, [entry(chunk)])
    ours = Journal(bucket_of_kind, "another").of_run("run-1")
    assert ours.chunks() == [0, 12, 2_000_000]
    assert [each.key[0] for each in all_of(ours, 12)] == [12, 12]
    assert all_of(ours, 1) == []
    assert Journal(bucket_of_kind, "run").chunks() == []


def test_nothing_is_decoded_so_that_no_text_can_be_damaged(tmp_path: Path) -> None:
    journal = Journal(FolderBucket(tmp_path), RUN)
    journal.record(0, [entry(old=bytes(range(256)))])
    [path] = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert gzip.decompress(path.read_bytes()).endswith(b"\n" + bytes(range(256)))


def test_the_object_is_there_whole_before_anything_may_be_written_over(s3: S3Client, bucket: str, s3_wire: Wire) -> None:
    asked: list[int] = []

    def entries() -> Iterator[Entry]:
        for number in range(3):
            asked.append(len(s3_wire.requests))
            yield entry(number)

    before = len(s3_wire.requests)
    Journal(S3Bucket(bucket, s3), RUN).record(1, entries())
    assert asked == [before] * 3, "nothing is sent before the last entry"
    assert [request.method for request in s3_wire.requests[before:]] == ["PUT"], "one object, at once"
    assert [each.key[0] for each in all_of(Journal(S3Bucket(bucket, s3), RUN), 1)] == [0, 1, 2]


def test_a_bucket_that_refuses_is_an_error_and_never_passed_over(s3: S3Client) -> None:
    with pytest.raises(s3.exceptions.NoSuchBucket):
        Journal(S3Bucket("absent", s3), RUN).record(1, [entry()])


def test_a_page_that_has_expired_meanwhile_is_empty(bucket_of_kind: Bucket) -> None:
    assert list(Journal(bucket_of_kind, RUN).read("journal/run/000001/gone.gz")) == []


def test_an_entry_shows_its_place_and_not_what_stood_there() -> None:
    assert "secrets.value" in repr(entry())
    assert "cg5b0mkd3pc00e" not in repr(entry())


def test_a_large_value_is_not_held_as_text_as_well(tmp_path: Path) -> None:
    """A dashboard snapshot may have 16 MB; that is held, and once more compressed."""
    journal = Journal(FolderBucket(tmp_path), RUN)
    large = entry(old=os.urandom(16 << 20))
    tracemalloc.start()
    try:
        journal.record(1, [large])
        _, recording = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        [page] = journal.pages(1)
        for read in journal.read(page):
            assert read == large
        _, reading = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert recording < 60 << 20
    assert reading < 60 << 20
