"""Too many unreadable values at once mean a missing key, not damage: the run stops before it writes more, unless its input lets it finish."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from reencrypt.database.database import Database, Row
from reencrypt.database.statements import Key
from reencrypt.errors import DatabaseUnavailable, TooManyUnreadable
from reencrypt.grafana import cipher
from reencrypt.grafana.secret_columns import ColumnGroup
from reencrypt.operations import chunk as chunks
from reencrypt.operations import run_input
from reencrypt.operations.choose_data_key import choose_data_key
from reencrypt.operations.plan_chunks import MANIFEST, plan_chunks
from reencrypt.operations.preflight import preflight
from reencrypt.operations.stopping import stopped_outcome
from reencrypt.operations.work import Delivery, Phase, work
from tests.integration.test_golden_runs import sums
from tests.support import big, snapshot
from tests.support.golden import GoldenDatabase
from tests.support.local_run import LocalRun

EACH_ENGINE = pytest.mark.parametrize("golden_database", ["12.4.0-sqlite", "12.4.0-mysql", "12.4.0-postgres"], indirect=True)
SQLITE = pytest.mark.parametrize("golden_database", ["12.4.0-sqlite"], indirect=True)
READY: dict[str, Any] = {"providerReady": True, "tables": ["secrets"]}


def fill(database: GoldenDatabase, readable: int, damaged: int, first: int = 0) -> None:
    """Adds to `secrets` rows of which `damaged` are cut off, from the row `first` of the new ones on."""
    sealer = big.Sealer()
    big.add_data_key(database.engine, sealer, database.expected["secret_key"])
    big.fill_secrets(database.engine, readable + damaged, sealer)
    names = [f"big-{number}" for number in range(first, first + damaged)]
    with database.engine.begin() as connection:
        for name in names:
            connection.execute(sa.text("UPDATE secrets SET value = 'I2JpZzBkYXRha2V5MGFh*' WHERE namespace = :name"), {"name": name})


@EACH_ENGINE
def test_too_many_unreadable_values_stop_the_run_before_their_page_and_the_rest_are_touched(golden_database: GoldenDatabase, tmp_path: Path) -> None:
    fill(golden_database, 39, 11)
    before = snapshot.take(golden_database.engine)
    report = LocalRun(golden_database.settings(), tmp_path).run("re-encrypt", **READY, maxConcurrency=1)
    assert (report["outcome"], report["error"]["name"]) == ("failed", "TooManyUnreadable")
    for words in ("11 values are unreadable", "more than the 10", '"onUnreadable": "report"', "unreadableBudget"):
        assert words in report["error"]["message"]
    assert len(report["unreadable"]) == 11
    assert {entry["reason"] for entry in report["unreadable"]} == {"bad-base64"}
    changed = snapshot.difference(before, snapshot.take(golden_database.engine))
    assert {table for table, _, _ in changed} == {"data_keys"}, "the run's own key, and nothing else"
    assert "unreadable" in report["next_steps"][0]


@SQLITE
def test_what_was_written_before_the_bad_page_stays_and_the_report_counts_it(
    golden_database: GoldenDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "PAGE_ROWS", 20)
    fill(golden_database, 89, 11, first=49)
    run = LocalRun(golden_database.settings(), tmp_path)
    run.out_of_time = lambda: True  # each page is a stretch with an outcome of its own
    report = run.run("re-encrypt", **READY, unreadableBudget=0.05)
    assert (report["error"]["name"], report["totals"]["re_encrypted"]) == ("TooManyUnreadable", 60)
    assert report["totals"]["unreadable"] == len(report["unreadable"]) == 11
    sums(report)
    again = run.run("re-encrypt", **READY, onUnreadable="report")
    assert (again["outcome"], again["totals"]["already_current"], again["totals"]["re_encrypted"]) == ("succeeded-with-unreadable", 60, 40)


@EACH_ENGINE
def test_a_run_that_may_finish_brings_everything_else_along(golden_database: GoldenDatabase, tmp_path: Path) -> None:
    fill(golden_database, 39, 11)
    report = LocalRun(golden_database.settings(), tmp_path).run("re-encrypt", **READY, onUnreadable="report")
    assert (report["outcome"], report["error"]) == ("succeeded-with-unreadable", None)
    assert (report["totals"]["unreadable"], report["totals"]["re_encrypted"]) == (11, report["totals"]["values"] - 11)


@SQLITE
@pytest.mark.parametrize("damaged", [1, 6, 10])
def test_a_handful_is_no_reason_to_leave_the_rest_undone(golden_database: GoldenDatabase, tmp_path: Path, damaged: int) -> None:
    """6 and 10: each sweep and the verification see the same ones again, which spends nothing."""
    fill(golden_database, 39, damaged)
    report = LocalRun(golden_database.settings(), tmp_path).run("re-encrypt", **READY)
    assert (report["outcome"], report["error"]) == ("failed", None), "went through, and says that some are left"
    assert (report["totals"]["unreadable"], report["totals"]["re_encrypted"]) == (damaged, report["totals"]["values"] - damaged)
    assert report["sweeps"]


@SQLITE
@pytest.mark.parametrize(("share", "stopped"), [(0.0, True), (0.1, True), (0.2, False), (1.0, False)])
def test_the_budget_is_a_share_of_the_rows(golden_database: GoldenDatabase, tmp_path: Path, share: float, stopped: bool) -> None:
    fill(golden_database, 100, 14)
    report = LocalRun(golden_database.settings(), tmp_path).run("re-encrypt", **READY, unreadableBudget=share)
    assert (report["error"] is not None) is stopped


@SQLITE
@pytest.mark.parametrize("mode", ["plan", "verify"])
def test_a_run_that_only_reads_always_finishes(golden_database: GoldenDatabase, tmp_path: Path, mode: str) -> None:
    fill(golden_database, 39, 11)
    report = LocalRun(golden_database.settings(), tmp_path).run(mode, tables=["secrets"])
    assert (report["error"], report["totals"]["unreadable"]) == (None, 11)


@SQLITE
def test_the_other_workers_stop_too(golden_database: GoldenDatabase, tmp_path: Path) -> None:
    """Each has seen few; together they have seen too many."""
    fill(golden_database, 39, 12)
    before = snapshot.take(golden_database.engine)
    report = LocalRun(golden_database.settings(), tmp_path).run("re-encrypt", **READY, chunkRows=8)
    assert report["error"]["name"] == "TooManyUnreadable"
    changed = [key for table, key, _ in snapshot.difference(before, snapshot.take(golden_database.engine)) if table == "secrets"]
    assert len(changed) < 20, "those that came before"


@SQLITE
def test_a_late_worker_of_a_run_that_has_stopped_writes_nothing(golden_database: GoldenDatabase, tmp_path: Path) -> None:
    fill(golden_database, 39, 11)
    run = LocalRun(golden_database.settings(), tmp_path)
    workspace = run.workspace()
    request = run_input.parse({"mode": "re-encrypt", **READY, "chunkRows": 25})
    preflight(request, workspace)
    plan_chunks(request, workspace, 1)
    choose_data_key(request, workspace)
    manifest = list(workspace.store.iter_lines(MANIFEST))
    derive = cipher.caching_derivation()
    with pytest.raises(TooManyUnreadable):
        work(request, Delivery(Phase.PROCESS, manifest[0], None), workspace, lambda: False, derive)
    before = snapshot.take(golden_database.engine)
    for chunk in manifest[1:]:
        with pytest.raises(TooManyUnreadable):
            work(request, Delivery(Phase.PROCESS, chunk, None), workspace, lambda: False, derive)
    assert snapshot.difference(before, snapshot.take(golden_database.engine)) == []
    assert stopped_outcome(workspace.store) is not None


@SQLITE
def test_what_a_worker_saw_before_it_was_interrupted_is_not_held_against_the_run_twice(
    golden_database: GoldenDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state machine tries a chunk again whose database was out of reach; it sees the same unreadable values again."""
    monkeypatch.setattr(chunks, "PAGE_ROWS", 20)
    fill(golden_database, 89, 6)
    run = LocalRun(golden_database.settings(), tmp_path)
    workspace = run.workspace()
    request = run_input.parse({"mode": "re-encrypt", **READY})
    preflight(request, workspace)
    plan_chunks(request, workspace, 1)
    choose_data_key(request, workspace)
    [chunk] = workspace.store.iter_lines(MANIFEST)
    pages = []

    def cut(ours: Database) -> Database:
        page = ours.page

        def failing(group: ColumnGroup, after: Key | None, through: Key | None, without: Sequence[Key] = ()) -> list[Row]:
            pages.append(after)
            if len(pages) in (3, 6, 9):
                raise DatabaseUnavailable("cut off")
            return page(group, after, through, without)

        ours.page = failing  # type: ignore[method-assign]  # the connection between two pages
        return ours

    run.wrap_database = cut
    answer = None
    while answer is None:
        try:
            answer = work(request, Delivery(Phase.PROCESS, chunk, None), workspace, lambda: False, cipher.caching_derivation())
        except DatabaseUnavailable:
            continue
    assert answer["done"]
