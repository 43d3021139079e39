"""What a running Grafana puts back under an old key is brought along by the sweeps, or the run says that it is left."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from reencrypt.database.database import Database, Swap, Swapped
from reencrypt.grafana.secret_columns import ColumnGroup
from reencrypt.operations import chunk as chunks
from reencrypt.operations.run_input import MAXIMUM_SETTLE_SECONDS
from tests.integration.test_golden_runs import assert_all_readable, sums
from tests.integration.test_live_grafana import column, value
from tests.support.golden import KMS_SECTION, GoldenDatabase
from tests.support.local_run import KMS, LocalRun

EACH_ENGINE = pytest.mark.parametrize("golden_database", ["12.4.0-sqlite", "12.4.0-mysql", "12.4.0-postgres"], indirect=True)
SQLITE = pytest.mark.parametrize("golden_database", ["12.4.0-sqlite"], indirect=True)
READY: dict[str, Any] = {"providerReady": True, "tables": ["user_auth"]}
TOKEN = "o_auth_access_token"


def put_back(database: GoldenDatabase, old: str) -> None:
    """As a save in Grafana does, which copies what it had read before."""
    with database.engine.begin() as connection:
        connection.execute(sa.text(f"UPDATE user_auth SET {TOKEN} = :old WHERE id = 1"), {"old": old})


def after_each_write(action: Callable[[], None]) -> Callable[[Database], Database]:
    def wrap(ours: Database) -> Database:
        swap = ours.compare_and_swap

        def compare_and_swap(group: ColumnGroup, swaps: Sequence[Swap]) -> list[Swapped]:
            results = swap(group, swaps)
            action()
            return results

        ours.compare_and_swap = compare_and_swap  # type: ignore[method-assign]  # right behind the write
        return ours

    return wrap


@EACH_ENGINE
def test_what_grafana_puts_back_between_the_passes_is_brought_along_and_told_for_each_sweep(golden_database: GoldenDatabase, tmp_path: Path) -> None:
    run = LocalRun(golden_database.settings(), tmp_path)
    old, waited = value(golden_database, "user_auth", TOKEN, 1), []

    def settle(seconds: int) -> None:
        waited.append(seconds)
        put_back(golden_database, old)

    run.settle = settle
    report = run.run("re-encrypt", providerReady=True)
    assert (report["outcome"], report["left_under_old_keys"], report["error"]) == ("succeeded", 0, None)
    assert [(sweep["sweep"], sweep["moved"]) for sweep in report["sweeps"]] == [(1, 1), (2, 0)]
    assert {sweep["values"] for sweep in report["sweeps"]} == {report["totals"]["values"]}
    assert "1 brought along by 2 sweeps" in report["headline"]
    assert waited == [15 * 60 + 60], "Grafana's data_keys_cache_ttl and a minute, once"
    sums(report)
    assert_all_readable(golden_database, run, KMS)


@EACH_ENGINE
def test_a_new_row_behind_the_cursor_is_swept(golden_database: GoldenDatabase, tmp_path: Path) -> None:
    """A text key: the new row's stands before all of those that the pass has been through."""
    run = LocalRun(golden_database.settings(), tmp_path)
    source = min(entry["pk"]["id"] for entry in golden_database.expected["values"] if entry["table"] == "sso_setting")
    with golden_database.engine.connect() as connection:
        row = connection.execute(sa.text("SELECT * FROM sso_setting WHERE id = :id"), {"id": source}).mappings().one()

    def add(_: int) -> None:
        names = ", ".join(str(name) for name in row)
        with golden_database.engine.begin() as connection:
            marks = ", ".join(f":{name}" for name in row)
            connection.execute(sa.text(f"INSERT INTO sso_setting ({names}) VALUES ({marks})"), {**row, "id": "00000000-new", "provider": "new"})

    run.settle = add
    report = run.run("re-encrypt", providerReady=True, tables=["sso_setting"])
    moved = sum(entry["table"] == "sso_setting" and entry["pk"]["id"] == source for entry in golden_database.expected["values"])
    assert [sweep["moved"] for sweep in report["sweeps"]] == [moved, 0]
    assert (report["outcome"], report["left_under_old_keys"]) == ("succeeded", 0)
    sums(report)


@EACH_ENGINE
def test_sweeps_end_and_the_run_fails_where_grafana_never_stops(golden_database: GoldenDatabase, tmp_path: Path) -> None:
    run = LocalRun(golden_database.settings(), tmp_path)
    old = value(golden_database, "user_auth", TOKEN, 1)
    run.wrap_database = after_each_write(lambda: put_back(golden_database, old))
    report = run.run("re-encrypt", **READY, maxSweeps=3)
    assert [sweep["moved"] for sweep in report["sweeps"]] == [1, 1, 1]
    assert (report["outcome"], report["left_under_old_keys"], report["error"]) == ("failed", 1, None)
    assert "1 STILL UNDER AN OLD KEY" in report["headline"]
    assert any("Restart every replica" in note for note in report["notes"])
    assert report["next_input"] == {"mode": "re-encrypt", **READY, "maxSweeps": 3}
    assert any("bring the rest along" in step for step in report["next_steps"])
    sums(report)
    run.wrap_database = lambda database: database
    again = run.run(**{**report["next_input"], "mode": "re-encrypt"})
    assert (again["outcome"], again["totals"]["re_encrypted"]) == ("succeeded", 1)


@SQLITE
def test_a_value_that_was_missed_is_reason_for_one_more_sweep(golden_database: GoldenDatabase, tmp_path: Path) -> None:
    """Grafana writes between our read and our write, in the first pass and in the first sweep."""
    run = LocalRun(golden_database.settings(), tmp_path)
    values = [value(golden_database, "user_auth", "o_auth_refresh_token", row) for row in (1, 2)]

    def wrap(ours: Database) -> Database:
        swap = ours.compare_and_swap

        def compare_and_swap(group: ColumnGroup, swaps: Sequence[Swap]) -> list[Swapped]:
            touched = {(swap.row.key, group.columns[index].column) for swap in swaps for index in swap.new}
            if values and ((1,), TOKEN) in touched:
                put_back(golden_database, values.pop())
            return swap(group, swaps)

        ours.compare_and_swap = compare_and_swap  # type: ignore[method-assign]  # the seam between read and write
        return ours

    run.wrap_database = wrap
    report = run.run("re-encrypt", **READY)
    assert column(report, "user_auth", TOKEN)["changed_by_grafana"] == 1
    assert [(sweep["moved"], sweep["changed_by_grafana"]) for sweep in report["sweeps"]] == [(0, 1), (1, 0), (0, 0)]
    assert (report["outcome"], report["left_under_old_keys"]) == ("succeeded", 0)
    sums(report)


@EACH_ENGINE
def test_a_stopped_grafana_needs_no_sweep_and_one_that_was_not_is_told(golden_database: GoldenDatabase, tmp_path: Path) -> None:
    run = LocalRun(golden_database.settings(), tmp_path)
    run.settle = lambda seconds: pytest.fail(f"waits {seconds} s for a Grafana that is stopped")
    old = value(golden_database, "user_auth", TOKEN, 1)
    run.wrap_database = after_each_write(lambda: put_back(golden_database, old))
    report = run.run("re-encrypt", **READY, settleSeconds=0)
    assert (report["outcome"], report["sweeps"], report["left_under_old_keys"]) == ("failed", [], 1)
    assert any("settleSeconds 0 (Grafana is stopped) leaves the sweep out. Run again without settleSeconds" in note for note in report["notes"])
    assert report["next_input"] == {"mode": "re-encrypt", **READY}
    run.wrap_database = lambda database: database
    again = run.run("re-encrypt", **READY, settleSeconds=0)
    assert (again["outcome"], again["totals"]["re_encrypted"], again["sweeps"]) == ("succeeded", 1, [])


@SQLITE
@pytest.mark.parametrize(
    ("setting", "options", "seconds"),
    [
        ("", {}, 960),
        ("[security.encryption]\ndata_keys_cache_ttl = 2m\n", {}, 180),
        ("[security.encryption]\ndata_keys_cache_ttl = 2m\n", {"settleSeconds": 7}, 7),
        ("[security.encryption]\ndata_keys_cache_ttl = 1000h\n", {}, MAXIMUM_SETTLE_SECONDS),
    ],
    ids=["default", "setting", "input", "at most"],
)
def test_the_run_waits_until_no_replica_can_have_an_old_key_in_its_cache(
    golden_database: GoldenDatabase, tmp_path: Path, setting: str, options: dict[str, Any], seconds: int
) -> None:
    run = LocalRun(golden_database.settings(KMS_SECTION + setting), tmp_path)
    waited: list[int] = []
    run.settle = waited.append
    report = run.run("re-encrypt", **READY, **options)
    assert (waited, report["settle_seconds"], len(report["sweeps"])) == ([seconds], seconds, 1)


@SQLITE
@pytest.mark.parametrize("mode", ["plan", "verify", "restore"])
def test_other_modes_neither_wait_nor_sweep(golden_database: GoldenDatabase, tmp_path: Path, mode: str) -> None:
    run = LocalRun(golden_database.settings(), tmp_path)
    run.run("re-encrypt", **READY)
    run.settle = lambda seconds: pytest.fail(f"waits {seconds} s")
    report = run.run(mode, tables=["user_auth"], **({"run": "run-1"} if mode == "restore" else {}))
    assert (report["error"], report["sweeps"]) == (None, [])


@SQLITE
def test_a_sweep_forces_nothing_and_counts_each_value_once_in_small_stretches(
    golden_database: GoldenDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "PAGE_ROWS", 1)
    run = LocalRun(golden_database.settings(), tmp_path)
    run.out_of_time = lambda: True
    run.run("re-encrypt", **READY)
    report = run.run("re-encrypt", **READY, force=True, chunkRows=1)
    assert [(sweep["moved"], sweep["values"]) for sweep in report["sweeps"]] == [(0, report["totals"]["values"])]
    assert report["totals"]["re_encrypted"] == report["totals"]["values"] - report["totals"]["empty"]
    sums(report)


@SQLITE
def test_what_becomes_unreadable_after_the_first_pass_is_listed(golden_database: GoldenDatabase, tmp_path: Path) -> None:
    run = LocalRun(golden_database.settings(), tmp_path)
    run.settle = lambda _: put_back(golden_database, "I2JpZzBkYXRha2V5MGFh*")
    report = run.run("re-encrypt", **READY)
    assert report["outcome"] == "failed"
    assert [(entry["column"], entry["primary_key"], entry["reason"]) for entry in report["unreadable"]] == [(TOKEN, {"id": 1}, "bad-base64")]
