"""Every table of the database with every column that could hold text or bytes, known to this product or not: what a full scan has to read.

A table becomes a column group `everything:<table>`, so that `Database` pages it like any other: by its primary key, or by a unique index over
columns that are never NULL, provided that their values travel as JSON (integers, strings). Where there is neither, the group's primary key is ()
and `Database.stream` reads it. Left out are views, which only show what tables hold, and columns of numbers, dates and truth values.

Whatever is neither text nor bytes (JSON, arrays, enumerations, types of extensions) is read as the text that the database shows for it. A column of
a type that is not known here is read: a reference that is missed costs a secret.

Sources: PostgreSQL manual, chapter "System Catalogs" (pg_class, pg_attribute, pg_type.typcategory, pg_index); MySQL reference manual, chapter
"INFORMATION_SCHEMA Tables" (COLUMNS, STATISTICS); https://www.sqlite.org/pragma.html (table_xinfo, index_list), https://www.sqlite.org/datatype3.html.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from reencrypt.database.dialects import Engine
from reencrypt.database.schema import Column, Schema
from reencrypt.errors import DatabaseError
from reencrypt.grafana.base64_text import Base64
from reencrypt.grafana.plausibility import PlaintextKind
from reencrypt.grafana.secret_columns import ColumnGroup, SecretColumn, Shape

PREFIX = "everything:"

_MYSQL_NUMBERS_AND_DATES = frozenset(
    ("tinyint", "smallint", "mediumint", "int", "bigint", "decimal", "float", "double", "bit", "year", "date", "time", "datetime", "timestamp")
)
_MYSQL_TEXTS = frozenset(("char", "varchar", "tinytext", "text", "mediumtext", "longtext"))
_MYSQL_SHOWN_AS_TEXT = frozenset(("json", "enum", "set", "uuid", "inet4", "inet6"))
_MYSQL_WIDE = frozenset(("ucs2", "utf16", "utf16le", "utf32"))  # ASCII is not one byte each: read in UTF-8
_MYSQL_KEYS = frozenset(("tinyint", "smallint", "mediumint", "int", "bigint", "char", "varchar"))
# pg_type.typcategory: boolean, date/time, interval, number, bit string, geometry, network address
_POSTGRESQL_OTHER_CATEGORIES = frozenset("BDTNVGI")
_POSTGRESQL_TEXTS = frozenset(("text", "varchar", "bpchar"))
_POSTGRESQL_KEYS = frozenset(("int2", "int4", "int8", "text", "varchar", "bpchar"))
# SQLite stores anything in any column; these are the declarations that mean no text (xorm declares INTEGER, REAL, DATETIME, BOOLEAN).
_SQLITE_NUMBERS_AND_DATES = re.compile(
    r"(unsigned +)?((tiny|small|medium|big)? *int(eger)?\d?|real|float|double( precision)?|numeric|decimal|bool(ean)?|date|time|datetime|timestamp)"
    r"( *\([\d, ]*\))?( +unsigned)?",
    re.IGNORECASE,
)
_SQLITE_KEYS = re.compile(r"(tiny|small|medium|big)?int(eger)?\d?|text|(n|var|nvar)?char( *\(\d+\))?", re.IGNORECASE)
_SQLITE_ROWIDS = ("rowid", "_rowid_", "oid")
_SQLITE_WITHOUT_ROWID = re.compile(r"\bwithout\s+rowid\b[^()]*$", re.IGNORECASE)


@dataclass(frozen=True)
class Table:
    """A table to read. `row_id` is what a table is paged by within one call where its group has no primary key (SQLite only)."""

    group: ColumnGroup
    columns: Mapping[str, Column]
    row_id: tuple[str, ...] = ()

    @property
    def schema(self) -> Schema:
        """For the statements over the group."""
        return Schema({self.group.table: self.columns})


@dataclass(frozen=True)
class _Index:
    """A unique index or primary key; a part that is no plain column is None."""

    primary: bool
    columns: tuple[str | None, ...]


Ask = Callable[[str, Sequence[object]], Iterable[Sequence[Any]]]


def is_everything(group: ColumnGroup) -> bool:
    """Whether `group` is one of this module's."""
    return group.id.startswith(PREFIX)


def every_table(connection: sa.Connection, tables: Collection[str] = ()) -> dict[str, Table]:
    """Every table that has something to read, by name in alphabetical order; only those of `tables` if any are named.

    A few queries however many tables there are. Raises DatabaseError for a table of which not everything may be read.
    """
    read = {Engine.SQLITE: _sqlite, Engine.MYSQL: _mysql, Engine.POSTGRESQL: _postgresql}[Engine(connection.dialect.name)]
    found = read(lambda text, parameters: connection.exec_driver_sql(text, tuple(parameters)), tuple(tables))
    return {table.group.table: table for table in sorted(found, key=lambda table: table.group.table) if table.columns}


def _table(name: str, columns: Iterable[Column], indexes: Iterable[_Index], usable: Collection[str], row_id: tuple[str, ...] = ()) -> Table:
    """A table whose key is the first index, the primary key before others and short ones before long ones, all of whose columns are `usable`."""
    ordered = sorted(indexes, key=lambda index: (not index.primary, len(index.columns)))
    key = next((tuple(map(str, index.columns)) for index in ordered if all(part in usable for part in index.columns)), ())
    by_name = {column.name: column for column in columns}
    members = tuple(SecretColumn(f"{PREFIX}{name}.{column}", name, key, column, Shape.RAW, Base64.NONE, PlaintextKind.TEXT) for column in by_name)
    return Table(ColumnGroup(PREFIX + name, name, key, (), members), by_name, () if key else row_id)


def _marks(mark: str, values: Sequence[object]) -> str:
    return ", ".join([mark] * len(values))


def _by_table(rows: Iterable[Sequence[Any]]) -> dict[str, list[Sequence[Any]]]:
    found: dict[str, list[Sequence[Any]]] = {}
    for row in rows:
        found.setdefault(row[0], []).append(row[1:])
    return found


def _indexes(rows: Iterable[Sequence[Any]]) -> list[_Index]:
    """From (index, whether it is primary, column or None) in the order of the index."""
    found: dict[object, tuple[bool, list[str | None]]] = {}
    for index, primary, column in rows:
        found.setdefault(index, (bool(primary), []))[1].append(column)
    return [_Index(primary, tuple(columns)) for primary, columns in found.values()]


def _sqlite(ask: Ask, tables: tuple[str, ...]) -> list[Table]:
    only = f" AND name IN ({_marks('?', tables)})" if tables else ""
    # A virtual table keeps its content in tables of its own, which stand beside it.
    where = f"type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' AND sql NOT LIKE 'CREATE VIRTUAL %'{only}"
    source = f"(SELECT name, sql FROM sqlite_master WHERE {where}) m"  # noqa: S608
    parts = 'm.name, m.sql, x.name, x.type, x."notnull", x.pk'
    columns = _by_table(ask(f"SELECT {parts} FROM {source} JOIN pragma_table_xinfo(m.name) x WHERE x.hidden <> 1", tables))  # noqa: S608
    unique = "x.\"unique\" AND NOT x.partial AND x.origin <> 'pk'"
    indexes = _by_table(
        ask(
            f"SELECT m.name, x.name, 0, i.name FROM {source} JOIN pragma_index_list(m.name) x JOIN pragma_index_info(x.name) i WHERE {unique}"  # noqa: S608
            " ORDER BY x.name, i.seqno", tables,
        )
    )  # fmt: skip
    found = []
    for name, rows in columns.items():
        key = [column for _, column, _, _, position in sorted(rows, key=lambda row: int(row[4])) if position]
        bare = bool(_SQLITE_WITHOUT_ROWID.search(rows[0][0]))
        # An INTEGER PRIMARY KEY is the row's own number; any other primary key may be NULL unless it is declared otherwise.
        usable = {
            column for _, column, declared, filled, position in rows
            if _SQLITE_KEYS.fullmatch(declared) and (filled or (position and (bare or (declared.upper() == "INTEGER" and len(key) == 1))))
        }  # fmt: skip
        taken = {str(row[1]).lower() for row in rows}
        row_id = tuple(key) if bare else tuple(alias for alias in _SQLITE_ROWIDS if alias not in taken)[:1]
        read = [Column(row[1], is_blob=False, is_text=False, capacity=None) for row in rows if not _SQLITE_NUMBERS_AND_DATES.fullmatch(row[2])]
        found.append(_table(name, read, [_Index(True, tuple(key))] * bool(key) + _indexes(indexes.get(name, ())), usable, row_id))
    return found


def _mysql(ask: Ask, tables: tuple[str, ...]) -> list[Table]:
    only = f" AND c.table_name IN ({_marks('%s', tables)})" if tables else ""
    columns = _by_table(
        ask(
            "SELECT c.table_name, c.column_name, c.data_type, c.character_set_name, c.is_nullable"  # noqa: S608
            " FROM information_schema.columns c JOIN information_schema.tables t ON t.table_schema = c.table_schema AND t.table_name = c.table_name"
            f" WHERE c.table_schema = DATABASE() AND t.table_type IN ('BASE TABLE', 'SYSTEM VERSIONED'){only}"
            " ORDER BY c.table_name, c.ordinal_position",
            tables,
        )
    )
    indexes = _by_table(
        ask(
            "SELECT c.table_name, c.index_name, c.index_name = 'PRIMARY', CASE WHEN c.sub_part IS NULL THEN c.column_name END"  # noqa: S608
            f" FROM information_schema.statistics c WHERE c.table_schema = DATABASE() AND c.non_unique = 0{only}"
            " ORDER BY c.table_name, c.index_name, c.seq_in_index", tables,
        )
    )  # fmt: skip
    found = []
    for name, rows in columns.items():
        read = [_mysql_column(column, kind, charset) for column, kind, charset, _ in rows if kind not in _MYSQL_NUMBERS_AND_DATES]
        usable = {column for column, kind, _, nullable in rows if kind in _MYSQL_KEYS and nullable == "NO"}
        found.append(_table(name, read, _indexes(indexes.get(name, ())), usable))
    return found


def _mysql_column(name: str, kind: str, charset: str | None) -> Column:
    is_other = kind in _MYSQL_SHOWN_AS_TEXT or charset in _MYSQL_WIDE
    is_text = kind in _MYSQL_TEXTS and not is_other
    return Column(name, is_blob=not (is_text or is_other), is_text=is_text, capacity=None, is_other=is_other)


def _postgresql(ask: Ask, tables: tuple[str, ...]) -> list[Table]:
    """Tables of the first schema of the search path, where Grafana makes its own. A partition is read with the table that it is part of."""
    only = f" AND c.relname IN ({_marks('%s', tables)})" if tables else ""
    source = "pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = current_schema()"
    part = "EXISTS (SELECT FROM pg_inherits h JOIN pg_class p ON p.oid = h.inhparent WHERE h.inhrelid = c.oid AND p.relnamespace = c.relnamespace)"
    where = f"c.relkind IN ('r', 'p') AND NOT (c.relispartition AND {part}){only}"
    columns = _by_table(
        ask(
            "SELECT c.relname, a.attname, t.typname, CASE WHEN t.typcategory = 'A' THEN COALESCE(e.typcategory, 'X') ELSE t.typcategory END,"  # noqa: S608
            " a.attnotnull, has_column_privilege(c.oid, a.attnum, 'SELECT'), row_security_active(c.oid)"
            f" FROM {source} JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped"
            f" JOIN pg_type t ON t.oid = a.atttypid LEFT JOIN pg_type e ON e.oid = t.typelem WHERE {where} ORDER BY c.relname, a.attnum",
            tables,
        )
    )
    indexes = _by_table(
        ask(
            f"SELECT c.relname, i.indexrelid, i.indisprimary, a.attname FROM {source} JOIN pg_index i ON i.indrelid = c.oid"  # noqa: S608
            " CROSS JOIN LATERAL unnest(i.indkey) WITH ORDINALITY k(number, position)"
            " LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.number AND a.attnum > 0"
            f" WHERE i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL AND k.position <= i.indnkeyatts AND {where}"
            " ORDER BY c.relname, i.indexrelid, k.position", tables,
        )
    )  # fmt: skip
    found = []
    for name, rows in columns.items():
        read = [row for row in rows if row[2] not in _POSTGRESQL_OTHER_CATEGORIES]
        _must_be_readable(name, read)
        usable = {column for column, kind, _, filled, allowed, _ in rows if kind in _POSTGRESQL_KEYS and filled and allowed}
        found.append(_table(name, [_postgresql_column(column, kind) for column, kind, *_ in read], _indexes(indexes.get(name, ())), usable))
    return found


def _postgresql_column(name: str, kind: str) -> Column:
    is_text, is_blob = kind in _POSTGRESQL_TEXTS, kind == "bytea"
    return Column(name, is_blob, is_text, capacity=None, is_other=not (is_text or is_blob))


def _must_be_readable(table: str, rows: Iterable[Sequence[Any]]) -> None:
    for column, _, _, _, allowed, hidden in rows:
        if not allowed:
            raise DatabaseError(
                f"the user may not read {column} of the table {table}: a full scan needs SELECT on every table of the database, since one that"
                " cannot be read could hold values under a data key"
            )
        if hidden:
            raise DatabaseError(
                f"row-level security hides rows of the table {table} from the user: a full scan needs every row, since one that cannot be read"
                " could hold a value under a data key; use the table's owner or a role with BYPASSRLS"
            )
