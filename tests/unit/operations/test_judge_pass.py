"""After each pass: is it whole, and does a wait, a sweep or the verification follow?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from reencrypt.errors import IncompleteRun, TooManyUnreadable
from reencrypt.operations.judge_pass import judge_pass, sweeps
from reencrypt.operations.plan_chunks import MANIFEST
from reencrypt.operations.preflight import PREFLIGHT
from reencrypt.operations.run_input import parse
from reencrypt.operations.stopping import stop
from reencrypt.operations.work import Phase, outcome_name
from reencrypt.storage.bucket import FolderBucket
from reencrypt.storage.objects import RunStore

COLUMN = "secrets.value"


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    store = RunStore(FolderBucket(tmp_path), "run-1")
    store.put_json(PREFLIGHT, {"settle_seconds": 960})
    store.put_lines(MANIFEST, [{"id": 0, "group": "secrets"}, {"id": 1, "group": "secrets"}])
    return store


def leave(store: RunStore, number: int, chunk: int, counts: dict[str, int], position: list[int] | None = None, to: list[int] | None = None) -> None:
    """The outcome of a stretch."""
    store.put_json(
        outcome_name(Phase.sweep(number), chunk, position),
        {
            "group": "secrets",
            "rows": sum(counts.values()),
            "columns": {COLUMN: counts},
            "keys": {},
            "unreadable": [],
            "plaintext": [],
            "new_data_keys": [],
            "witnesses": {},
            "references": [],
            "seconds": 1.5,
            "to": to,
        },
    )


def judge(store: RunStore, number: int, **options: Any) -> dict[str, Any]:
    return judge_pass(parse({"mode": "re-encrypt", **options}), store, number)


def whole(store: RunStore, number: int, **counts: int) -> None:
    leave(store, number, 0, counts)
    leave(store, number, 1, {"already_current": 1})


def test_the_first_pass_is_followed_by_the_wait_for_grafanas_caches_whatever_it_found(store: RunStore) -> None:
    whole(store, 0, already_current=5)
    assert judge(store, 0) == {"number": 1, "phase": "sweep-1", "moved": 0, "next": "settle", "seconds": 960}
    assert sweeps(store) == []


def test_with_grafana_stopped_the_first_pass_is_the_last(store: RunStore) -> None:
    store.put_json(PREFLIGHT, {"settle_seconds": 0})
    whole(store, 0, re_encrypted=5)
    assert judge(store, 0)["next"] == "verify"


def test_a_restore_is_verified_at_once(store: RunStore) -> None:
    whole(store, 0, re_encrypted=5)
    assert judge_pass(parse({"mode": "restore", "run": "run-0"}), store, 0)["next"] == "verify"


@pytest.mark.parametrize("mode", ["rewrap-data-keys", "rotate-secret-key"])
def test_data_keys_are_wrapped_anew_once_everything_under_them_has_been_read(store: RunStore, mode: str) -> None:
    whole(store, 0, already_current=5)
    assert judge_pass(parse({"mode": mode}), store, 0)["next"] == "rewrap"


@pytest.mark.parametrize(
    ("counts", "following"),
    [
        ({"already_current": 5}, "verify"),
        ({"already_current": 4, "unreadable": 1}, "verify"),
        ({"already_current": 4, "re_encrypted": 1}, "sweep"),
        ({"already_current": 4, "changed_by_grafana": 1}, "sweep"),
    ],
    ids=["nothing", "what no sweep can mend", "moved", "missed"],
)
def test_a_sweep_that_found_something_is_followed_by_another_one(store: RunStore, counts: dict[str, int], following: str) -> None:
    whole(store, 1, **counts)
    judged = judge(store, 1)
    assert judged == {"number": 2, "phase": "sweep-2", "moved": counts.get("re_encrypted", 0), "next": following, "seconds": 960}


@pytest.mark.parametrize(("number", "most", "following"), [(4, 5, "sweep"), (5, 5, "verify"), (1, 1, "verify"), (9, 10, "sweep")])
def test_there_are_no_more_sweeps_than_the_input_allows(store: RunStore, number: int, most: int, following: str) -> None:
    whole(store, number, re_encrypted=1)
    assert judge(store, number, maxSweeps=most)["next"] == following


def test_each_sweep_is_kept_for_the_report_in_order_and_a_repeated_judgement_changes_nothing(store: RunStore) -> None:
    for number in (11, 2, 1):
        leave(store, number, 0, {"re_encrypted": number, "already_current": 2}, to=[3])
        leave(store, number, 0, {"changed_by_grafana": 1}, position=[3])
        leave(store, number, 1, {"empty": 4})
        assert judge(store, number) == judge(store, number)
    assert [entry["sweep"] for entry in sweeps(store)] == [1, 2, 11]
    assert sweeps(store)[1] == {
        "sweep": 2, "values": 9, "moved": 2, "changed_by_grafana": 1, "columns": {COLUMN: 2}, "seconds": 4.5, "deliveries": 3,
    }  # fmt: skip


@pytest.mark.parametrize("number", [0, 1])
def test_a_pass_with_a_chunk_that_has_no_outcome_is_not_whole(store: RunStore, number: int) -> None:
    leave(store, number, 0, {"re_encrypted": 5})
    with pytest.raises(IncompleteRun, match=rf"^chunk 1 \(secrets\) has no outcome in the {Phase.sweep(number).value} pass"):
        judge(store, number)
    assert sweeps(store) == []


def test_a_pass_that_ends_in_the_middle_of_a_chunk_is_not_whole(store: RunStore) -> None:
    leave(store, 0, 0, {"re_encrypted": 5}, to=[3])
    leave(store, 0, 1, {"re_encrypted": 5})
    with pytest.raises(IncompleteRun, match="chunk 0"):
        judge(store, 0)


def test_what_stopped_the_workers_is_what_ends_the_run(store: RunStore) -> None:
    leave(store, 0, 0, {"re_encrypted": 5})
    stop(store, TooManyUnreadable("11 values are unreadable"), {})
    stop(store, TooManyUnreadable("12 values are unreadable"), {})
    with pytest.raises(TooManyUnreadable, match=r"^11 values"):
        judge(store, 0)
