"""A database that locks, cuts, fills up or has no connection left: what we then do to others, and what we say."""

from __future__ import annotations

import re
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Never

import psycopg
import pymysql.err
import pytest
import sqlalchemy as sa

from reencrypt.database import database as database_module
from reencrypt.database.database import Database, Swap, Swapped
from reencrypt.database.failures import translated
from reencrypt.errors import DatabaseBusy, DatabaseError, DatabaseUnavailable, ValueRefused
from reencrypt.grafana.secret_columns import ColumnGroup
from tests.integration.conftest import EmptyDatabase, fresh
from tests.support import faults, private_server, servers
from tests.support.private_server import PrivateServer

SERVERS = ("mysql", "postgres")
ROWS = 4
TIMEOUTS = {"mysql": 1205, "postgres": "55P03"}
# Each try gives up at once, so that a test of many tries takes no time.
NO_PATIENCE = {"mysql": "SET SESSION innodb_lock_wait_timeout = 0", "postgres": "SET lock_timeout = '10ms'"}
ON_EACH_SERVER = pytest.mark.parametrize("table", SERVERS, indirect=True)
IN_BOTH_JOURNAL_MODES = pytest.mark.parametrize("table", ["sqlite delete", "sqlite wal"], indirect=True)


class Table:
    """A database with the table `secrets` of a few rows, and ours to work on it. What `pause` does happens between two tries."""

    def __init__(self, empty: EmptyDatabase) -> None:
        self.empty, self.engine_name = empty, empty.engine_name
        self.pauses: list[float] = []
        self.pause: Callable[[], None] = lambda: None
        empty.execute("CREATE TABLE secrets (id INTEGER PRIMARY KEY, namespace VARCHAR(255), value TEXT)")
        for number in range(1, ROWS + 1):
            empty.execute("INSERT INTO secrets (id, namespace, value) VALUES (:id, 'n', :value)", id=number, value=f"old {number}")
        self.database = Database(empty.settings, read_only=False, sleep=self._sleep)
        self.group: ColumnGroup = next(group for group in self.database.groups() if group.id == "secrets")
        self.rows = self.database.page(self.group, None, None)
        self.answers = faults.answers(self.database)

    def _sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.pause()

    def swap(self, new: str = "new") -> list[Swapped]:
        return self.database.compare_and_swap(self.group, [Swap(row, {0: f"{new} {row.key[0]}".encode()}) for row in self.rows])

    def values(self) -> list[str]:
        with self.empty.engine.connect() as connection:
            return list(connection.exec_driver_sql("SELECT value FROM secrets ORDER BY id").scalars())

    def touch(self, connection: sa.Connection, row: int) -> None:
        """What a writer beside us does: it changes a row, but not what we are about to swap."""
        connection.exec_driver_sql(f"UPDATE secrets SET namespace = CONCAT(namespace, 'x') WHERE id = {row}")

    @contextmanager
    def swapping(self) -> Iterator[list[list[Swapped] | Exception]]:
        """A swap in a thread of its own, over at the end of the block; the list gets what it returned or raised."""
        ended: list[list[Swapped] | Exception] = []

        def run() -> None:
            try:
                ended.append(self.swap())
            except Exception as error:
                ended.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield ended
        finally:
            thread.join(30)
        assert not thread.is_alive()


NEW = [f"new {number}" for number in range(1, ROWS + 1)]
OLD = [f"old {number}" for number in range(1, ROWS + 1)]
ALL_WRITTEN = [Swapped.WRITTEN] * ROWS


@pytest.fixture
def table(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Table]:
    """The engine's name; SQLite's with the journal mode."""
    engine, _, journal = request.param.partition(" ")
    with fresh(engine, request, tmp_path) as empty:
        if journal:
            assert empty.scalar(f"PRAGMA journal_mode = {journal}") == journal
        opened = Table(empty)
        yield opened
        opened.database.close()


@pytest.fixture(scope="module", params=SERVERS)
def private(request: pytest.FixtureRequest) -> Iterator[PrivateServer]:
    """A server of each engine for this module alone, to be stopped, filled and locked up."""
    with private_server.private_server(request.param) as server:
        yield server


# Locks


@pytest.mark.parametrize("table", ["mysql"], indirect=True)
def test_a_deadlock_that_kills_our_transaction_on_mariadb_is_tried_again(table: Table) -> None:
    table.empty.execute("CREATE TABLE ballast (id INTEGER PRIMARY KEY)")
    with table.empty.engine.connect() as other, table.empty.engine.connect() as watcher:
        # The server kills whoever has written less.
        other.exec_driver_sql(f"INSERT INTO ballast VALUES {', '.join(f'({number})' for number in range(500))}")
        table.touch(other, ROWS)
        table.pause = other.commit
        with table.swapping() as ended:
            faults.eventually(lambda: faults.sessions(watcher, waiting=True), "our swap waits for the last row")
            table.touch(other, 1)
    assert (ended, table.answers) == ([ALL_WRITTEN], [1213])
    assert table.values() == NEW


@pytest.mark.parametrize("table", ["postgres"], indirect=True)
def test_a_deadlock_that_kills_our_transaction_on_postgresql_is_tried_again(table: Table) -> None:
    """PostgreSQL kills whoever looks for a deadlock while there is one: ours has to be the one that closes the circle."""
    faults.in_each_session(table.database, "SET deadlock_timeout = '10ms'", "SET lock_timeout = '30s'")
    table.empty.execute("CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_advisory_xact_lock(1); RETURN NEW; END'")
    table.empty.execute("CREATE TRIGGER hold BEFORE UPDATE ON secrets FOR EACH ROW WHEN (NEW.value = 'new 1') EXECUTE FUNCTION hold()")
    with table.empty.engine.connect() as other, table.empty.engine.connect() as gate, table.empty.engine.connect() as watcher:
        gate.exec_driver_sql("SELECT pg_advisory_xact_lock(1)")
        other.exec_driver_sql("SET deadlock_timeout = '1min'")
        table.touch(other, ROWS)

        def cross() -> None:
            table.touch(other, 1)
            other.commit()

        crossing = threading.Thread(target=cross)
        with table.swapping() as ended:
            faults.eventually(lambda: faults.sessions(watcher, waiting=True), "our swap has the first row and waits at the gate")
            crossing.start()
            faults.eventually(lambda: faults.sessions(watcher, waiting=True)[1:], "the other session waits for the first row")
            gate.rollback()
            crossing.join(30)
    assert (ended, table.answers) == ([ALL_WRITTEN], ["40P01"])
    assert table.values() == NEW


@pytest.mark.parametrize("table", ["postgres"], indirect=True)
@pytest.mark.parametrize("theirs", ["namespace = 'changed'", "value = 'grafana'"])
def test_a_serialization_failure_is_tried_again(table: Table, theirs: str) -> None:
    faults.in_each_session(table.database, "SET default_transaction_isolation = 'serializable'")
    with table.empty.engine.connect() as other, table.empty.engine.connect() as watcher:
        other.exec_driver_sql(f"UPDATE secrets SET {theirs} WHERE id = 2")
        with table.swapping() as ended:
            faults.eventually(lambda: faults.sessions(watcher, waiting=True), "our swap waits for the row")
            other.commit()
    assert table.answers == ["40001"]
    changed = theirs.startswith("value")
    assert ended == [[Swapped.MISSED if changed and number == 2 else Swapped.WRITTEN for number in range(1, ROWS + 1)]]
    assert table.values() == ["grafana" if changed and number == 2 else f"new {number}" for number in range(1, ROWS + 1)]


@pytest.mark.parametrize("table", ["postgres"], indirect=True)
@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
def test_a_default_isolation_of_the_database_does_not_reach_our_sessions(table: Table, level: str) -> None:
    """In a serializable session ours could make a transaction of Grafana's fail."""
    name = table.empty.url.database
    servers.execute(table.empty.url, f"ALTER DATABASE {name} SET default_transaction_isolation = '{level}'")
    table.database.close()
    assert table.empty.scalar("SHOW transaction_isolation") == level
    with table.empty.engine.connect() as other, table.empty.engine.connect() as watcher:
        table.touch(other, 2)
        with table.swapping() as ended:
            faults.eventually(lambda: faults.sessions(watcher, waiting=True), "our swap waits for the row")
            other.commit()
    assert (ended, table.answers) == ([ALL_WRITTEN], [])


@ON_EACH_SERVER
@pytest.mark.parametrize("locked", ["a row", "the table"])
def test_while_a_swap_waits_for_a_lock_others_read_and_write_what_it_would_have_locked(table: Table, locked: str) -> None:
    """The first wait is the real one of our sessions: it ends by itself."""
    with table.empty.engine.connect() as holder:
        if locked == "a row":
            table.touch(holder, 2)
        else:
            holder.exec_driver_sql("LOCK TABLES secrets WRITE" if table.engine_name == "mysql" else "LOCK TABLE secrets IN ACCESS EXCLUSIVE MODE")

        def go_on() -> None:
            if locked == "the table":
                holder.exec_driver_sql("UNLOCK TABLES" if table.engine_name == "mysql" else "COMMIT")
            with table.empty.engine.connect() as other:
                other.exec_driver_sql(NO_PATIENCE[table.engine_name])
                assert other.exec_driver_sql("SELECT count(*) FROM secrets").scalar_one() == ROWS
                for row in (1, 3, 4):
                    table.touch(other, row)
                other.commit()
            holder.commit()

        table.pause = go_on
        assert table.swap() == ALL_WRITTEN
    assert table.answers == [TIMEOUTS[table.engine_name]]
    assert len(table.pauses) == 1
    assert table.values() == NEW


@ON_EACH_SERVER
def test_our_sessions_wait_for_no_lock_longer_than_two_seconds(table: Table) -> None:
    """Locks of whole tables included: MariaDB waits a day for those unless told otherwise, MySQL a year."""
    asked = {"mysql": "SELECT @@innodb_lock_wait_timeout, @@lock_wait_timeout", "postgres": "SHOW lock_timeout"}[table.engine_name]
    with table.database._engine.connect() as connection:
        assert tuple(connection.exec_driver_sql(asked).one()) == {"mysql": (2, 2), "postgres": ("2s",)}[table.engine_name]


@ON_EACH_SERVER
def test_a_lock_that_is_never_given_back_ends_in_database_busy(table: Table) -> None:
    faults.in_each_session(table.database, NO_PATIENCE[table.engine_name])
    with table.empty.engine.connect() as holder:
        table.touch(holder, 2)
        with pytest.raises(DatabaseBusy, match=rf"^writing secrets: .* {TIMEOUTS[table.engine_name]}: another session holds a lock .*start again$"):
            table.swap()
        assert table.answers == [TIMEOUTS[table.engine_name]] * database_module.BUSY_ATTEMPTS
        assert len(table.pauses) == database_module.BUSY_ATTEMPTS - 1
        assert min(table.pauses) > 0
    assert table.values() == OLD


# SQLite


def sqlite(table: Table) -> closing[sqlite3.Connection]:
    """Another process at the file, which waits for nothing."""
    return closing(sqlite3.connect(table.empty.url.database or "", isolation_level=None, timeout=0, check_same_thread=False))


@IN_BOTH_JOURNAL_MODES
def test_our_sqlite_sessions_wait_for_milliseconds_only(table: Table) -> None:
    with table.database._engine.connect() as connection:
        assert 0 < connection.exec_driver_sql("PRAGMA busy_timeout").scalar_one() <= 10


@IN_BOTH_JOURNAL_MODES
def test_while_a_writer_has_the_sqlite_file_we_give_everything_back_and_come_again(table: Table) -> None:
    with sqlite(table) as writer, sqlite(table) as other:
        writer.execute("BEGIN IMMEDIATE")

        def go_on() -> None:
            """Between our tries a reader reads, the writer commits, and the next writer has its turn."""
            assert other.execute("SELECT count(*) FROM secrets").fetchone() == (ROWS,)
            if len(table.pauses) == 3:
                writer.execute("UPDATE secrets SET namespace = 'theirs' WHERE id = 1")
                writer.execute("COMMIT")
                other.execute("UPDATE secrets SET namespace = 'others' WHERE id = 2")

        table.pause = go_on
        assert table.swap() == ALL_WRITTEN
    assert table.answers == ["SQLITE_BUSY"] * 3
    assert table.values() == NEW


@IN_BOTH_JOURNAL_MODES
def test_a_reader_that_stands_in_the_way_of_our_commit_does_not_make_us_bar_other_readers(table: Table) -> None:
    """In rollback mode a commit waits for readers, and while it waits it bars new ones; in WAL mode readers are in nobody's way."""
    with sqlite(table) as reader, sqlite(table) as other:
        cursor = reader.execute("SELECT id, value FROM secrets")
        assert cursor.fetchone() == (1, "old 1")  # SHARED, until the cursor is done

        def go_on() -> None:
            assert [value for (value,) in other.execute("SELECT value FROM secrets ORDER BY id")] == OLD
            other.execute("BEGIN IMMEDIATE")
            other.execute("ROLLBACK")
            if len(table.pauses) == 3:
                cursor.close()

        table.pause = go_on
        assert table.swap() == ALL_WRITTEN
    assert table.answers == (["SQLITE_BUSY"] * 3 if _journal_mode(table) == "delete" else [])
    assert table.values() == NEW


@pytest.mark.parametrize("table", ["sqlite delete"], indirect=True)
def test_reading_waits_for_a_writer_that_commits(table: Table) -> None:
    with sqlite(table) as writer:
        writer.execute("BEGIN EXCLUSIVE")

        def commit() -> None:
            writer.execute("COMMIT")

        table.pause = commit
        assert table.database.page(table.group, None, None) == table.rows
    assert table.answers == ["SQLITE_BUSY"]


@IN_BOTH_JOURNAL_MODES
def test_a_sqlite_file_that_stays_locked_ends_in_database_busy(table: Table) -> None:
    with sqlite(table) as writer:
        writer.execute("BEGIN IMMEDIATE")
        with pytest.raises(DatabaseBusy, match=r"^writing secrets: .* SQLITE_BUSY: another session holds a lock .*start again$"):
            table.swap()
    assert len(table.pauses) == database_module.BUSY_ATTEMPTS - 1
    assert table.values() == OLD
    assert table.swap() == ALL_WRITTEN


def _journal_mode(table: Table) -> str:
    return str(table.empty.scalar("PRAGMA journal_mode"))


# Full disks and connections


@pytest.mark.parametrize("private", ["mysql"], indirect=True)
def test_a_tablespace_that_is_full_is_told_and_the_row_stays_as_it_was(private: PrivateServer) -> None:
    with servers.new_database(private.admin) as url:
        table = Table(EmptyDatabase("mysql", private.account.set(database=url.database)))
        with table.empty.engine.connect() as connection:
            connection.exec_driver_sql("CREATE TABLE junk (id INTEGER PRIMARY KEY AUTO_INCREMENT, filling LONGTEXT)")
            for size in (4_000_000, 200_000):
                with pytest.raises(sa.exc.OperationalError, match="is full"):
                    fill(connection, size)
                connection.rollback()
        with pytest.raises(DatabaseError, match=r"^writing secrets: .* 1114: the disk is full"):
            table.swap("n" * 65_000)
        assert table.values() == OLD
        private.megabytes += 40
        private.restart()
        assert table.swap("n" * 65_000) == ALL_WRITTEN
        table.database.close()


@pytest.mark.parametrize("limit", ["of the server", "of the account"])
def test_a_server_without_a_free_connection_is_told_and_works_again_later(private: PrivateServer, limit: str) -> None:
    mysql = private.engine == "mysql"
    if limit == "of the server":
        if mysql:
            servers.execute(private.admin, "SET GLOBAL max_connections = 10")
    elif mysql:
        servers.execute(private.admin, f"ALTER USER {private_server.ACCOUNT}@'127.0.0.1' WITH MAX_USER_CONNECTIONS 3")
    else:
        servers.execute(private.admin, f"ALTER ROLE {private_server.ACCOUNT} CONNECTION LIMIT 3")
    url = private.account.set(database="mysql" if mysql else "postgres")
    database = Database(servers.settings_of(url), read_only=True)
    hoard = sa.create_engine(url, poolclass=sa.pool.NullPool)
    with ExitStack() as stack:
        with pytest.raises(sa.exc.OperationalError):
            take_all(hoard, stack)
        with pytest.raises(DatabaseUnavailable, match="no connection left for this user: start again with a smaller maxConcurrency") as caught:
            database.version()
        assert private_server.PASSWORD not in str(caught.value)
    if mysql:
        servers.execute(private.admin, "SET GLOBAL max_connections = 100")
        servers.execute(private.admin, f"ALTER USER {private_server.ACCOUNT}@'127.0.0.1' WITH MAX_USER_CONNECTIONS 0")
    else:
        servers.execute(private.admin, f"ALTER ROLE {private_server.ACCOUNT} CONNECTION LIMIT -1")
    assert database.version()
    database.close()


# What no server can be made to say here, in the drivers' own exceptions


@pytest.mark.parametrize(
    ("original", "kind", "words"),
    [
        (psycopg.OperationalError("connection failed: FATAL:  the database system is starting up"), DatabaseUnavailable, "57P03: the server is starting"),
        (psycopg.OperationalError('FATAL:  no pg_hba.conf entry for host "10.0.0.1", user "hunter2"'), DatabaseUnavailable, "28000: the server refuses"),
        (psycopg.OperationalError("connection timeout expired"), DatabaseUnavailable, "OperationalError: there is no connection"),
        (pymysql.err.OperationalError(1053, "Server shutdown in progress"), DatabaseUnavailable, "1053: the server is starting or shutting down"),
        (pymysql.err.OperationalError(1047, "WSREP has not yet prepared node for application use"), DatabaseUnavailable, "1047: the server"),
        (pymysql.err.OperationalError(1836, "Running in read-only mode"), DatabaseError, "1836: the server is read-only: use the writer's endpoint"),
        (pymysql.err.InternalError(6, "Error on delete of '/tmp/hunter2'"), DatabaseError, "InternalError 6"),  # 6 is SQLITE_LOCKED
        (pymysql.err.OperationalError(3819, "Check constraint 'hunter2' is violated."), ValueRefused, "OperationalError 3819"),
    ],
    ids=lambda value: re.sub(r"\W+", " ", str(value.args[0])) if isinstance(value, Exception) else "",
)
def test_an_answer_is_told_by_its_code_and_what_to_do_and_never_by_its_text(original: Exception, kind: type[DatabaseError], words: str) -> None:
    with pytest.raises(DatabaseError) as caught, translated("writing secrets"):
        raise sa.exc.OperationalError("UPDATE secrets SET value = 'hunter2'", ("hunter2",), original)
    assert type(caught.value) is kind
    assert words in str(caught.value)
    assert "hunter2" not in str(caught.value)


def fill(connection: sa.Connection, size: int) -> Never:
    """Rows of `size` bytes until the server refuses one."""
    while True:
        connection.exec_driver_sql(f"INSERT INTO junk (filling) VALUES (REPEAT('x', {size}))")
        connection.commit()


def take_all(engine: sa.Engine, stack: ExitStack) -> Never:
    """Connections until the server refuses one; `stack` holds them."""
    while True:
        stack.enter_context(engine.connect())
