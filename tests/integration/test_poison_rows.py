"""A row that kills its worker (out of memory, out of time) ends alone in quarantine; everything else is brought along, and no value is lost count of."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from reencrypt.database import database as database_module
from reencrypt.database.database import Database, Row
from reencrypt.database.statements import Key
from reencrypt.errors import DatabaseBusy, TooManyUnreadable
from reencrypt.grafana import cipher
from reencrypt.grafana.secret_columns import ColumnGroup, SecretColumn, System, secret_columns
from reencrypt.operations import samples
from reencrypt.operations.choose_data_key import DATA_KEY
from reencrypt.operations.narrow import narrow
from reencrypt.operations.passes import collect
from reencrypt.operations.plan_chunks import MANIFEST
from reencrypt.operations.preflight import preflight
from reencrypt.operations.run_input import RunInput
from reencrypt.operations.work import Delivery, Phase, work
from reencrypt.operations.workspace import Workspace
from tests.integration.test_golden_runs import sums
from tests.support import big, decryptor, snapshot
from tests.support.golden import GoldenDatabase
from tests.support.local_run import LocalRun

EACH_ENGINE = pytest.mark.parametrize("golden_database", ["12.4.0-sqlite", "12.4.0-mysql", "12.4.0-postgres"], indirect=True)
SQLITE = pytest.mark.parametrize("golden_database", ["12.4.0-sqlite"], indirect=True)
READY: dict[str, Any] = {"providerReady": True, "tables": ["secrets"]}


class Died(BaseException):
    """What the state machine sees of a worker that is gone."""


@dataclass
class MortalRun(LocalRun):
    """As the state machine does: after each death narrow, then the next worker. `deaths` are those of each pass, by the chunk's group."""

    poison: set[tuple[str, Key]] = field(default_factory=set)
    deaths: list[tuple[str, str]] = field(default_factory=list)
    after_death: Callable[[], None] = lambda: None
    narrows: Callable[[RunInput, Delivery, Workspace], dict[str, Any]] = narrow
    working: bool = False

    def __post_init__(self) -> None:
        self.wrap_database = self._deadly

    def _deadly(self, ours: Database) -> Database:
        page = ours.page

        def deadly(group: ColumnGroup, after: Key | None, through: Key | None, without: Sequence[Key] = ()) -> list[Row]:
            rows = page(group, after, through, without)
            if self.working and any((group.id, row.key) in self.poison for row in rows):
                raise Died
            return rows

        ours.page = deadly  # type: ignore[method-assign]  # the row is too large for this worker's memory
        return ours

    def over_all_chunks(self, request: RunInput, workspace: Workspace, phase: Phase) -> None:
        derive = cipher.caching_derivation()
        for chunk in workspace.store.iter_lines(MANIFEST):
            position, limit, done = None, None, False
            while not done:
                delivery = Delivery(phase, chunk, None if position is None else tuple(position), limit)
                self.working = True
                try:
                    answer = work(request, delivery, workspace, self.out_of_time, derive)
                except Died:
                    self.working = False
                    self.deaths.append((phase.value, chunk["group"]))
                    assert len(self.deaths) < 200, "the run does not end"
                    self.after_death()
                    try:
                        answer = self.narrows(request, delivery, workspace)
                    except TooManyUnreadable:
                        break
                self.working = False
                position, limit, done = answer["position"], answer["limit"], answer["done"]


def with_many_secrets(database: GoldenDatabase, rows: int) -> list[int]:
    """Adds values to `secrets`; the ids of all of its rows, in order."""
    sealer = big.Sealer()
    big.add_data_key(database.engine, sealer, database.expected["secret_key"])
    big.fill_secrets(database.engine, rows, sealer)
    return ids(database)


def ids(database: GoldenDatabase, table: str = "secrets", key: str = "id") -> list[Any]:
    with database.engine.connect() as connection:
        return list(connection.execute(sa.text(f"SELECT {key} FROM {table} ORDER BY {key}")).scalars())


def quarantined(report: dict[str, Any]) -> list[tuple[str, Any]]:
    """(table, primary key) of each value in quarantine, as the report lists it."""
    return [(entry["table"], entry["primary_key"]) for entry in report["unreadable"] if entry["reason"] == "worker-died"]


def assert_only_these_are_left(database: GoldenDatabase, run: LocalRun, poison: Sequence[int]) -> None:
    """Every row of `secrets` but `poison` is under the run's data key."""
    with database.engine.connect() as connection:
        rows = connection.execute(sa.text("SELECT id, value FROM secrets ORDER BY id")).all()
    ours = base64.b64encode(run.store.get_json(DATA_KEY)["data_key"].encode()).rstrip(b"=")
    assert [row for row, stored in rows if ours not in decryptor.unbase64(stored)] == list(poison)


@EACH_ENGINE
def test_the_row_ends_alone_in_quarantine_and_all_others_are_re_encrypted(golden_database: GoldenDatabase, tmp_path: Path) -> None:
    rows = with_many_secrets(golden_database, 89)
    poison = rows[len(rows) // 2]
    run = MortalRun(golden_database.settings(), tmp_path, poison={("secrets", (poison,))})
    report = run.run("re-encrypt", **READY)
    assert quarantined(report) == [("secrets", {"id": poison})]
    assert (report["outcome"], len(report["unreadable"])) == ("failed", 1)
    sums(report)
    assert_only_these_are_left(golden_database, run, [poison])
    assert set(run.deaths) == {("process", "secrets")}, "the passes after the first pass over it"


@SQLITE
@pytest.mark.parametrize("share", [0, 0.099, 0.1, 0.5, 0.555, 0.95, 0.999])
def test_a_chunk_of_a_thousand_rows_costs_four_workers_wherever_the_row_stands(golden_database: GoldenDatabase, tmp_path: Path, share: float) -> None:
    rows = with_many_secrets(golden_database, 1000 - len(ids(golden_database)))
    poison = rows[int(share * len(rows))]
    run = MortalRun(golden_database.settings(), tmp_path, poison={("secrets", (poison,))})
    report = run.run("plan", tables=["secrets"], chunkRows=1000)
    assert quarantined(report) == [("secrets", {"id": poison})]
    assert report["totals"]["re_encrypted"] == 999
    assert len(run.deaths) <= 1 + math.log10(len(rows))


@SQLITE
def test_each_row_that_kills_is_found_and_nothing_between_them_is_left_out(golden_database: GoldenDatabase, tmp_path: Path) -> None:
    rows = with_many_secrets(golden_database, 189)
    poison = [rows[0], rows[1], rows[77], rows[-2], rows[-1]]
    run = MortalRun(golden_database.settings(), tmp_path, poison={("secrets", (row,)) for row in poison})
    report = run.run("re-encrypt", **READY, onUnreadable="report", chunkRows=100)
    assert quarantined(report) == [("secrets", {"id": row}) for row in poison]
    assert report["outcome"] == "succeeded-with-unreadable"
    sums(report)
    assert_only_these_are_left(golden_database, run, poison)
    assert len(run.deaths) <= len(poison) * 4


@EACH_ENGINE
def test_the_row_is_counted_once_in_each_pass(golden_database: GoldenDatabase, tmp_path: Path) -> None:
    rows = with_many_secrets(golden_database, 20)
    run = MortalRun(golden_database.settings(), tmp_path, poison={("secrets", (rows[7],))})
    report = run.run("re-encrypt", **READY)
    plain = LocalRun(golden_database.settings(), tmp_path / "plain").run("plan", tables=["secrets"])
    assert (report["totals"]["values"], report["totals"]["rows"]) == (plain["totals"]["values"], plain["totals"]["rows"])
    assert [sweep["values"] for sweep in report["sweeps"]] == [plain["totals"]["values"]]
    for phase in (Phase.PROCESS, Phase.sweep(1), Phase.VERIFY):
        found = collect(run.store, phase)
        assert len([entry for entry in found.unreadable if entry["reason"] == "worker-died"]) == 1, phase
        assert sum(found.totals().values()) == plain["totals"]["values"], phase


@SQLITE
def test_a_row_that_begins_to_kill_in_a_later_pass_takes_none_of_the_earlier_ones_from_the_count(golden_database: GoldenDatabase, tmp_path: Path) -> None:
    rows = with_many_secrets(golden_database, 20)
    run = MortalRun(golden_database.settings(), tmp_path, poison={("secrets", (rows[7],))})
    run.settle = lambda _: run.poison.add(("secrets", (rows[0],)))
    report = run.run("re-encrypt", **READY, onUnreadable="report")
    assert quarantined(report) == [("secrets", {"id": rows[7]}), ("secrets", {"id": rows[0]})]
    assert [sweep["values"] for sweep in report["sweeps"]] == [report["totals"]["values"]]
    for phase, number in ((Phase.PROCESS, 1), (Phase.sweep(1), 2), (Phase.VERIFY, 2)):
        found = collect(run.store, phase)
        assert len([entry for entry in found.unreadable if entry["reason"] == "worker-died"]) == number, phase
        assert sum(found.totals().values()) == report["totals"]["values"], phase


@EACH_ENGINE
def test_rows_with_text_keys_are_set_apart_too(golden_database: GoldenDatabase, tmp_path: Path) -> None:
    poison, *others = sorted({entry["pk"]["id"] for entry in golden_database.expected["values"] if entry["table"] == "sso_setting"})
    run = MortalRun(golden_database.settings(), tmp_path, poison={("sso_setting", (poison,))})
    before = snapshot.take(golden_database.engine)
    report = run.run("re-encrypt", providerReady=True, tables=["sso_setting"])
    assert quarantined(report) == [("sso_setting", {"id": poison})]
    sums(report)
    changed = snapshot.difference(before, snapshot.take(golden_database.engine))
    keys = [key[0][0].decode() if isinstance(key[0], tuple) else key[0] for table, key, _ in changed if table == "sso_setting"]  # SQLite: with its class
    assert sorted(keys) == others


@EACH_ENGINE
def test_rows_with_composite_keys_are_set_apart_too(golden_database: GoldenDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def composite(*systems: System) -> tuple[SecretColumn, ...]:
        return tuple(replace(column, primary_key=("namespace", "id")) if column.table == "secrets" else column for column in secret_columns(*systems))

    monkeypatch.setattr(database_module, "secret_columns", composite)
    rows = with_many_secrets(golden_database, 30)
    with golden_database.engine.connect() as connection:
        key = tuple(connection.execute(sa.text("SELECT namespace, id FROM secrets WHERE id = :row"), {"row": rows[20]}).one())
    run = MortalRun(golden_database.settings(), tmp_path, poison={("secrets", key)})
    report = run.run("re-encrypt", **READY)
    assert quarantined(report) == [("secrets", {"namespace": key[0], "id": key[1]})]
    assert_only_these_are_left(golden_database, run, [key[1]])


@SQLITE
@pytest.mark.parametrize("deaths", [1, 2])
def test_a_row_that_grafana_deletes_meanwhile_takes_no_other_with_it(golden_database: GoldenDatabase, tmp_path: Path, deaths: int) -> None:
    rows = with_many_secrets(golden_database, 100)
    run = MortalRun(golden_database.settings(), tmp_path, poison={("secrets", (rows[50],))})

    def delete() -> None:
        if len(run.deaths) == deaths:
            with golden_database.engine.begin() as connection:
                connection.execute(sa.text("DELETE FROM secrets WHERE id = :row"), {"row": rows[50]})

    run.after_death = delete
    report = run.run("re-encrypt", **READY)
    assert (report["outcome"], quarantined(report), len(run.deaths)) == ("succeeded", [], deaths)
    assert_only_these_are_left(golden_database, run, [])


@SQLITE
def test_workers_that_died_of_something_else_go_on_with_the_whole_chunk(golden_database: GoldenDatabase, tmp_path: Path) -> None:
    rows = with_many_secrets(golden_database, 300)
    run = MortalRun(golden_database.settings(), tmp_path, poison={("secrets", (rows[150],))})
    run.after_death = run.poison.clear
    report = run.run("plan", tables=["secrets"])
    assert (report["outcome"], quarantined(report), len(run.deaths)) == ("succeeded", [], 1)
    assert len(list(run.store.keys("outcomes/process/"))) <= 12


@SQLITE
def test_a_narrowing_that_is_interrupted_and_repeated_sets_no_innocent_row_apart(golden_database: GoldenDatabase, tmp_path: Path) -> None:
    """The database does not answer just when the row has been found; the step is tried again."""
    rows = with_many_secrets(golden_database, 20)
    run = MortalRun(golden_database.settings(), tmp_path, poison={("secrets", (rows[7],))})
    interruptions: list[None] = []

    def interrupted(request: RunInput, delivery: Delivery, workspace: Workspace) -> dict[str, Any]:
        def open_database(read_only: bool) -> Database:
            database = workspace.open_database(read_only)

            def presence(group: ColumnGroup, key: Key) -> tuple[bool, ...]:
                interruptions.append(None)
                raise DatabaseBusy("locked")

            database.presence = presence  # type: ignore[method-assign]  # the last question that narrow asks
            return database

        try:
            return narrow(request, delivery, replace(workspace, open_database=open_database))
        except DatabaseBusy:
            return narrow(request, delivery, workspace)

    run.narrows = interrupted
    report = run.run("re-encrypt", **READY)
    assert interruptions
    assert quarantined(report) == [("secrets", {"id": rows[7]})]
    assert_only_these_are_left(golden_database, run, [rows[7]])


@SQLITE
def test_workers_that_always_die_end_the_run_and_do_not_quarantine_the_database(golden_database: GoldenDatabase, tmp_path: Path) -> None:
    rows = with_many_secrets(golden_database, 100)
    run = MortalRun(golden_database.settings(), tmp_path, poison={("secrets", (row,)) for row in rows})
    report = run.run("re-encrypt", **READY)
    assert (report["outcome"], report["error"]["name"]) == ("failed", "TooManyUnreadable")
    assert len(quarantined(report)) <= 24, "what the budget allows, and one chunk's last"


@SQLITE
def test_a_worker_that_finished_and_died_on_its_way_back_is_not_narrowed(golden_database: GoldenDatabase, tmp_path: Path) -> None:
    run = MortalRun(golden_database.settings(), tmp_path)
    assert run.run("plan", tables=["secrets"])["outcome"] == "succeeded"
    chunk = next(run.store.iter_lines(MANIFEST))
    workspace = replace(run.workspace(), store=run.store.of_run("run-1"))
    answer = narrow(RunInput(tables=("secrets",)), Delivery(Phase.PROCESS, chunk, None), workspace)
    assert (answer["done"], answer["rows"]) == (True, len(ids(golden_database)))


@SQLITE
def test_the_preflight_passes_over_rows_that_are_too_large_to_be_sampled(
    golden_database: GoldenDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows of one byte more than the limit are not read; the run starts with what is left to judge."""
    monkeypatch.setattr(samples, "_SAMPLE_BYTES", 1)
    read: list[int] = []

    def wrap(ours: Database) -> Database:
        page = ours.page

        def watched(group: ColumnGroup, after: Key | None, through: Key | None, without: Sequence[Key] = ()) -> list[Row]:
            rows = page(group, after, through, without)
            read.extend(len(value) for row in rows for value in row.values if value is not None)
            return rows

        ours.page = watched  # type: ignore[method-assign]  # the seam where a row enters this process
        return ours

    run = LocalRun(golden_database.settings(), tmp_path, wrap_database=wrap)
    everything = preflight(RunInput(), run.workspace())["sampled_values"]
    largest = max(read)
    read.clear()
    monkeypatch.setattr(samples, "_LARGEST_ROW", largest - 1)
    some = preflight(RunInput(), run.workspace())["sampled_values"]
    assert read
    assert max(read) < largest
    assert 0 < some < everything
