"""The SQL text of a column group, for one engine: read a window of keys, read a page, compare-and-swap rows.

Statements are text because a batch of 200 rows is one statement with a thousand parameters, which an expression tree would take longer to
build than the server to run. Identifiers are quoted, values are always parameters.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from reencrypt.database.dialects import Dialect, Engine
from reencrypt.database.schema import Schema
from reencrypt.grafana.secret_columns import ColumnGroup

Key = tuple[object, ...]
# (key, old bytes, new bytes, storage classes), the latter three by position in the columns that are swapped
SwapRow = tuple[Key, Sequence[bytes], Sequence[bytes], Sequence[str]]
# From here on MySQL compares an old value by its SHA-256, so that a statement carries a large value once and not twice.
HASHED_BYTES = 64 * 1024


@dataclass(frozen=True)
class Statements:
    """Statements over `group`, whose columns are all present in `schema`."""

    group: ColumnGroup
    schema: Schema
    dialect: Dialect

    def window(self, after: Key | None, through: Key | None, rows: int, without: Sequence[Key] = ()) -> tuple[str, list[object]]:
        """The keys of the next `rows` rows, but those of `without`, with the size in bytes of what a page would read of each."""
        condition, parameters = self._range(after, through, without)
        return f"SELECT {self._keys}, {self._sizes} FROM {self._table}{condition} ORDER BY {self._keys} LIMIT {int(rows)}", parameters  # noqa: S608

    def tail(self, rows: int) -> tuple[str, list[object]]:
        """The keys of the last `rows` rows, last first."""
        condition, parameters = self._range(None, None)
        order = ", ".join(f"{self.dialect.quoted(name)} DESC" for name in self.group.primary_key)
        return f"SELECT {self._keys} FROM {self._table}{condition} ORDER BY {order} LIMIT {int(rows)}", parameters  # noqa: S608

    def page(self, after: Key | None, through: Key | None, without: Sequence[Key] = ()) -> tuple[str, list[object]]:
        """Keys and bytes of every row in the range but those of `without`; on SQLite the storage classes behind them."""
        condition, parameters = self._range(after, through, without)
        return f"SELECT {self._selected} FROM {self._table}{condition} ORDER BY {self._keys}", parameters  # noqa: S608

    def everything(self) -> tuple[str, list[object]]:
        """Bytes of every row, in any order; for a group without a key."""
        condition, parameters = self._range(None, None)
        return f"SELECT {', '.join(self._values)} FROM {self._table}{condition}", parameters  # noqa: S608

    def places(self, inline_bytes: int) -> tuple[str, list[object]]:
        """PostgreSQL: for each row (table, place, whether it is small, bytes), with NULL for the bytes of a row above `inline_bytes`."""
        condition, parameters = self._range(None, None)
        small = f"reencrypt_bytes <= {int(inline_bytes)}"
        values = [f"CASE WHEN {small} THEN {value} END" for value in self._values]
        source = f"{self._table}, LATERAL (SELECT {self._sizes}) AS reencrypt_size(reencrypt_bytes)"
        return f"SELECT tableoid::bigint, ctid::text, {small}, {', '.join(values)} FROM {source}{condition}", parameters  # noqa: S608

    def at_place(self, table: int, place: str) -> tuple[str, list[object]]:
        """PostgreSQL: as `everything`, for the row at `place`, as long as the snapshot in which the place was read."""
        return f"SELECT {', '.join(self._values)} FROM {self._table} WHERE ctid = %s::tid AND tableoid = %s::oid", [place, table]  # noqa: S608

    def row(self, key: Key) -> tuple[str, list[object]]:
        """As `page`, for one key."""
        condition, parameters = self._key_is(key)
        return f"SELECT {self._selected} FROM {self._table} WHERE {condition}", parameters  # noqa: S608

    def presence(self, key: Key) -> tuple[str, list[object]]:
        """Which columns of the row hold something, without reading it."""
        present = ", ".join(f"{self.dialect.quoted(column.column)} IS NOT NULL" for column in self.group.columns)
        condition, parameters = self._key_is(key)
        return f"SELECT {present} FROM {self._table} WHERE {condition}", parameters  # noqa: S608

    def swap(self, columns: Sequence[int], rows: Sequence[SwapRow]) -> tuple[str, list[object]]:
        """Puts new bytes where the old ones still are: (key, old, new, storage classes) for each row, by index into the group's columns.

        One statement for all rows; whoever is not as it was read is left alone, and missing in the count of matched rows.
        """
        if self.dialect.engine is Engine.POSTGRESQL:
            return self._swap_joined(columns, rows)
        return self._swap_cases(columns, rows)

    def _swap_joined(self, columns: Sequence[int], rows: Sequence[SwapRow]) -> tuple[str, list[object]]:
        """PostgreSQL: a join with the new rows, which it hashes; a long OR takes it longer to plan than to do."""
        marks: list[str] = []
        parameters: list[object] = []
        for key, old, new, _ in rows:
            mark = [f"{self.dialect.mark}::{'bigint' if isinstance(part, int) else 'text'}" for part in key]
            parameters += key
            for position, index in enumerate(columns):
                is_blob = self._is_blob(self.group.columns[index].column)
                mark += [f"{self.dialect.mark}::bytea", f"{self.dialect.mark}::{'bytea' if is_blob else 'text'}"]
                parameters += [old[position], self._new_value(index, new[position])]
            marks.append(f"({', '.join(mark)})")
        names = [f"k{number}" for number in range(len(self.group.primary_key))] + [f"{part}{position}" for position in range(len(columns)) for part in "on"]
        targets = [self.group.columns[index].column for index in columns]
        assignments = ", ".join([*(f"{self.dialect.quoted(name)} = v.n{position}" for position, name in enumerate(targets)), *self._bumps(columns)])
        conditions = [f"{self.dialect.quoted(name)} = v.k{number}" for number, name in enumerate(self.group.primary_key)]
        conditions += [f"{self.dialect.as_bytes(name, self._is_blob(name))} = v.o{position}" for position, name in enumerate(targets)]
        values = f"(VALUES {', '.join(marks)}) AS v({', '.join(names)})"
        return f"UPDATE {self._table} SET {assignments} FROM {values} WHERE {' AND '.join(conditions)}", parameters  # noqa: S608

    def _swap_cases(self, columns: Sequence[int], rows: Sequence[SwapRow]) -> tuple[str, list[object]]:
        """MySQL and SQLite: the row's new bytes by its key, for rows whose key and old bytes are given."""
        assignments, set_parameters = [], []
        for position, index in enumerate(columns):
            name = self.group.columns[index].column
            cases = []
            for key, _, new, classes in rows:
                condition, parameters = self._key_is(key)
                cases.append(f"WHEN {condition} THEN {self._new_mark(index, classes[position] if classes else '')}")
                set_parameters += [*parameters, self._new_value(index, new[position])]
            assignments.append(f"{self.dialect.quoted(name)} = CASE {' '.join(cases)} END")
        assignments += self._bumps(columns)
        conditions, where_parameters = [], []
        for key, old, _, classes in rows:
            condition, parameters = self._key_is(key)
            where_parameters += parameters
            for position, index in enumerate(columns):
                same, value = self._still(index, old[position])
                condition += f" AND {same}"
                where_parameters.append(value)
                if classes:
                    condition += f" AND {self.dialect.storage_class.format(c=self.dialect.quoted(self.group.columns[index].column))} = {self.dialect.mark}"
                    where_parameters.append(classes[position])
            conditions.append(f"({condition})")
        return f"UPDATE {self._table} SET {', '.join(assignments)} WHERE {' OR '.join(conditions)}", [*set_parameters, *where_parameters]  # noqa: S608

    def _bumps(self, columns: Sequence[int]) -> list[str]:
        """Assignments of the time, in unix seconds, to the columns that tell when a value was last written."""
        names = dict.fromkeys(bump for index in columns if (bump := self.group.columns[index].bump) is not None)
        return [f"{self.dialect.quoted(name)} = {int(time.time())}" for name in names]

    @cached_property
    def _table(self) -> str:
        return self.dialect.quoted(self.group.table)

    @cached_property
    def _keys(self) -> str:
        return ", ".join(self.dialect.quoted(name) for name in self.group.primary_key)

    @cached_property
    def _selected(self) -> str:
        parts = [self._keys, *self._values]
        if self.dialect.engine is Engine.SQLITE:
            parts += [self.dialect.storage_class.format(c=self.dialect.quoted(column.column)) for column in self.group.columns]
        return ", ".join(parts)

    @cached_property
    def _values(self) -> list[str]:
        names = [column.column for column in self.group.columns]
        return [self.dialect.shown_as_bytes(name) if self._is_other(name) else self.dialect.as_bytes(name, self._is_blob(name)) for name in names]

    @cached_property
    def _sizes(self) -> str:
        """The bytes of a row; those of a value that is shown as text are not known before."""
        names = [column.column for column in self.group.columns]
        sizes = [self.dialect.size.format(c=self.dialect.shown_as_bytes(name)) if self._is_other(name) else self.dialect.size_of(name) for name in names]
        return " + ".join(f"COALESCE({size}, 0)" for size in sizes)

    def _is_other(self, name: str) -> bool:
        return self.schema.tables[self.group.table][name].is_other

    def _is_blob(self, name: str) -> bool:
        return self.schema.tables[self.group.table][name].is_blob

    def _range(self, after: Key | None, through: Key | None, without: Sequence[Key] = ()) -> tuple[str, list[object]]:
        conditions = [f"{self.dialect.quoted(name)} = {self.dialect.mark}" for name, _ in self.group.where]
        parameters: list[object] = [value for _, value in self.group.where]
        single = len(self.group.primary_key) == 1
        marks = ", ".join([self.dialect.mark] * len(self.group.primary_key))
        for key, operator in ((after, ">"), (through, "<=")):
            if key is not None:
                if not single:  # MySQL finds no place in an index by several columns at once, but by the first
                    conditions.append(f"{self.dialect.quoted(self.group.primary_key[0])} {operator[0]}= {self.dialect.mark}")
                    parameters.append(key[0])
                conditions.append(f"{self._keys} {operator} {marks}" if single else f"({self._keys}) {operator} ({marks})")
                parameters += key
        for key in without:
            condition, values = self._key_is(key)
            conditions.append(f"NOT ({condition})")
            parameters += values
        return (f" WHERE {' AND '.join(conditions)}" if conditions else ""), parameters

    def _key_is(self, key: Key) -> tuple[str, list[object]]:
        """Equality by index, and for texts by bytes too: a MySQL collation takes 'a' for 'A'."""
        conditions, parameters = [], []
        for name, value in zip(self.group.primary_key, key, strict=True):
            conditions.append(f"{self.dialect.quoted(name)} = {self.dialect.mark}")
            parameters.append(value)
            if isinstance(value, str) and self.dialect.engine is Engine.MYSQL:
                conditions.append(f"{self.dialect.as_bytes(name, False)} = {self.dialect.mark}")
                parameters.append(value.encode())
        return " AND ".join(conditions), parameters

    def _still(self, index: int, old: bytes) -> tuple[str, object]:
        name = self.group.columns[index].column
        if self.dialect.engine is Engine.MYSQL and len(old) > HASHED_BYTES:
            return f"SHA2({self.dialect.quoted(name)}, 256) = {self.dialect.mark}", hashlib.sha256(old).hexdigest()
        return f"{self.dialect.as_bytes(name, self._is_blob(name))} = {self.dialect.mark}", old

    def _new_mark(self, index: int, storage_class: str) -> str:
        if self.dialect.engine is Engine.SQLITE:
            return self.dialect.write_text if storage_class == "text" else self.dialect.write_blob
        return self.dialect.write_blob if self._is_blob(self.group.columns[index].column) else self.dialect.write_text

    def _new_value(self, index: int, new: bytes) -> object:
        """SQLite casts bytes to text itself, so that even text that is not UTF-8 stays as it was."""
        if self.dialect.engine is Engine.SQLITE or self._is_blob(self.group.columns[index].column):
            return new
        return new.decode()
