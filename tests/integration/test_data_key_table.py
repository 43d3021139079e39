"""The rows of both tables of data keys change only while they are what was read, on every engine, whatever an id looks like to its collation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from reencrypt.database.data_key_table import TABLES
from reencrypt.database.data_keys import BATCH_KEYS
from reencrypt.database.database import Database
from reencrypt.errors import DatabaseError, ValueRefused
from reencrypt.grafana.data_keys import DataKey, label, new_data_key
from reencrypt.grafana.secret_columns import System
from tests.integration.conftest import EmptyDatabase

MADE = datetime(2026, 11, 24, 22, 10, 5, tzinfo=UTC)
LATER = datetime(2026, 11, 25, 11, 0, 1, tzinfo=timezone(timedelta(hours=2)))  # 9:00:01 UTC
TYPES = {
    "mysql": {"blob": "BLOB", "boolean": "TINYINT(1)", "moment": "DATETIME", "label": "NULL", "end": "DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_unicode_ci"},
    "postgres": {"blob": "BYTEA", "boolean": "BOOL", "moment": "TIMESTAMP", "label": "NOT NULL DEFAULT ''", "end": ""},
    "sqlite": {"blob": "BLOB", "boolean": "INTEGER", "moment": "DATETIME", "label": "NOT NULL DEFAULT ''", "end": ""},
}  # fmt: skip
# Grafana's own declarations (grafana-format.md, 2.1 and 4).
DECLARED = {
    System.GRAFANA: """CREATE TABLE data_keys (name VARCHAR(100) NOT NULL PRIMARY KEY, active {boolean} NOT NULL, scope VARCHAR(30) NOT NULL,
        provider VARCHAR(50) NOT NULL, encrypted_data {blob} NOT NULL, created {moment} NOT NULL, updated {moment} NOT NULL,
        label VARCHAR(100) {label}) {end}""",
    System.MANAGER: """CREATE TABLE secret_data_key (uid VARCHAR(100) NOT NULL PRIMARY KEY, namespace VARCHAR(253) NOT NULL, label VARCHAR(100) NOT NULL,
        active {boolean} NOT NULL, provider VARCHAR(50) NOT NULL, encrypted_data {blob} NOT NULL, created {moment} NOT NULL,
        updated {moment} NOT NULL) {end}""",
}
WRAPPED = bytes(range(256))
REWRAPPED = b"\x01\x02\x02\x00'\\\"%s ?" + bytes(reversed(range(256)))


@dataclass
class Table:
    """One of the two tables of a fresh database, and the product's connection."""

    system: System
    raw: EmptyDatabase
    database: Database

    @property
    def name(self) -> str:
        return TABLES[self.system].name

    @property
    def id(self) -> str:
        return TABLES[self.system].id

    def add(self, name: str = "key-one", **values: Any) -> DataKey:
        """A row as Grafana or this product makes it."""
        scope = "root" if self.system is System.GRAFANA else "default"
        made = new_data_key("secretKey.v1", WRAPPED, MADE, self.system, scope)
        key = replace(made, name=name, **values)
        self.database.insert_data_key(key, self.system)
        return key

    def rows(self) -> list[DataKey]:
        return self.database.data_keys(self.system)

    def only(self) -> DataKey:
        [key] = self.rows()
        return key

    def updated(self, name: str = "key-one") -> str:
        return str(self.raw.scalar(f"SELECT updated FROM {self.name} WHERE {self.id} = '{name}'"))

    def rewrapped(self, key: DataKey, encrypted_data: bytes = REWRAPPED) -> DataKey:
        return replace(key, provider="awskms.new", encrypted_data=encrypted_data, label=label(self.system, "awskms.new", key.scope, LATER))

    def replace(self, old: DataKey, new: DataKey) -> bool:
        return self.database.replace_data_key(old, new, LATER, self.system)

    def delete(self, key: DataKey) -> bool:
        return self.database.delete_data_key(key, self.system)

    def deactivate(self, *keys: DataKey) -> int:
        return self.database.deactivate_data_keys(keys, LATER, self.system)


@pytest.fixture(params=list(System))
def table(request: pytest.FixtureRequest, empty_database: EmptyDatabase) -> Iterator[Table]:
    """Each table on each engine."""
    empty_database.execute(DECLARED[request.param].format(**TYPES[empty_database.engine_name]))
    database = Database(empty_database.settings, read_only=False)
    yield Table(request.param, empty_database, database)
    database.close()


def test_a_data_key_of_either_table_is_read_back_as_it_was_written(table: Table) -> None:
    key = table.add("Key_1-z")
    assert table.rows() == [key]
    assert table.updated("Key_1-z") == str(key.created and key.created.replace(tzinfo=None))
    assert table.database.has_data_keys(table.system)
    assert not table.database.has_data_keys(next(system for system in System if system is not table.system))
    assert key.label == {"data_keys": "2026-11-24/root@secretKey.v1", "secret_data_key": "2026-11-24@secretKey.v1"}[table.name]


def test_data_keys_of_an_absent_table_are_none(empty_database: EmptyDatabase) -> None:
    database = Database(empty_database.settings, read_only=True)
    assert [database.data_keys(system) for system in System] == [[], []]
    assert (database.has_data_keys(), database.has_labels()) == (False, False)
    database.close()


def test_keys_come_the_oldest_first(table: Table) -> None:
    for day, name in ((20, "b"), (22, "c"), (20, "a"), (1, "d")):
        table.add(name, created=MADE.replace(day=day))
    assert [key.name for key in table.rows()] == ["d", "a", "b", "c"]


# --- deactivate ------------------------------------------------------------------------------------------------------------------------


def test_deactivating_makes_only_the_named_rows_inactive_and_counts_those_that_were_active(table: Table) -> None:
    first, second, third = table.add("first"), table.add("second"), table.add("third", active=False)
    assert table.deactivate(first, third) == 1
    assert {key.name: key.active for key in table.rows()} == {"first": False, "second": True, "third": False}
    assert replace(table.rows()[0], active=True) == first
    assert table.deactivate(first, second, third) == 1
    assert table.deactivate(first, second, third) == 0
    assert table.deactivate() == 0


def test_deactivating_dates_a_row_where_grafanas_own_command_does(table: Table) -> None:
    key = table.add()
    before = table.updated()
    assert table.deactivate(key) == 1
    assert table.updated() == (before if table.system is System.GRAFANA else "2026-11-25 09:00:01")


def test_more_keys_than_one_statement_takes_are_all_deactivated(table: Table) -> None:
    keys = [table.add(f"key-{number:03}") for number in range(2 * BATCH_KEYS + 1)]
    assert table.deactivate(*keys) == len(keys)
    assert not any(key.active for key in table.rows())


# --- replace ---------------------------------------------------------------------------------------------------------------------------


def test_replacing_sets_the_wrapped_key_its_provider_its_label_and_the_date_and_nothing_else(table: Table) -> None:
    key, other = table.add(active=False), table.add("key-two")
    new = table.rewrapped(key)
    assert table.replace(key, replace(new, active=True, created=LATER))  # `active` and `created` are not what a re-wrap is about
    assert table.rows() == [new, other]
    assert table.updated() == "2026-11-25 09:00:01"
    assert table.updated("key-two") != table.updated()


def test_a_second_identical_replace_finds_the_new_bytes_and_writes_nothing(table: Table) -> None:
    key = table.add()
    new = table.rewrapped(key)
    assert table.replace(key, new)
    table.raw.execute(f"UPDATE {table.name} SET label = 'looked at'")
    assert table.replace(key, new)
    assert table.only().label == "looked at"


@pytest.mark.parametrize("change", ["encrypted_data", "provider"])
def test_a_row_that_was_changed_meanwhile_is_not_replaced(table: Table, change: str) -> None:
    key = table.add()
    theirs: Any = b"re-wrapped by Grafana" if change == "encrypted_data" else "SECRETKEY.V1"
    table.raw.execute(f"UPDATE {table.name} SET {change} = :theirs", theirs=theirs)
    assert not table.replace(key, table.rewrapped(key))
    assert table.only() == replace(key, **{change: theirs})


def test_a_row_that_another_tool_wrapped_by_the_same_provider_is_told_from_our_own_write(table: Table) -> None:
    key = table.add()
    table.raw.execute(f"UPDATE {table.name} SET encrypted_data = :theirs, provider = 'awskms.new'", theirs=REWRAPPED + b".")
    assert not table.replace(key, table.rewrapped(key))


def test_a_row_that_is_gone_is_not_replaced(table: Table) -> None:
    key = table.add()
    table.raw.execute(f"DELETE FROM {table.name}")
    assert not table.replace(key, table.rewrapped(key))
    assert table.rows() == []


def test_replacing_back_restores_every_byte(table: Table) -> None:
    key = table.add()
    new = table.rewrapped(key)
    assert table.replace(key, new)
    assert table.replace(new, key)
    assert table.only() == key


@pytest.mark.parametrize("empty_database", ["mysql", "postgres"], indirect=True)  # SQLite has no limit
def test_a_provider_that_is_too_long_is_refused_and_the_row_is_left(table: Table) -> None:
    key = table.add()
    with pytest.raises(ValueRefused):
        table.replace(key, replace(key, provider="p" * 51, encrypted_data=REWRAPPED))
    assert table.only() == key


def test_one_key_is_never_written_over_another(table: Table) -> None:
    key = table.add()
    with pytest.raises(AssertionError, match="keeps its id"):
        table.replace(key, replace(key, name="key-two"))


# --- delete ----------------------------------------------------------------------------------------------------------------------------


def test_a_deleted_row_is_gone_the_others_stay_and_a_repeated_call_is_told_so(table: Table) -> None:
    key, other = table.add(active=False), table.add("key-two", active=False)
    assert table.delete(key)
    assert table.rows() == [other]
    assert table.delete(key)


@pytest.mark.parametrize("change", ["encrypted_data", "active"])
def test_a_row_that_was_rewrapped_or_activated_meanwhile_is_not_deleted(table: Table, change: str) -> None:
    key = table.add(active=False)
    theirs: Any = b"re-wrapped" if change == "encrypted_data" else True
    table.raw.execute(f"UPDATE {table.name} SET {change} = :theirs", theirs=theirs)
    assert not table.delete(key)
    assert table.only() == replace(key, **{change: theirs})
    assert table.delete(table.only())


# --- ids that a collation takes for each other -------------------------------------------------------------------------------------------

LIKE = [("abcKey", "ABCkey"), ("key", "key "), ("key", "kéy")]


@pytest.mark.parametrize(("stored", "asked"), LIKE, ids=["case", "a trailing space", "an accent"])
def test_an_id_that_only_looks_like_another_is_another(table: Table, stored: str, asked: str) -> None:
    key = table.add(stored)
    other = replace(key, name=asked)
    assert table.deactivate(other) == 0
    assert not table.replace(other, table.rewrapped(other))
    assert table.delete(other), "there is no such row"
    assert table.only() == key
    assert table.replace(key, table.rewrapped(key))
    assert table.delete(table.only())


@pytest.mark.parametrize(("stored", "asked"), LIKE, ids=["case", "a trailing space", "an accent"])
def test_a_namespace_that_only_looks_like_another_is_another(empty_database: EmptyDatabase, stored: str, asked: str) -> None:
    empty_database.execute(DECLARED[System.MANAGER].format(**TYPES[empty_database.engine_name]))
    database = Database(empty_database.settings, read_only=False)
    table = Table(System.MANAGER, empty_database, database)
    key = table.add(scope=stored, active=False)
    other = replace(key, scope=asked)
    assert not table.replace(other, table.rewrapped(other))
    assert table.delete(other)
    assert table.deactivate(replace(other, active=True)) == 0
    assert table.rows() == [key]
    database.close()


# --- what only some databases have -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("empty_database", ["sqlite"], indirect=True)
def test_on_sqlite_a_wrapped_key_that_was_stored_as_text_is_read_and_compared_by_its_bytes(table: Table) -> None:
    wrapped = "*YWVzLWNmYg*text ☃".encode()
    key = table.add(encrypted_data=wrapped)
    table.raw.execute(f"UPDATE {table.name} SET encrypted_data = CAST(encrypted_data AS TEXT)")
    assert table.raw.scalar(f"SELECT typeof(encrypted_data) FROM {table.name}") == "text"
    assert table.only() == key
    new = table.rewrapped(key)
    assert table.replace(key, new)
    assert table.raw.scalar(f"SELECT typeof(encrypted_data) FROM {table.name}") == "blob"
    table.raw.execute(f"UPDATE {table.name} SET encrypted_data = CAST(:text AS TEXT)", text=wrapped)
    assert table.delete(key)
    assert table.rows() == []


def test_a_table_of_grafana_8_has_no_labels_and_is_changed_without(empty_database: EmptyDatabase) -> None:
    declared = DECLARED[System.GRAFANA].replace(",\n        label VARCHAR(100) {label}", "")
    empty_database.execute(declared.format(**TYPES[empty_database.engine_name]))
    database = Database(empty_database.settings, read_only=False)
    table = Table(System.GRAFANA, empty_database, database)
    key = table.add("2021-11-29/root@secretKey", label=None)
    new = replace(key, encrypted_data=REWRAPPED, provider="secretKey.v1")
    assert table.rows() == [key]
    assert table.replace(key, new)
    assert table.rows() == [new]
    assert table.deactivate(new) == 1
    assert table.delete(replace(new, active=False))
    assert not database.has_labels()
    database.close()


def test_a_label_that_is_null_reads_as_an_empty_one(empty_database: EmptyDatabase) -> None:
    """MySQL's table allows it."""
    declared = DECLARED[System.GRAFANA].replace("{label}", "NULL")
    empty_database.execute(declared.format(**TYPES[empty_database.engine_name]))
    database = Database(empty_database.settings, read_only=False)
    table = Table(System.GRAFANA, empty_database, database)
    key = table.add()
    empty_database.execute("UPDATE data_keys SET label = NULL")
    assert table.only() == replace(key, label="")
    database.close()


def test_a_read_only_session_changes_no_key(table: Table) -> None:
    key = table.add()
    reader = Database(table.raw.settings, read_only=True)
    for change in (
        lambda: reader.insert_data_key(replace(key, name="key-two"), table.system),
        lambda: reader.deactivate_data_keys([key], LATER, table.system),
        lambda: reader.replace_data_key(key, table.rewrapped(key), LATER, table.system),
        lambda: reader.delete_data_key(key, table.system),
    ):
        with pytest.raises(DatabaseError):
            change()
    reader.close()
    assert table.only() == key


def test_a_message_of_a_refused_change_holds_no_ciphertext(table: Table) -> None:
    key = table.add(encrypted_data=b"ciphertext-in-no-message")
    with pytest.raises(DatabaseError) as refused:
        table.database.insert_data_key(key, table.system)
    assert "ciphertext" not in f"{refused.value!r} {refused.value}"
