"""The `data_keys` table: read every row, add one. Source: Grafana pkg/services/sqlstore/migrations/secrets_mig.go."""

from __future__ import annotations

from datetime import UTC, datetime

import sqlalchemy as sa

from reencrypt.grafana.data_keys import DataKey

TABLE = "data_keys"

# Typed loosely: SQLite's datetimes are texts of Grafana's making, which SQLAlchemy's own type refuses to read.
_COLUMNS = ("name", "active", "scope", "provider", "encrypted_data", "label", "created", "updated")


def read(connection: sa.Connection, has_labels: bool) -> list[DataKey]:
    """Every row, by age where `created` says so. Datetimes are taken as UTC; Grafana writes server-local time on MySQL and PostgreSQL."""
    table = sa.table(TABLE, *(sa.column(name) for name in _COLUMNS))
    columns = [table.c[name] for name in _COLUMNS if name != "updated" and (has_labels or name != "label")]
    keys = [
        DataKey(
            name=row.name, active=bool(row.active), scope=row.scope, provider=row.provider, encrypted_data=bytes(row.encrypted_data),
            label=(row.label or "") if has_labels else None, created=_utc(row.created),
        )
        for row in connection.execute(sa.select(*columns))
    ]  # fmt: skip
    return sorted(keys, key=lambda key: (key.created or datetime.min.replace(tzinfo=UTC), key.name))


def insert(connection: sa.Connection, key: DataKey) -> None:
    """Adds `key`; `created` and `updated` in UTC."""
    if key.created is None or key.label is None:
        raise AssertionError("a new data key has a date and a label")
    created = key.created.astimezone(UTC).replace(tzinfo=None, microsecond=0)
    written: datetime | str = created.isoformat(" ") if connection.dialect.name == "sqlite" else created
    active = key.active if connection.dialect.name == "postgresql" else int(key.active)
    table = sa.table(TABLE, *(sa.column(name) for name in _COLUMNS))
    connection.execute(
        table.insert().values(
            name=key.name, active=active, scope=key.scope, provider=key.provider, encrypted_data=key.encrypted_data,
            label=key.label, created=written, updated=written,
        )
    )  # fmt: skip


def _utc(value: object) -> datetime | None:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    if not isinstance(value, datetime):
        return None
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
