"""Compare bytes: on every engine, a swap happens only over exactly the bytes that were read, and leaves everything else as it is."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from reencrypt.database.database import Database, Row, Swap, Swapped
from reencrypt.errors import DatabaseError, DatabaseUnavailable
from reencrypt.grafana.base64_text import Base64
from reencrypt.grafana.data_keys import new_data_key
from reencrypt.grafana.plausibility import PlaintextKind
from reencrypt.grafana.secret_columns import ColumnGroup, SecretColumn, Shape, groups
from tests.integration.conftest import EmptyDatabase

MYSQL_TABLE = """CREATE TABLE {name} (id BIGINT NOT NULL PRIMARY KEY, namespace VARCHAR(255), {column} {type} NULL)
 ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_unicode_ci"""


@pytest.fixture
def database(empty_database: EmptyDatabase) -> Iterator[Database]:
    """An engine's database with `secrets`, `sso_setting` (text keys) and `dashboard_snapshot` (blobs)."""
    execute = empty_database.execute
    kind = empty_database.engine_name
    if kind == "mysql":
        execute(MYSQL_TABLE.format(name="secrets", column="value", type="TEXT"))
        execute(MYSQL_TABLE.format(name="dashboard_snapshot", column="dashboard_encrypted", type="MEDIUMBLOB"))
        execute("CREATE TABLE sso_setting (id VARCHAR(40) NOT NULL, settings MEDIUMTEXT NOT NULL) DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_unicode_ci")
    else:
        blob = "BYTEA" if kind == "postgres" else "BLOB"
        execute("CREATE TABLE secrets (id INTEGER PRIMARY KEY, namespace VARCHAR(255), value TEXT NULL)")
        execute(f"CREATE TABLE dashboard_snapshot (id INTEGER PRIMARY KEY, namespace VARCHAR(255), dashboard_encrypted {blob} NULL)")
        execute("CREATE TABLE sso_setting (id VARCHAR(40) NOT NULL, settings TEXT NOT NULL)")
    opened = Database(empty_database.settings, read_only=False)
    yield opened
    opened.close()


def group(database: Database, name: str) -> ColumnGroup:
    return next(group for group in database.groups() if group.id == name)


def only(database: Database, name: str) -> Row:
    [row] = database.page(group(database, name), None, None)
    return row


def swap(database: Database, name: str, row: Row, new: bytes) -> Swapped:
    [result] = database.compare_and_swap(group(database, name), [Swap(row, {0: new})])
    return result


@pytest.mark.parametrize("stored", ["abcDEF==", "", " padded ", "ümläut ☃ 🔑", "a'b\\c%d\"e", "x" * 60_000])
def test_a_swap_over_the_bytes_that_were_read_is_written(database: Database, empty_database: EmptyDatabase, stored: str) -> None:
    empty_database.execute("INSERT INTO secrets (id, namespace, value) VALUES (1, 'n', :value)", value=stored)
    row = only(database, "secrets")
    assert row.values == (stored.encode(),)
    assert swap(database, "secrets", row, "neu ☃ %s ' \\".encode()) is Swapped.WRITTEN
    assert empty_database.scalar("SELECT value FROM secrets WHERE id = 1") == "neu ☃ %s ' \\"
    assert swap(database, "secrets", row, b"again") is Swapped.MISSED


@pytest.mark.parametrize(("read", "now"), [("QUJD", "qujd"), ("QUJD", "QUJD "), ("QUJD ", "QUJD"), ("QUJD", "QÚJD"), ("QUJD", "QUJD\n"), ("ss", "ß")])
def test_two_values_that_only_a_collation_takes_for_equal_are_different(database: Database, empty_database: EmptyDatabase, read: str, now: str) -> None:
    empty_database.execute("INSERT INTO secrets (id, namespace, value) VALUES (1, 'n', :value)", value=read)
    row = only(database, "secrets")
    empty_database.execute("UPDATE secrets SET value = :value", value=now)
    assert swap(database, "secrets", row, b"ours") is Swapped.MISSED
    assert empty_database.scalar("SELECT value FROM secrets") == now


@pytest.mark.parametrize("size", [1_000, 200_000])
def test_large_texts_are_compared_byte_for_byte_too(database: Database, empty_database: EmptyDatabase, size: int) -> None:
    """Above 64 kB MySQL compares them by their SHA-256, over the bytes of the column."""
    stored = "Grün ☃ 🔑 " * (size // 10)
    empty_database.execute("INSERT INTO sso_setting (id, settings) VALUES ('a', :value)", value=stored)
    row = only(database, "sso_setting")
    assert row.values == (stored.encode(),)
    empty_database.execute("UPDATE sso_setting SET settings = :value", value=stored.upper())
    assert swap(database, "sso_setting", row, b"ours") is Swapped.MISSED
    empty_database.execute("UPDATE sso_setting SET settings = :value", value=stored)
    assert swap(database, "sso_setting", row, "ours ☃".encode()) is Swapped.WRITTEN
    assert empty_database.scalar("SELECT settings FROM sso_setting") == "ours ☃"


@pytest.mark.parametrize("size", [10, 100_000, 3_000_000])
def test_blobs_are_compared_and_written_byte_for_byte(database: Database, empty_database: EmptyDatabase, size: int) -> None:
    stored = (bytes(range(256)) * (size // 256 + 1))[:size]
    empty_database.execute("INSERT INTO dashboard_snapshot (id, namespace, dashboard_encrypted) VALUES (1, 'n', :value)", value=stored)
    row = only(database, "dashboard_snapshot")
    assert row.values == (stored,)
    changed = stored[:-1] + bytes((stored[-1] ^ 0x20,))
    empty_database.execute("UPDATE dashboard_snapshot SET dashboard_encrypted = :value", value=changed)
    assert swap(database, "dashboard_snapshot", row, b"ours") is Swapped.MISSED
    assert bytes(empty_database.scalar("SELECT dashboard_encrypted FROM dashboard_snapshot")) == changed
    assert swap(database, "dashboard_snapshot", only(database, "dashboard_snapshot"), stored[::-1]) is Swapped.WRITTEN
    assert bytes(empty_database.scalar("SELECT dashboard_encrypted FROM dashboard_snapshot")) == stored[::-1]


def test_rows_whose_keys_only_a_collation_takes_for_equal_get_their_own_values(database: Database, empty_database: EmptyDatabase) -> None:
    """`sso_setting.id` has no unique index; a MySQL collation takes 'A' for 'a'."""
    for key in ("a", "A", "á", "b"):
        empty_database.execute("INSERT INTO sso_setting (id, settings) VALUES (:key, :value)", key=key, value=f"old {key}")
    sso = group(database, "sso_setting")
    rows = database.page(sso, None, None)
    assert len(rows) == 4
    results = database.compare_and_swap(sso, [Swap(row, {0: b"new " + str(row.key[0]).encode()}) for row in rows])
    assert results == [Swapped.WRITTEN] * 4
    assert {row.key[0]: row.values[0] for row in database.page(sso, None, None)} == {key: f"new {key}".encode() for key in ("a", "A", "á", "b")}


def test_in_a_batch_each_row_is_judged_on_its_own(database: Database, empty_database: EmptyDatabase) -> None:
    for number in range(450):
        empty_database.execute("INSERT INTO secrets (id, namespace, value) VALUES (:id, 'n', :value)", id=number, value=f"old {number}")
    secrets = group(database, "secrets")
    rows = database.page(secrets, None, None)
    for number in (0, 199, 200, 449):
        empty_database.execute("UPDATE secrets SET value = 'grafana' WHERE id = :id", id=number)
    empty_database.execute("DELETE FROM secrets WHERE id = 300")
    results = database.compare_and_swap(secrets, [Swap(row, {0: f"new {row.key[0]}".encode()}) for row in rows])
    missed = {row.key[0] for row, result in zip(rows, results, strict=True) if result is Swapped.MISSED}
    assert missed == {0, 199, 200, 300, 449}
    now = {row.key[0]: row.values[0] for row in database.page(secrets, None, None)}
    assert now == {n: b"grafana" if n in missed else b"new %d" % n for n in range(450) if n != 300}


def test_windows_are_bounded_by_rows_and_by_bytes_and_cover_every_row_once(database: Database, empty_database: EmptyDatabase) -> None:
    for number in range(1, 26):
        empty_database.execute(
            "INSERT INTO secrets (id, namespace, value) VALUES (:id, 'n', :value)", id=number * 3, value="x" * (5000 if number == 7 else 100)
        )
    secrets = group(database, "secrets")
    seen: list[object] = []
    after = None
    while True:
        window = database.window(secrets, after, None, 10, 1000)
        page = database.page(secrets, after, window.through)
        assert len(page) == window.rows
        assert sum(len(row.values[0] or b"") for row in page) <= 1000 or len(page) == 1
        seen += [row.key[0] for row in page]
        if window.last:
            break
        after = window.through
    assert seen == [number * 3 for number in range(1, 26)]
    assert database.tail(secrets, 5) == (60,)
    assert database.tail(secrets, 25) is None


def test_a_value_that_the_server_refuses_does_not_take_others_with_it(database: Database, empty_database: EmptyDatabase) -> None:
    if empty_database.engine_name == "sqlite":
        empty_database.execute("CREATE TRIGGER t BEFORE UPDATE ON secrets WHEN length(NEW.value) > 65535 BEGIN SELECT RAISE(ABORT, 'too long'); END")
    if empty_database.engine_name == "postgres":
        empty_database.execute("ALTER TABLE secrets ADD CHECK (length(value) <= 65535)")
    for number in range(3):
        empty_database.execute("INSERT INTO secrets (id, namespace, value) VALUES (:id, 'n', 'old')", id=number)
    secrets = group(database, "secrets")
    rows = database.page(secrets, None, None)
    results = database.compare_and_swap(secrets, [Swap(row, {0: b"n" * (70_000 if row.key == (1,) else 10)}) for row in rows])
    assert results == [Swapped.WRITTEN, Swapped.REFUSED, Swapped.WRITTEN]
    assert empty_database.scalar("SELECT value FROM secrets WHERE id = 1") == "old"


def test_a_session_that_only_reads_cannot_write(database: Database, empty_database: EmptyDatabase) -> None:
    empty_database.execute("INSERT INTO secrets (id, namespace, value) VALUES (1, 'n', 'old')")
    reader = Database(empty_database.settings, read_only=True)
    with pytest.raises(DatabaseError):
        swap(reader, "secrets", only(reader, "secrets"), b"new")
    assert empty_database.scalar("SELECT value FROM secrets") == "old"
    reader.close()


def test_a_lock_that_another_session_holds_is_waited_out(database: Database, empty_database: EmptyDatabase) -> None:
    empty_database.execute("INSERT INTO secrets (id, namespace, value) VALUES (1, 'n', 'old')")
    row = only(database, "secrets")
    waiting = threading.Event()
    database._sleep = lambda seconds: waiting.set()
    with empty_database.engine.connect() as other:
        if empty_database.engine_name == "sqlite":
            other.exec_driver_sql("BEGIN IMMEDIATE")
        other.execute(sa.text("UPDATE secrets SET namespace = 'locked' WHERE id = 1"))
        results: list[Swapped] = []
        writer = threading.Thread(target=lambda: results.append(swap(database, "secrets", row, b"new")))
        writer.start()
        assert waiting.wait(20), "the writer gives its locks back and pauses"
        other.commit()
        writer.join(20)
    assert results == [Swapped.WRITTEN]


def test_an_unreachable_database_is_named_with_what_to_check(empty_database: EmptyDatabase) -> None:
    for settings, word in empty_database.unreachable():
        with pytest.raises(DatabaseUnavailable) as caught:
            Database(settings, read_only=True).version()
        assert word in str(caught.value)
        assert "wrong-password" not in str(caught.value)


def test_a_data_key_is_read_back_as_it_was_written(empty_database: EmptyDatabase) -> None:
    from datetime import UTC, datetime

    blob = {"mysql": "BLOB", "postgres": "BYTEA", "sqlite": "BLOB"}[empty_database.engine_name]
    boolean = {"mysql": "TINYINT(1)", "postgres": "BOOL", "sqlite": "INTEGER"}[empty_database.engine_name]
    moment = {"mysql": "DATETIME", "postgres": "TIMESTAMP", "sqlite": "DATETIME"}[empty_database.engine_name]
    empty_database.execute(
        f"CREATE TABLE data_keys (name VARCHAR(100) PRIMARY KEY, active {boolean} NOT NULL, scope VARCHAR(30) NOT NULL, provider VARCHAR(50) NOT NULL, "
        f"encrypted_data {blob} NOT NULL, created {moment} NOT NULL, updated {moment} NOT NULL, label VARCHAR(100) DEFAULT '')"
    )
    key = new_data_key("awskms.example", bytes(range(256)), datetime(2026, 11, 24, 22, 10, 5, tzinfo=UTC))
    database = Database(empty_database.settings, read_only=False)
    database.insert_data_key(key)
    assert database.data_keys() == [key]
    assert (database.has_data_keys(), database.has_labels()) == (True, True)
    database.close()


def test_composite_keys_are_paged_and_swapped_as_single_ones_are(empty_database: EmptyDatabase) -> None:
    """The secrets manager's tables have keys of (text, text, integer)."""
    blob = "BYTEA" if empty_database.engine_name == "postgres" else "BLOB"
    empty_database.execute(
        "CREATE TABLE secret_encrypted_value (namespace VARCHAR(253) NOT NULL, name VARCHAR(253) NOT NULL, version BIGINT NOT NULL, "
        f"encrypted_data {blob} NOT NULL, PRIMARY KEY (namespace, name, version))"
    )
    keys = [(namespace, f"name-{number:02}", version) for namespace in ("default", "org-2") for number in range(4) for version in (1, 2, 10)]
    for namespace, name, version in keys:
        empty_database.execute(
            "INSERT INTO secret_encrypted_value VALUES (:namespace, :name, :version, :data)",
            namespace=namespace,
            name=name,
            version=version,
            data=f"old {namespace} {name} {version}".encode(),
        )
    column = SecretColumn(
        "secret_encrypted_value.encrypted_data",
        "secret_encrypted_value",
        ("namespace", "name", "version"),
        "encrypted_data",
        Shape.RAW,
        Base64.NONE,
        PlaintextKind.TEXT,
    )
    [composite] = groups([column])
    database = Database(empty_database.settings, read_only=False)
    seen: list[tuple[object, ...]] = []
    after, last = None, False
    while not last:
        window = database.window(composite, after, None, 5, 10_000)
        page = database.page(composite, after, window.through)
        assert len(page) == window.rows
        seen += [row.key for row in page]
        results = database.compare_and_swap(composite, [Swap(row, {0: b"new " + str(row.key).encode()}) for row in page])
        assert set(results) == {Swapped.WRITTEN}
        after, last = window.through, window.last
    assert seen == keys
    assert {row.key: row.values[0] for row in database.page(composite, None, None)} == {key: b"new " + str(key).encode() for key in keys}
    database.close()
