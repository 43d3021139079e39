"""The data keys of both systems, as `Database` offers them: read, add, deactivate, re-wrap, delete.

Whatever changes a row that is there changes it only while it is what the caller read, and may be repeated: after a crash a caller that does the same
again is told that it is done.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import TypeVar

import sqlalchemy as sa

from reencrypt.database.data_key_table import TABLES, DataKeyStatements, Statement
from reencrypt.database.dialects import Dialect
from reencrypt.database.schema import Schema
from reencrypt.grafana.data_keys import DataKey
from reencrypt.grafana.secret_columns import System

T = TypeVar("T")

BATCH_KEYS = 100  # deactivated by one statement


class DataKeys(ABC):
    """The methods of `Database` over `data_keys` (System.GRAFANA) and `secret_data_key` (System.MANAGER)."""

    dialect: Dialect

    @abstractmethod
    def schema(self, tables: Iterable[str]) -> Schema: ...

    @abstractmethod
    def _patiently(self, doing: str, action: Callable[[sa.Connection], T], on_conflict: Callable[[], None] = lambda: None) -> T: ...

    @abstractmethod
    def _transaction(self, connection: sa.Connection) -> AbstractContextManager[None]: ...

    def has_data_keys(self, system: System = System.GRAFANA) -> bool:
        """Whether there is such a table (`data_keys`: Grafana 8.3 and later; `secret_data_key`: about 12.0)."""
        return bool(self._data_key_statements(system).columns)

    def has_labels(self) -> bool:
        """Whether `data_keys` has labels (Grafana 9.0 and later), so that Grafana reads payloads that name their algorithm."""
        return self._data_key_statements(System.GRAFANA).has_labels

    def data_keys(self, system: System = System.GRAFANA) -> list[DataKey]:
        """Every row, the oldest first where `created` says so; match ids in your own dictionary, since MySQL compares them without case."""
        statements = self._data_key_statements(system)
        if not statements.columns:
            return []
        text, parameters = statements.all()

        def read(connection: sa.Connection) -> list[DataKey]:
            return [statements.data_key(row) for row in connection.exec_driver_sql(text, tuple(parameters))]

        keys = self._patiently(f"reading {statements.table.name}", read)
        return sorted(keys, key=lambda key: (key.created or datetime.min.replace(tzinfo=UTC), key.name))

    def insert_data_key(self, key: DataKey, system: System = System.GRAFANA) -> None:
        """Adds `key` and commits."""
        statements = self._data_key_statements(system)
        self._change(f"adding a row to {statements.table.name}", statements.insert(key))

    def deactivate_data_keys(self, keys: Iterable[DataKey], now: datetime, system: System = System.GRAFANA) -> int:
        """Makes `keys` inactive; returns how many of them still were active. `updated` becomes `now` in the secrets manager's table only.

        A row that has been re-wrapped meanwhile is deactivated all the same: its id is what counts.
        """
        statements = self._data_key_statements(system)
        wanted, changed = list(keys), 0
        for start in range(0, len(wanted), BATCH_KEYS):
            changed += self._change(f"deactivating rows of {statements.table.name}", statements.deactivate(wanted[start : start + BATCH_KEYS], now))
        return changed

    def replace_data_key(self, old: DataKey, new: DataKey, now: datetime, system: System = System.GRAFANA) -> bool:
        """Puts encrypted_data, provider and label of `new` in place of those of `old`, and `now` as `updated`.

        True where the row now holds the two of `new`, by this call or by an earlier one of ours: wrapping is random, so nobody else can have
        written these bytes. False where it is gone, or was no longer what `old` says: then nothing is written.
        """
        if (old.name, old.scope) != (new.name, new.scope):
            raise AssertionError("a re-wrapped data key keeps its id")
        statements = self._data_key_statements(system)
        table = statements.table.name
        if self._change(f"writing {table}", statements.replace(old, new, now)):
            return True
        return self._count(f"reading {table}", statements.holds(new))

    def delete_data_key(self, key: DataKey, system: System = System.GRAFANA) -> bool:
        """Deletes the row while its encrypted_data and `active` are still what `key` says.

        True where the row is gone, by this call or before it. False where it stands and is another now: then nothing is deleted.
        """
        statements = self._data_key_statements(system)
        table = statements.table.name
        if self._change(f"deleting a row of {table}", statements.delete(key)):
            return True
        return not self._count(f"reading {table}", statements.exists(key))

    def _data_key_statements(self, system: System) -> DataKeyStatements:
        table = TABLES[system]
        return DataKeyStatements(table, self.schema([table.name]).tables.get(table.name, {}), self.dialect)

    def _change(self, doing: str, statement: Statement) -> int:
        """The rows that a statement in a transaction of its own changed."""
        text, parameters = statement

        def change(connection: sa.Connection) -> int:
            with self._transaction(connection):
                return connection.exec_driver_sql(text, tuple(parameters)).rowcount

        return self._patiently(doing, change)

    def _count(self, doing: str, statement: Statement) -> bool:
        text, parameters = statement
        found: Sequence[int] | None = self._patiently(doing, lambda connection: connection.exec_driver_sql(text, tuple(parameters)).fetchone())
        return found is not None and found[0] > 0
