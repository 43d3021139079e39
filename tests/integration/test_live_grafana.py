"""Beside a live Grafana, duplicate deliveries and crashes: what Grafana writes wins, and every value is counted once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from reencrypt.database.database import Database, Swap, Swapped
from reencrypt.grafana import cipher
from reencrypt.grafana.secret_columns import ColumnGroup
from reencrypt.operations import run_input
from reencrypt.operations.choose_data_key import choose_data_key
from reencrypt.operations.plan_chunks import MANIFEST, plan_chunks
from reencrypt.operations.preflight import preflight
from reencrypt.operations.work import Delivery, Phase, work
from tests.support import decryptor
from tests.support.golden import GoldenDatabase
from tests.support.local_run import KMS, LocalRun

EACH_ENGINE = pytest.mark.parametrize("golden_database", ["12.4.0-sqlite", "12.4.0-mysql", "12.4.0-postgres"], indirect=True)


def meddling(database: GoldenDatabase, run: LocalRun, table: str, *statements: str) -> Callable[[Database], Database]:
    """Runs `statements`, as Grafana would, between our read of `table` and our first write to it."""
    left = list(statements)

    def wrap(ours: Database) -> Database:
        swap = ours.compare_and_swap

        def compare_and_swap(group: ColumnGroup, swaps: Sequence[Swap]) -> list[Swapped]:
            if group.table == table and left:
                with database.engine.begin() as connection:
                    for statement in left:
                        connection.execute(sa.text(statement))
                left.clear()
            return swap(group, swaps)

        ours.compare_and_swap = compare_and_swap  # type: ignore[method-assign]  # the seam between read and write
        return ours

    return wrap


def column(report: dict[str, Any], table: str, name: str) -> dict[str, Any]:
    return next(entry for entry in report["columns"] if (entry["table"], entry["column"]) == (table, name))


def value(database: GoldenDatabase, table: str, name: str, row: int) -> str:
    with database.engine.connect() as connection:
        stored = connection.execute(sa.text(f"SELECT {name} FROM {table} WHERE id = {row}")).scalar_one()
    return stored.decode() if isinstance(stored, bytes) else str(stored)


@EACH_ENGINE
@pytest.mark.parametrize("swept", [False, True], ids=["stopped", "swept"])
def test_a_value_grafana_changed_meanwhile_is_never_overwritten(golden_database: GoldenDatabase, tmp_path: Path, swept: bool) -> None:
    """Its value wins; a sweep brings it along, under our key but with the plaintext that is theirs."""
    run = LocalRun(golden_database.settings(), tmp_path)
    theirs = value(golden_database, "user_auth", "o_auth_refresh_token", 1)
    run.wrap_database = meddling(golden_database, run, "user_auth", f"UPDATE user_auth SET o_auth_access_token = '{theirs}' WHERE id = 1")
    report = run.run("re-encrypt", providerReady=True, tables=["user_auth"], **({} if swept else {"settleSeconds": 0}))
    changed = column(report, "user_auth", "o_auth_access_token")
    assert (changed["re_encrypted"], changed["changed_by_grafana"]) == (1, 1)
    beside = column(report, "user_auth", "o_auth_refresh_token")
    assert (beside["re_encrypted"], beside["changed_by_grafana"]) == (2, 0), "an unchanged column beside it is still brought along"
    assert any("under an old key after the run" in note for note in report["notes"]) is not swept
    if not swept:
        assert value(golden_database, "user_auth", "o_auth_access_token", 1) == theirs
        assert (report["outcome"], report["left_under_old_keys"]) == ("failed", 1)
        report = run.run("re-encrypt", providerReady=True, tables=["user_auth"])
        assert report["totals"]["re_encrypted"] == 1
    assert report["outcome"] == "succeeded"
    reader = decryptor.Reader(golden_database.engine, golden_database.expected["secret_key"], {KMS: run.kms.unwrap})
    wanted = next(
        entry
        for entry in golden_database.expected["values"]
        if (entry["table"], entry["column"], entry["pk"]) == ("user_auth", "o_auth_refresh_token", {"id": 1})
    )
    found = reader.read({**wanted, "column": "o_auth_access_token"})
    assert decryptor.matches(wanted, found.plaintext)
    assert reader.rows[found.key_id or ""][0] == KMS


@EACH_ENGINE
@pytest.mark.parametrize("change", ["lower", "space"])
def test_a_change_that_a_collation_cannot_see_still_wins(golden_database: GoldenDatabase, tmp_path: Path, change: str) -> None:
    run = LocalRun(golden_database.settings(), tmp_path)
    name = "o_auth_access_token"
    statement = (
        f"UPDATE user_auth SET {name} = LOWER({name}) WHERE id = 1" if change == "lower" else f"UPDATE user_auth SET {name} = CONCAT({name}, ' ') WHERE id = 1"
    )
    if golden_database.engine.dialect.name == "sqlite":
        statement = statement.replace(f"CONCAT({name}, ' ')", f"{name} || ' '")
    run.wrap_database = meddling(golden_database, run, "user_auth", statement)
    before = value(golden_database, "user_auth", name, 1)
    report = run.run("re-encrypt", providerReady=True, settleSeconds=0)
    assert value(golden_database, "user_auth", name, 1) == (before.lower() if change == "lower" else before + " ")
    assert column(report, "user_auth", name)["changed_by_grafana"] == 1


@EACH_ENGINE
def test_a_row_that_vanished_is_no_error(golden_database: GoldenDatabase, tmp_path: Path) -> None:
    run = LocalRun(golden_database.settings(), tmp_path)
    run.wrap_database = meddling(golden_database, run, "data_source", "DELETE FROM data_source WHERE id = 1")
    report = run.run("re-encrypt", providerReady=True)
    assert (report["outcome"], report["totals"]["changed_by_grafana"]) == ("succeeded", column(report, "data_source", "secure_json_data")["changed_by_grafana"])
    assert report["totals"]["changed_by_grafana"] > 0


@EACH_ENGINE
def test_a_chunk_that_is_delivered_twice_is_counted_once(golden_database: GoldenDatabase, tmp_path: Path) -> None:
    run = LocalRun(golden_database.settings(), tmp_path)
    workspace = run.workspace()
    request = run_input.parse({"mode": "re-encrypt", "providerReady": True})
    preflight(request, workspace)
    plan_chunks(request, workspace, 1)
    assert choose_data_key(request, workspace)["created"] is True
    assert choose_data_key(request, workspace)["created"] is False, "a retried step finds the key that it made"
    [chunk] = [chunk for chunk in workspace.store.iter_lines(MANIFEST) if chunk["table"] == "data_source"]
    delivery = Delivery(Phase.PROCESS, chunk, None)
    first = work(request, delivery, workspace, lambda: False, cipher.caching_derivation())
    names = {name: value(golden_database, "data_source", "secure_json_data", name) for name in (1, 2, 3)}
    assert work(request, delivery, workspace, lambda: False, cipher.caching_derivation()) == first
    assert {name: value(golden_database, "data_source", "secure_json_data", name) for name in names} == names, "the second delivery writes nothing"


@EACH_ENGINE
def test_a_worker_that_died_after_its_write_is_followed_by_one_that_finishes(golden_database: GoldenDatabase, tmp_path: Path) -> None:
    class Died(BaseException):
        pass

    run = LocalRun(golden_database.settings(), tmp_path)

    def wrap(ours: Database) -> Database:
        swap = ours.compare_and_swap

        def compare_and_swap(group: ColumnGroup, swaps: Sequence[Swap]) -> list[Swapped]:
            swap(group, swaps)
            raise Died

        ours.compare_and_swap = compare_and_swap  # type: ignore[method-assign]  # the seam between write and count
        return ours

    run.wrap_database = wrap
    for _ in range(3):
        with pytest.raises(Died):
            run.run("re-encrypt", providerReady=True)
    run.wrap_database = lambda database: database
    report = run.run("re-encrypt", providerReady=True)
    assert report["outcome"] == "succeeded"
    reader = decryptor.Reader(golden_database.engine, golden_database.expected["secret_key"], {KMS: run.kms.unwrap})
    for entry in golden_database.expected["values"]:
        if entry["form"] != "split-gcm":
            assert decryptor.matches(entry, reader.read(entry).plaintext)
    assert sum(provider == KMS for provider, _, _ in reader.rows.values()) == 1, "every run uses the key that the first one made"
