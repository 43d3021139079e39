"""Grafana's database, as operations see it: pages of rows, compare-and-swap, and (`data_keys.py`) the tables of data keys.

Transactions are short: no lock is held while a key is derived. A locked or deadlocked statement is given back at once and tried again after
a pause, so that a live Grafana never waits for this product.
"""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import cached_property
from typing import Any, TypeVar

import sqlalchemy as sa

from reencrypt.database import connect, load, remote_cache, schema, stream
from reencrypt.database.data_keys import DataKeys
from reencrypt.database.dialects import DIALECTS, Dialect, Engine
from reencrypt.database.everything import Table, every_table, is_everything
from reencrypt.database.failures import translated
from reencrypt.database.load import Connections
from reencrypt.database.login import Login, log_in_with
from reencrypt.database.pace import Pace
from reencrypt.database.schema import Column, Schema
from reencrypt.database.statements import Key, Statements
from reencrypt.errors import DatabaseBusy, DatabaseError, ValueRefused
from reencrypt.grafana.secret_columns import ALL_SYSTEMS, ColumnGroup, groups, secret_columns
from reencrypt.grafana.settings import DatabaseSettings

T = TypeVar("T")

BATCH_BYTES = 1 << 20
BUSY_ATTEMPTS = 60
BUSY_SECONDS = 30
_PAUSE_SECONDS = (0.01, 0.5)  # the first pause after a locked statement, and the longest
_PACKET_MARGIN = 4096
_ESCAPED = b"\0\n\r\x1a\"'\\"


@dataclass(frozen=True, slots=True)
class Row:
    """A row as it was read: the stored bytes of each column of the group (None: NULL), on SQLite with their storage classes."""

    key: Key
    values: tuple[bytes | None, ...] = field(repr=False)
    classes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Window:
    """The next stretch of a key range: a page ends at `through` (None: at the end of the range), and has `size` bytes."""

    through: Key | None
    rows: int
    last: bool
    size: int = 0


@dataclass(frozen=True, slots=True)
class Swap:
    """New bytes for some columns of a row that was read; the keys of `new` are indexes into the group's columns."""

    row: Row
    new: dict[int, bytes] = field(repr=False)


class Swapped(Enum):
    """What became of a swap."""

    WRITTEN = "written"
    MISSED = "the row is not as it was read"
    REFUSED = "the server refuses the value"


class Database(DataKeys):
    """One database. Raises DatabaseUnavailable, DatabaseBusy (after many tries) or DatabaseError from every method."""

    def __init__(self, settings: DatabaseSettings, *, read_only: bool, sleep: Callable[[float], None] = time.sleep, login: Login | None = None) -> None:
        self._engine = connect.create_engine(settings, read_only=read_only)
        if login:
            log_in_with(self._engine, login)
        self._sleep = sleep
        self.engine = Engine(self._engine.dialect.name)
        self.dialect: Dialect = DIALECTS[self.engine]
        self._declared: dict[str, Mapping[str, Column] | None] = {}
        self._everything: dict[str, Table | None] = {}
        self._has_everything = False
        self._pace = Pace.of(self.engine)

    def close(self) -> None:
        """Gives every connection back."""
        self._engine.dispose()

    def schema(self, tables: Iterable[str]) -> Schema:
        """`tables` as this database declares them; each is asked for once, since that takes longer than reading a page of it."""
        wanted = list(tables)
        if missing := [table for table in wanted if table not in self._declared]:
            found = self._patiently("reading the schema", lambda connection: schema.inspect(connection, missing))
            self._declared.update({table: found.tables.get(table) for table in missing})
        return Schema({table: columns for table in wanted if (columns := self._declared[table]) is not None})

    def groups(self, tables: Iterable[str] = ()) -> tuple[ColumnGroup, ...]:
        """The column groups that this database has, only those of `tables` if any are named."""
        wanted = set(tables)
        chosen = [group for group in groups(secret_columns(*ALL_SYSTEMS)) if not wanted or group.table in wanted]
        declared = self.schema(group.table for group in chosen)
        present = (declared.present(group) for group in chosen)
        return tuple(group for group in present if group)

    def everything(self, tables: Iterable[str] = ()) -> tuple[ColumnGroup, ...]:
        """Every table of the database with every column that may hold text or bytes, only `tables` if any are named; looked up once.

        Raises DatabaseError for a table that may not be read.
        """
        wanted = list(dict.fromkeys(tables))
        missing = [table for table in wanted if table not in self._everything]
        if missing or not (wanted or self._has_everything):
            found = self._patiently("reading the schema", lambda connection: every_table(connection, missing))
            self._everything.update({**dict.fromkeys(missing), **found})
            self._has_everything |= not wanted
        return tuple(table.group for name in wanted or sorted(self._everything) if (table := self._everything[name]) is not None)

    def stream(self, group: ColumnGroup) -> Iterator[list[Row]]:
        """Every row of a group of `everything` that has no primary key, in batches bounded as pages are; the rows have no key either.

        Rows that change meanwhile may be as they were or as they become. SQLite, where a reader bars writers, is read by pages all the same.
        """
        if self.engine is Engine.SQLITE:
            yield from self._pages(replace(group, primary_key=self._table(group).row_id))
            return
        read = stream.mysql if self.engine is Engine.MYSQL else stream.postgresql
        statements = self._statements(group)
        with translated(f"reading {group.table}"), self._engine.connect() as connection:
            for rows in read(connection, statements):
                yield self._rows(group, rows)

    def _pages(self, group: ColumnGroup) -> Iterator[list[Row]]:
        after: Key | None = None
        last = False
        while not last:
            window = self.window(group, after, None, stream.ROWS, stream.BYTES)
            if window.rows:
                yield [replace(row, key=()) for row in self.page(group, after, window.through)]
            after, last = window.through, window.last

    def _table(self, group: ColumnGroup) -> Table:
        self.everything([group.table])
        if (table := self._everything[group.table]) is None:
            raise DatabaseError(f"the table {group.table} is gone: start again")
        return table

    def version(self) -> str:
        """The server's own name and version, for the report."""
        statement = {
            Engine.SQLITE: "SELECT 'SQLite ' || sqlite_version()",
            Engine.MYSQL: "SELECT VERSION()",
            Engine.POSTGRESQL: "SHOW server_version",
        }
        text = str(self._patiently("asking the server's version", lambda connection: connection.exec_driver_sql(statement[self.engine]).scalar()))
        if self.engine is Engine.MYSQL:
            return f"MariaDB {text.partition('-')[0]}" if "mariadb" in text.lower() else f"MySQL {text}"
        return f"PostgreSQL {text.partition(' ')[0]}" if self.engine is Engine.POSTGRESQL else text

    def window(self, group: ColumnGroup, after: Key | None, through: Key | None, rows: int, size: int, without: Sequence[Key] = ()) -> Window:
        """The next stretch of at most `rows` rows and `size` bytes (one row at least) of the range after < key <= through.

        Rows of the keys in `without` are passed over; no value is read.
        """
        found = self._all(f"reading {group.table}", *self._statements(group).window(after, through, rows, without))
        total = 0
        for number, row in enumerate(found):
            if total + row[-1] > size and number:
                return Window(tuple(found[number - 1][:-1]), number, last=False, size=total)
            total += row[-1]
        last = len(found) < rows
        return Window(through if last else tuple(found[-1][:-1]), len(found), last, total)

    def tail(self, group: ColumnGroup, rows: int) -> Key | None:
        """The key after which the last `rows` rows stand; None where there are not more than those."""
        found = self._all(f"reading {group.table}", *self._statements(group).tail(rows + 1))
        return tuple(found[-1]) if len(found) > rows else None

    def page(self, group: ColumnGroup, after: Key | None, through: Key | None, without: Sequence[Key] = ()) -> list[Row]:
        """Every row of the range after < key <= through but those of the keys in `without`."""
        return self._rows(group, self._all(f"reading {group.table}", *self._statements(group).page(after, through, without)))

    def presence(self, group: ColumnGroup, key: Key) -> tuple[bool, ...]:
        """For each column of the group whether the row holds something there; none of it is read. All False where the row is gone."""
        found = self._all(f"reading {group.table}", *self._statements(group).presence(key))
        return tuple(map(bool, found[0])) if found else (False,) * len(group.columns)

    def compare_and_swap(self, group: ColumnGroup, swaps: Sequence[Swap]) -> list[Swapped]:
        """Writes each swap whose row still holds, byte for byte, what was read; tells what became of each, in order.

        Rows are written by the batch, and a batch in one short transaction; where the server refuses a batch, its rows are tried one by one.
        """
        results = [Swapped.MISSED] * len(swaps)
        by_columns: dict[tuple[int, ...], list[int]] = {}
        for number, swap in enumerate(swaps):
            by_columns.setdefault(tuple(sorted(swap.new)), []).append(number)
        for columns, numbers in by_columns.items():
            for batch in _batches(numbers, swaps, self._pace):
                for number, result in zip(batch, self._swap_batch(group, columns, [swaps[number] for number in batch]), strict=True):
                    results[number] = result
        return results

    def row(self, group: ColumnGroup, key: Key) -> Row | None:
        """The row of `key` as it is now, or None where it is gone."""
        rows = self._rows(group, self._all(f"reading {group.table}", *self._statements(group).row(key)))
        return rows[0] if rows else None

    def dispose(self, table: str, column: str, key_ids: Iterable[str]) -> int:
        """Deletes the rows of the remote cache whose value is a payload under one of the data keys; returns how many."""
        is_blob = self.schema([table]).tables[table][column].is_blob
        statements = remote_cache.delete_under(self.dialect, table, column, is_blob, key_ids)
        return sum(self._change(f"deleting cached rows of {table}", statement) for statement in statements)

    def connections(self) -> Connections | None:
        """How many connections the server allows and has; None for SQLite, which has no server."""
        return load.connections(self.engine, self._all)

    def running(self) -> int:
        """How many other sessions are at work on the server right now, as far as this account may see; 0 for SQLite."""
        return load.running(self.engine, self._all)

    def can_send(self, table: str, column: str, value: bytes) -> bool:
        """Whether a statement that carries `value` fits into what the server takes (MySQL's max_allowed_packet).

        PyMySQL writes bytes as hexadecimal digits and texts with backslashes into the statement.
        """
        if self._packet is None:
            return True
        if self.schema([table]).tables[table][column].is_blob:
            return len(value) * 2 <= self._packet
        return len(value) * 2 <= self._packet or len(value) + sum(value.count(bytes((code,))) for code in _ESCAPED) <= self._packet

    @cached_property
    def _packet(self) -> int | None:
        if self.engine is not Engine.MYSQL:
            return None
        return int(self._all("asking max_allowed_packet", "SELECT @@max_allowed_packet", [])[0][0]) - _PACKET_MARGIN

    def _swap_batch(self, group: ColumnGroup, columns: tuple[int, ...], swaps: list[Swap]) -> list[Swapped]:
        rows = [
            (
                swap.row.key,
                [_stored(swap.row, i) for i in columns],
                [swap.new[i] for i in columns],
                [swap.row.classes[i] for i in columns] if swap.row.classes else (),
            )
            for swap in swaps
        ]
        statements = self._statements(group)
        # SQLite has no round trips to save, and tells row by row who was written.
        pieces = [[row] for row in rows] if self.engine is Engine.SQLITE else [rows]

        def write(connection: sa.Connection) -> list[int]:
            prepared = [statements.swap(columns, piece) for piece in pieces]
            began = time.perf_counter()
            with self._transaction(connection):
                counts = [connection.exec_driver_sql(text, tuple(parameters)).rowcount for text, parameters in prepared]
            self._pace.took(time.perf_counter() - began, len(rows))
            return counts

        try:
            matched = self._patiently(f"writing {group.table}", write, self._pace.collided)
        except ValueRefused:
            if len(swaps) == 1:
                return [Swapped.REFUSED]
            return [result for swap in swaps for result in self._swap_batch(group, columns, [swap])]
        if self.engine is Engine.SQLITE:
            return [Swapped.WRITTEN if count else Swapped.MISSED for count in matched]
        if matched == [len(swaps)]:
            return [Swapped.WRITTEN] * len(swaps)
        return [Swapped.WRITTEN if self._holds(group, swap) else Swapped.MISSED for swap in swaps]

    def _holds(self, group: ColumnGroup, swap: Swap) -> bool:
        """Whether the row holds the new bytes. IVs are random, so nobody else can have written them."""
        row = self.row(group, swap.row.key)
        return row is not None and all(row.values[index] == new for index, new in swap.new.items())

    def _statements(self, group: ColumnGroup) -> Statements:
        declared = self._table(group).schema if is_everything(group) else self.schema([group.table])
        return Statements(group, declared, self.dialect)

    def _rows(self, group: ColumnGroup, found: Iterable[Sequence[Any]]) -> list[Row]:
        keys, columns = len(group.primary_key), len(group.columns)
        return [
            Row(
                tuple(row[:keys]),
                tuple(None if value is None else bytes(value) for value in row[keys : keys + columns]),
                tuple(row[keys + columns :]),
            )
            for row in found
        ]

    def _all(self, doing: str, text: str, parameters: Sequence[object]) -> Sequence[Sequence[Any]]:
        return self._patiently(doing, lambda connection: connection.exec_driver_sql(text, tuple(parameters)).fetchall())

    def _patiently(self, doing: str, action: Callable[[sa.Connection], T], on_conflict: Callable[[], None] = lambda: None) -> T:
        """Runs `action` on a connection of its own; after a lock conflict again, with every lock given back and a pause.

        Half a minute at most: a worker must be able to end before its deadline, and the state machine tries again later.
        """
        pause, longest = _PAUSE_SECONDS
        began = time.monotonic()
        for attempt in range(BUSY_ATTEMPTS):
            try:
                with translated(doing), self._engine.connect() as connection:
                    return action(connection)
            except DatabaseBusy:
                if attempt == BUSY_ATTEMPTS - 1 or time.monotonic() - began > BUSY_SECONDS:
                    raise
                on_conflict()
            self._sleep(random.uniform(pause / 2, pause))  # noqa: S311  (jitter, not a secret)
            pause = min(pause * 1.5, longest)
        raise AssertionError("unreachable")

    @contextmanager
    def _transaction(self, connection: sa.Connection) -> Iterator[None]:
        """A write transaction; on SQLite one that takes the write lock at once, so that it cannot deadlock on the way."""
        if self.engine is not Engine.SQLITE:
            with connection.begin():
                yield
            return
        raw: Any = connection.connection.dbapi_connection  # now: afterwards SQLAlchemy may have given the connection up
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        try:
            yield
            connection.exec_driver_sql("COMMIT")
        except BaseException:
            with suppress(sqlite3.ProgrammingError):  # whoever was interrupted within a statement has no connection any more, and nothing to roll back
                raw.rollback()
            raise


def _stored(row: Row, index: int) -> bytes:
    value = row.values[index]
    if value is None:
        raise AssertionError("a NULL holds no secret and is never written")
    return value


def _batches(numbers: Sequence[int], swaps: Sequence[Swap], pace: Pace) -> Iterator[list[int]]:
    """`numbers` in batches bounded by rows and by bytes, so that a statement stays small; one large row is a batch of its own.

    How many rows that are follows `pace`, which each batch moves.
    """
    batch: list[int] = []
    size = 0
    for number in numbers:
        swap = swaps[number]
        needed = sum(len(new) + len(swap.row.values[index] or b"") for index, new in swap.new.items())
        if batch and (len(batch) >= pace.rows or size + needed > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(number)
        size += needed
    if batch:
        yield batch
