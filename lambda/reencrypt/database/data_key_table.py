"""The SQL of the two tables of data keys, `data_keys` and `secret_data_key`, for one engine.

A row is known by the bytes of its id (MySQL compares `name` and `uid` without case and trailing spaces), in the secrets manager by those of its
namespace too, and is changed only while it holds the bytes that were read. Moments are written as UTC texts `YYYY-MM-DD HH:MM:SS`, as Grafana's
migrator does. Sources: Grafana pkg/services/sqlstore/migrations/secrets_mig.go, pkg/storage/secret/migrator, pkg/services/secrets/database/database.go.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from reencrypt.database.dialects import Dialect, Engine
from reencrypt.database.schema import Column
from reencrypt.grafana.data_keys import DataKey
from reencrypt.grafana.secret_columns import System

Statement = tuple[str, list[object]]


@dataclass(frozen=True)
class DataKeyTable:
    """One table; `id` and `scope` are its columns for `DataKey.name` and `.scope`.

    `scoped`: whether the scope belongs to the key of a row. `dated`: whether Grafana sets `updated` when it deactivates a row.
    """

    name: str
    id: str
    scope: str
    scoped: bool
    dated: bool


TABLES: Mapping[System, DataKeyTable] = {
    System.GRAFANA: DataKeyTable("data_keys", id="name", scope="scope", scoped=False, dated=False),
    System.MANAGER: DataKeyTable("secret_data_key", id="uid", scope="namespace", scoped=True, dated=True),
}
TABLE = TABLES[System.GRAFANA].name


@dataclass(frozen=True)
class DataKeyStatements:
    """Statements over `table`, whose columns in this database are `columns`."""

    table: DataKeyTable
    columns: Mapping[str, Column]
    dialect: Dialect

    @property
    def has_labels(self) -> bool:
        """Whether the table has labels: not so `data_keys` of Grafana 8.3 to 8.5."""
        return "label" in self.columns

    def all(self) -> Statement:
        """Every row, for `data_key`."""
        names = (self.table.id, "active", self.table.scope, "provider", "created", *(("label",) if self.has_labels else ()))
        selected = ", ".join((self._bytes("encrypted_data"), *map(self.dialect.quoted, names)))
        return f"SELECT {selected} FROM {self._name}", []  # noqa: S608

    def data_key(self, row: Sequence[Any]) -> DataKey:
        """The row of `all`. Datetimes are taken as UTC; Grafana writes server-local time on MySQL and PostgreSQL."""
        encrypted_data, name, active, scope, provider, created, *label = row
        return DataKey(
            name=name, active=bool(active), scope=scope, provider=provider, encrypted_data=bytes(encrypted_data),
            label=(label[0] or "") if label else None, created=_utc(created),
        )  # fmt: skip

    def insert(self, key: DataKey) -> Statement:
        """Adds `key`; `updated` as `created`."""
        if key.created is None or (key.label is None and self.has_labels):
            raise AssertionError("a new data key has a date and a label")
        moment = _text(key.created)
        values: dict[str, object] = {
            self.table.id: key.name, "active": key.active, self.table.scope: key.scope, "provider": key.provider,
            "encrypted_data": key.encrypted_data, "created": moment, "updated": moment,
        }  # fmt: skip
        if self.has_labels:
            values["label"] = key.label
        names, marks = ", ".join(map(self.dialect.quoted, values)), ", ".join([self.dialect.mark] * len(values))
        return f"INSERT INTO {self._name} ({names}) VALUES ({marks})", list(values.values())  # noqa: S608

    def deactivate(self, keys: Sequence[DataKey], now: datetime) -> Statement:
        """Makes those of `keys` inactive that are active; `updated` as Grafana does: rotate-data-keys leaves it, consolidate sets it."""
        values: dict[str, object] = {"active": False} | ({"updated": _text(now)} if self.table.dated else {})
        conditions, parameters = [], []
        for key in keys:
            condition, wanted = self._is(key)
            conditions.append(f"({condition})")
            parameters += wanted
        where = f"{self._equals('active')} AND ({' OR '.join(conditions)})"
        return f"UPDATE {self._name} SET {self._set(values)} WHERE {where}", [*values.values(), True, *parameters]  # noqa: S608

    def replace(self, old: DataKey, new: DataKey, now: datetime) -> Statement:
        """Puts encrypted_data, provider and label of `new` where those two of `old` still are; the rest of the row stays."""
        values: dict[str, object] = {"encrypted_data": new.encrypted_data, "provider": new.provider, "updated": _text(now)}
        if self.has_labels:
            values["label"] = new.label or ""
        condition, parameters = self._holds(old)
        return f"UPDATE {self._name} SET {self._set(values)} WHERE {condition}", [*values.values(), *parameters]  # noqa: S608

    def holds(self, key: DataKey) -> Statement:
        """How many rows (one or none) have the id, encrypted_data and provider of `key`."""
        condition, parameters = self._holds(key)
        return f"SELECT COUNT(*) FROM {self._name} WHERE {condition}", parameters  # noqa: S608

    def exists(self, key: DataKey) -> Statement:
        """How many rows (one or none) have the id of `key`."""
        condition, parameters = self._is(key)
        return f"SELECT COUNT(*) FROM {self._name} WHERE {condition}", parameters  # noqa: S608

    def delete(self, key: DataKey) -> Statement:
        """Deletes the row while its encrypted_data and `active` are those of `key`."""
        condition, parameters = self._is(key)
        where = f"{condition} AND {self._bytes('encrypted_data')} = {self.dialect.mark} AND {self._equals('active')}"
        return f"DELETE FROM {self._name} WHERE {where}", [*parameters, key.encrypted_data, key.active]  # noqa: S608

    @property
    def _name(self) -> str:
        return self.dialect.quoted(self.table.name)

    def _bytes(self, column: str) -> str:
        return self.dialect.as_bytes(column, self.columns[column].is_blob)

    def _equals(self, column: str) -> str:
        return f"{self.dialect.quoted(column)} = {self.dialect.mark}"

    def _set(self, values: Mapping[str, object]) -> str:
        return ", ".join(map(self._equals, values))

    def _is(self, key: DataKey) -> Statement:
        """Equality by index, and on MySQL by bytes too."""
        conditions, parameters = [], []
        for column, value in ((self.table.id, key.name), *(((self.table.scope, key.scope),) if self.table.scoped else ())):
            conditions.append(self._equals(column))
            parameters.append(value)
            if self.dialect.engine is Engine.MYSQL:
                conditions.append(f"{self._bytes(column)} = {self.dialect.mark}")
                parameters.append(value.encode())
        return " AND ".join(conditions), parameters

    def _holds(self, key: DataKey) -> Statement:
        condition, parameters = self._is(key)
        same = [f"{self._bytes(column)} = {self.dialect.mark}" for column in ("encrypted_data", "provider")]
        return " AND ".join((condition, *same)), [*parameters, key.encrypted_data, key.provider.encode()]


def _text(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def _utc(value: object) -> datetime | None:
    """SQLite's datetimes are texts of Grafana's making."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    if not isinstance(value, datetime):
        return None
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
