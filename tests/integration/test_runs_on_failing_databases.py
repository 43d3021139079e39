"""Whole runs over databases that fail in the middle: nothing is lost, the message says what to do, and the same input again converges."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reencrypt.database.database import Database
from reencrypt.errors import DatabaseBusy, DatabaseError, DatabaseUnavailable
from tests.integration.conftest import EmptyDatabase
from tests.support import decryptor, faults, golden, private_server, servers, snapshot
from tests.support.faults import Loss
from tests.support.golden import GoldenDatabase
from tests.support.local_run import KMS, LocalRun
from tests.support.private_server import PrivateServer

ON_EACH_GOLDEN_SERVER = pytest.mark.parametrize("golden_database", ["12.4.0-mysql", "12.4.0-postgres"], indirect=True)
ON_GOLDEN_SQLITE = pytest.mark.parametrize("golden_database", ["12.4.0-sqlite"], indirect=True)
# The order in which they are worked on.
TABLES = ("user_auth", "secrets", "plugin_setting")
INPUT: dict[str, Any] = {"providerReady": True, "settleSeconds": 0, "tables": list(TABLES)}


@pytest.fixture(scope="module", params=("mysql", "postgres"))
def private(request: pytest.FixtureRequest) -> Iterator[PrivateServer]:
    """A server of each engine for this module alone, to be stopped, filled and locked up."""
    with private_server.private_server(request.param) as server:
        yield server


@pytest.fixture
def private_golden(private: PrivateServer, tmp_path: Path) -> Iterator[GoldenDatabase]:
    """A golden database on the private server, with the plain account."""
    with golden.loaded(f"12.4.0-{private.engine}", tmp_path, private.admin) as database:
        yield replace(database, url=private.account.set(database=database.url.database))


def refused(report: dict[str, Any], error: type[DatabaseError], *words: str) -> None:
    """The run ended with `error`, whose message says what to do, and gives no password away."""
    assert (report["outcome"], report["error"]["name"]) == ("failed", error.__name__)
    for word in words:
        assert word in report["error"]["message"]
    assert private_server.PASSWORD not in str(report)


def assert_converges(database: GoldenDatabase, run: LocalRun) -> dict[str, Any]:
    """Without the fault the same input brings everything under one data key of KMS, and every plaintext of them is still there."""
    run.wrap_database = lambda ours: ours
    report = run.run("re-encrypt", **INPUT)
    assert (report["outcome"], report["error"]) == ("succeeded", None)
    reader = decryptor.Reader(database.engine, database.expected["secret_key"], {KMS: run.kms.unwrap})
    for entry in database.expected["values"]:
        if entry["table"] in TABLES:
            found = reader.read(entry)
            assert decryptor.matches(entry, found.plaintext), (entry["table"], entry["pk"], entry["path"])
            assert found.key_id == report["data_key"]
    assert sum(provider == KMS for provider, _, _ in reader.rows.values()) == 1
    return report


def once(action: Callable[[], object], at: str = "secrets") -> Callable[[str], None]:
    """For before_each_write: `action` before the first write to the table `at`."""
    left = [action]

    def act(table: str) -> None:
        if table == at and left:
            left.pop()()

    return act


@ON_EACH_GOLDEN_SERVER
def test_sessions_that_are_cut_between_read_and_write_are_opened_anew(golden_database: GoldenDatabase, tmp_path: Path) -> None:
    cut: list[int] = []

    def cut_all(table: str) -> None:
        with golden_database.engine.connect() as administrator:
            for session in faults.sessions(administrator):
                faults.kill(administrator, session)
                cut.append(session)

    run = LocalRun(golden_database.settings(), tmp_path, wrap_database=faults.before_each_write(cut_all))
    report = run.run("re-encrypt", **INPUT)
    assert (report["outcome"], report["error"]) == ("succeeded", None)
    assert len(cut) >= len(TABLES)
    assert_converges(golden_database, run)


@ON_EACH_GOLDEN_SERVER
def test_a_session_that_is_cut_while_it_writes_ends_the_worker_and_running_again_converges(golden_database: GoldenDatabase, tmp_path: Path) -> None:
    run = LocalRun(golden_database.settings(), tmp_path)
    with golden_database.engine.connect() as holder, golden_database.engine.connect() as administrator:
        holder.exec_driver_sql("UPDATE secrets SET namespace = namespace")
        assert holder.exec_driver_sql("SELECT id FROM secrets FOR UPDATE").scalars().all()
        reports: list[dict[str, Any]] = []
        thread = threading.Thread(target=lambda: reports.append(run.run("re-encrypt", **INPUT)))
        thread.start()
        [session] = faults.eventually(lambda: faults.sessions(administrator, waiting=True), "the run waits for `secrets`")
        faults.kill(administrator, session)
        thread.join(30)
        holder.rollback()
    refused(reports[0], DatabaseUnavailable, "writing secrets", "the connection was cut", "start again")
    assert_converges(golden_database, run)


@ON_EACH_GOLDEN_SERVER
@pytest.mark.parametrize("loss", Loss)
def test_a_commit_that_is_lost_or_whose_reply_is_lost_does_no_harm(golden_database: GoldenDatabase, tmp_path: Path, loss: Loss) -> None:
    with faults.wire(golden_database.url) as wire:
        far = replace(golden_database, url=golden_database.url.set(port=wire.port))
        run = LocalRun(far.settings(), tmp_path)
        for number, table in enumerate(TABLES, 1):
            wire.loses = loss
            report = run.run("re-encrypt", **INPUT)
            refused(report, DatabaseUnavailable, f"writing {table if loss is Loss.REPLY else TABLES[0]}", "the connection was cut")
            assert wire.cuts == number
        last = assert_converges(golden_database, run)
    written_before = sum(column["already_current"] for column in last["columns"])
    assert (last["totals"]["re_encrypted"] == 0) is (loss is Loss.REPLY)
    assert (written_before > 0) is (loss is Loss.REPLY)


def test_a_server_that_crashes_and_comes_back_between_read_and_write_is_not_noticed(
    private: PrivateServer, private_golden: GoldenDatabase, tmp_path: Path
) -> None:
    run = LocalRun(private_golden.settings(), tmp_path, wrap_database=faults.before_each_write(once(private.restart)))
    report = run.run("re-encrypt", **INPUT)
    assert (report["outcome"], report["error"]) == ("succeeded", None)
    assert_converges(private_golden, run)


def test_a_server_that_is_gone_is_named_with_what_to_check(private: PrivateServer, private_golden: GoldenDatabase, tmp_path: Path) -> None:
    run = LocalRun(private_golden.settings(), tmp_path, wrap_database=faults.before_each_write(once(private.stop)))
    refused(run.run("re-encrypt", **INPUT), DatabaseUnavailable, "writing secrets", "[database] host", "the security group and the subnets")
    refused(run.run("plan"), DatabaseUnavailable, "[database] host")
    private.start()
    assert_converges(private_golden, run)


def test_a_replica_is_told_to_be_one_and_plan_and_verify_work_on_it(private: PrivateServer, private_golden: GoldenDatabase, tmp_path: Path) -> None:
    run = LocalRun(private_golden.settings(), tmp_path)
    for table in (None, "user_auth"):  # without a data key of our provider, and with one
        if table:
            assert run.run("re-encrypt", **{**INPUT, "tables": [table]})["outcome"] == "succeeded"
        before = snapshot.take(private_golden.engine)
        with private.read_only():
            refused(run.run("re-encrypt", **INPUT), DatabaseError, "the server is read-only: use the writer's endpoint")
            assert (run.run("plan", tables=["secrets"])["outcome"], run.run("verify", tables=["secrets"])["error"]) == ("succeeded", None)
        assert snapshot.difference(before, snapshot.take(private_golden.engine)) == []
    assert_converges(private_golden, run)


def test_a_writer_that_becomes_a_replica_in_mid_run_loses_nothing(private: PrivateServer, private_golden: GoldenDatabase, tmp_path: Path) -> None:
    with ExitStack() as failover:
        demote = once(lambda: failover.enter_context(private.read_only()))
        run = LocalRun(private_golden.settings(), tmp_path, wrap_database=faults.before_each_write(demote))
        refused(run.run("re-encrypt", **INPUT), DatabaseError, "writing secrets", "use the writer's endpoint")
    report = assert_converges(private_golden, run)
    assert report["totals"]["already_current"] > 0


@pytest.mark.parametrize("golden_database", ["12.4.0-postgres"], indirect=True)
def test_a_postgresql_database_that_its_owner_made_read_only_is_not_written(golden_database: GoldenDatabase, tmp_path: Path) -> None:
    servers.execute(golden_database.url, f"ALTER DATABASE {golden_database.url.database} SET default_transaction_read_only = on")
    before = snapshot.take(golden_database.engine)
    refused(LocalRun(golden_database.settings(), tmp_path).run("re-encrypt", **INPUT), DatabaseError, "25006", "use the writer's endpoint")
    assert snapshot.difference(before, snapshot.take(golden_database.engine)) == []


@ON_GOLDEN_SQLITE
def test_a_sqlite_file_that_may_not_be_written_can_be_planned_and_verified(golden_database: GoldenDatabase, tmp_path: Path) -> None:
    run = LocalRun(golden_database.settings(), tmp_path)
    before = snapshot.take(golden_database.engine)
    with faults.write_protected(Path(golden_database.url.database or "")):
        refused(run.run("re-encrypt", **INPUT), DatabaseError, "SQLITE_READONLY", "the worker needs write permission")
        assert (run.run("plan", tables=["secrets"])["outcome"], run.run("verify", tables=["secrets"])["error"]) == ("succeeded", None)
    assert snapshot.difference(before, snapshot.take(golden_database.engine)) == []
    assert_converges(golden_database, run)


# Full disks


@ON_GOLDEN_SQLITE
@pytest.mark.parametrize("limit", ["pages", "file size"])
def test_a_disk_that_is_full_under_sqlite_is_told_and_nothing_is_lost(golden_database: GoldenDatabase, tmp_path: Path, limit: str) -> None:
    """Linux answers a write beyond the limit of a file's size as it answers one beyond a quota."""
    with golden_database.engine.connect() as connection:
        connection.exec_driver_sql("VACUUM")
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
    run = LocalRun(golden_database.settings(), tmp_path)
    if limit == "pages":
        run.wrap_database = lambda ours: faults.in_each_session(ours, f"PRAGMA max_page_count = {pages}")
        refused(run.run("re-encrypt", **INPUT), DatabaseError, "SQLITE_FULL", "the disk is full", "start again")
    else:
        with faults.file_size_limit(Path(golden_database.url.database or "").stat().st_size):
            report = run.run("re-encrypt", **INPUT)
        refused(report, DatabaseError, "SQLITE_IOERR_WRITE", "the disk's space and the quota")
    assert_converges(golden_database, run)


FULL = {
    "mysql": "CREATE TRIGGER full BEFORE UPDATE ON secrets FOR EACH ROW SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = 1021",
    "postgresql": "CREATE TRIGGER disk BEFORE UPDATE ON secrets FOR EACH ROW EXECUTE FUNCTION disk_is_full()",
}
FULL_FUNCTION = "CREATE FUNCTION disk_is_full() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION USING ERRCODE = ''disk_full''; END'"


@ON_EACH_GOLDEN_SERVER
def test_a_server_whose_disk_gets_full_in_mid_run_is_told_and_nothing_is_lost(golden_database: GoldenDatabase, tmp_path: Path) -> None:
    """Said by a trigger, in the words of the server: to fill the disk itself takes a disk of its own."""
    dialect = golden_database.engine.dialect.name
    if dialect == "postgresql":
        servers.execute(golden_database.url, FULL_FUNCTION)
    servers.execute(golden_database.url, FULL[dialect])
    run = LocalRun(golden_database.settings(), tmp_path)
    refused(run.run("re-encrypt", **INPUT), DatabaseError, "writing secrets", "the disk is full", "start again")
    servers.execute(golden_database.url, "DROP TRIGGER full" if dialect == "mysql" else "DROP TRIGGER disk ON secrets")
    report = assert_converges(golden_database, run)
    assert report["totals"]["already_current"] > 0


def test_a_password_that_is_changed_in_mid_run_is_told_and_running_again_converges(
    private: PrivateServer, private_golden: GoldenDatabase, tmp_path: Path
) -> None:
    change = {"mysql": f"ALTER USER {private_server.ACCOUNT}@'127.0.0.1' IDENTIFIED BY", "postgres": f"ALTER ROLE {private_server.ACCOUNT} PASSWORD"}[
        private.engine
    ]

    def rotate() -> None:
        servers.execute(private.admin, f"{change} 'another'")
        with EmptyDatabase(private.engine, private.admin.set(database=private_golden.url.database)).engine.connect() as administrator:
            for session in faults.sessions(administrator):
                faults.kill(administrator, session)

    run = LocalRun(private_golden.settings(), tmp_path, wrap_database=faults.before_each_write(once(rotate)))
    try:
        refused(run.run("re-encrypt", **INPUT), DatabaseUnavailable, "writing secrets", "password is wrong", "[database] user and password")
    finally:
        servers.execute(private.admin, f"{change} '{private_server.PASSWORD}'")
    assert_converges(private_golden, run)


# SQLite, whole runs


@ON_GOLDEN_SQLITE
@pytest.mark.parametrize("journal", ["delete", "wal"])
@pytest.mark.parametrize("tries", [5, None])
def test_a_run_beside_a_grafana_that_holds_the_sqlite_file_for_a_while(
    golden_database: GoldenDatabase, tmp_path: Path, journal: str, tries: int | None
) -> None:
    """For five of our tries, or for good: then the run ends as busy, and the next one finishes."""
    path = golden_database.url.database or ""
    pauses: list[float] = []
    with closing(sqlite3.connect(path, isolation_level=None)) as grafana:
        grafana.execute(f"PRAGMA journal_mode = {journal}")

        def sleep(seconds: float) -> None:
            pauses.append(seconds)
            if len(pauses) == tries:
                grafana.execute("COMMIT")

        def wrap(ours: Database) -> Database:
            ours._sleep = sleep
            return faults.before_each_write(lock)(ours)

        lock = once(lambda: grafana.execute("BEGIN IMMEDIATE"))
        run = LocalRun(golden_database.settings(), tmp_path, wrap_database=wrap)
        report = run.run("re-encrypt", **INPUT)
        if tries:
            assert (report["outcome"], len(pauses)) == ("succeeded", tries)
        else:
            refused(report, DatabaseBusy, "writing secrets", "SQLITE_BUSY", "start again")
            grafana.execute("ROLLBACK")
        assert_converges(golden_database, run)
