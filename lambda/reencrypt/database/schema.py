"""What this database really has: which secret columns are present, and how much each can hold.

Versions of Grafana differ in tables, columns and sizes, so nothing is assumed: a column that is absent is reported as absent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql

from reencrypt.database.dialects import Engine
from reencrypt.grafana.secret_columns import ColumnGroup, SecretColumn, Shape

# Bytes that MySQL's types hold when they name no length of their own (MySQL reference manual, 11.7 Data type storage requirements).
_MYSQL_CAPACITY: Mapping[type[sa.types.TypeEngine[Any]], int] = {
    mysql.TINYTEXT: 2**8 - 1, mysql.TEXT: 2**16 - 1, mysql.MEDIUMTEXT: 2**24 - 1, mysql.LONGTEXT: 2**32 - 1,
    mysql.TINYBLOB: 2**8 - 1, sa.types.BLOB: 2**16 - 1, mysql.MEDIUMBLOB: 2**24 - 1, mysql.LONGBLOB: 2**32 - 1,
}  # fmt: skip


@dataclass(frozen=True)
class Column:
    """A column as the database declares it. `capacity` is in bytes, or in characters for VARCHAR; None where there is no limit.

    `is_other`: neither text nor bytes, so that what is read is the text that the database shows for it; never written.
    """

    name: str
    is_blob: bool
    is_text: bool
    capacity: int | None
    is_other: bool = False


@dataclass(frozen=True)
class Schema:
    """The tables of interest with their columns, by name."""

    tables: Mapping[str, Mapping[str, Column]]

    def has(self, column: SecretColumn) -> bool:
        """Whether this database has the secret column, its primary key, the column of its namespace and the columns of its condition."""
        present = self.tables.get(column.table, {})
        needed = (column.column, *column.primary_key, *filter(None, [column.scope_column]), *(name for name, _ in column.where))
        return all(name in present for name in needed)

    def present(self, group: ColumnGroup) -> ColumnGroup | None:
        """`group` without the columns that are absent; None where nothing is left."""
        columns = tuple(column for column in group.columns if self.has(column))
        secrets = any(column.shape is not Shape.KEY_ID for column in columns)
        return ColumnGroup(group.id, group.table, group.primary_key, group.where, columns) if secrets else None

    def fits(self, table: str, column: str, value: bytes) -> bool:
        """Whether `value` fits the column. Payloads are ASCII where they are text, so bytes are characters or more."""
        capacity = self.tables[table][column].capacity
        return capacity is None or len(value) <= capacity


def inspect(connection: sa.Connection, tables: Iterable[str]) -> Schema:
    """Reads the declarations of those of `tables` that exist."""
    inspector = sa.inspect(connection)
    engine = Engine(connection.dialect.name)
    existing = set(inspector.get_table_names())
    return Schema({
        table: {entry["name"]: _column(engine, entry["name"], entry["type"]) for entry in inspector.get_columns(table)}
        for table in dict.fromkeys(tables)
        if table in existing
    })  # fmt: skip


def _column(engine: Engine, name: str, declared: sa.types.TypeEngine[Any]) -> Column:
    is_blob = isinstance(declared, sa.types._Binary)
    length = getattr(declared, "length", None)
    capacity = None
    if engine is not Engine.SQLITE:  # SQLite enforces no length
        capacity = length or (_MYSQL_CAPACITY.get(type(declared)) if engine is Engine.MYSQL else None)
    return Column(name, is_blob, isinstance(declared, sa.types.String), capacity)
