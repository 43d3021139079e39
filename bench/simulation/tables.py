"""Grafana 12.4's tables with secrets, those that its writers touch while a run goes on: `create(engine)` on any engine.

Column types as Grafana's migrations make them (pkg/services/sqlstore/migrator/*_dialect.go); columns that hold no secret and that no writer here
needs are left out.
"""

from __future__ import annotations

from collections.abc import Iterable

import sqlalchemy as sa
from sqlalchemy.dialects import mysql

METADATA = sa.MetaData()


def create(engine: sa.Engine, names: Iterable[str] = ()) -> None:
    """Makes every table; only those of `names` (and `data_keys`) if any are named."""
    wanted = {"data_keys", *names}
    METADATA.create_all(engine, None if len(wanted) == 1 else [table for table in METADATA.sorted_tables if table.name in wanted])


def _id() -> sa.Column[int]:
    return sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite").with_variant(sa.Integer, "postgresql"), primary_key=True)


def _text(name: str, *, null: bool = True) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=null)


def _long(name: str, *, null: bool = True) -> sa.Column[str]:
    return sa.Column(name, sa.Text().with_variant(mysql.MEDIUMTEXT, "mysql"), nullable=null)


def _name(name: str, length: int = 190) -> sa.Column[str]:
    return sa.Column(name, sa.String(length), nullable=False, server_default="")


def _number(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=False, server_default="0")


def _moment(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime, nullable=False)


sa.Table(
    "data_keys", METADATA,
    sa.Column("name", sa.String(100), primary_key=True),
    sa.Column("active", sa.Boolean().with_variant(sa.Integer, "sqlite"), nullable=False),
    sa.Column("scope", sa.String(30), nullable=False),
    sa.Column("provider", sa.String(50), nullable=False),
    sa.Column("encrypted_data", sa.LargeBinary, nullable=False),
    _moment("created"), _moment("updated"),
    sa.Column("label", sa.String(100), nullable=False, server_default=""),
)  # fmt: skip
sa.Table(
    "data_source", METADATA, _id(), _number("org_id"), _number("version"), _name("type", 255), _name("name"), _text("json_data"),
    _long("secure_json_data"), _name("uid", 40), _moment("created"), _moment("updated"), sa.UniqueConstraint("org_id", "name"),
)  # fmt: skip
sa.Table(
    "secrets", METADATA, _id(), _number("org_id"), _name("namespace", 255), _name("type", 255), _text("value"), _moment("created"), _moment("updated"),
)  # fmt: skip
sa.Table(
    "user_auth", METADATA, _id(), _number("user_id"), _name("auth_module"), _name("auth_id"), _moment("created"), _text("o_auth_access_token"),
    _text("o_auth_refresh_token"), _text("o_auth_token_type"), _text("o_auth_id_token"), sa.Index("IX_user_auth_user_id", "user_id"),
)  # fmt: skip
sa.Table(
    "user_external_session", METADATA, _id(), _number("user_auth_id"), _number("user_id"), _name("auth_module"), _text("access_token"), _text("id_token"),
    _text("refresh_token"), sa.Column("session_id", sa.String(1024)), sa.Column("name_id", sa.String(1024)), _moment("created_at"),
)  # fmt: skip
sa.Table(
    "plugin_setting", METADATA, _id(), _number("org_id"), _name("plugin_id"), _number("enabled"), _text("json_data"), _text("secure_json_data"),
    _moment("created"), _moment("updated"), sa.UniqueConstraint("org_id", "plugin_id"),
)  # fmt: skip
sa.Table(
    "alert_configuration", METADATA, _id(), _long("alertmanager_configuration", null=False), _name("configuration_version", 3), _number("created_at"),
    _number("org_id"), _name("configuration_hash", 32), sa.UniqueConstraint("org_id"),
)  # fmt: skip
sa.Table(
    "alert_configuration_history", METADATA, _id(), _number("org_id"), _long("alertmanager_configuration", null=False), _name("configuration_hash", 32),
    _name("configuration_version", 3), _number("created_at"), _number("last_applied"),
)  # fmt: skip
sa.Table(
    "sso_setting", METADATA, sa.Column("id", sa.String(40), primary_key=True), _name("provider", 255), _long("settings", null=False), _moment("created"),
    _moment("updated"), _number("is_deleted"),
)  # fmt: skip
sa.Table(
    "dashboard_snapshot", METADATA, _id(), _name("name", 255), _name("key"), _name("delete_key"), _number("org_id"), _long("dashboard", null=False),
    sa.Column("dashboard_encrypted", sa.LargeBinary().with_variant(mysql.MEDIUMBLOB, "mysql")), _moment("created"), _moment("updated"),
    sa.UniqueConstraint("key"), sa.UniqueConstraint("delete_key"),
)  # fmt: skip
sa.Table(
    "signing_key", METADATA, _id(), _name("key_id"), _text("private_key", null=False), _moment("added_at"), _name("alg", 255), sa.UniqueConstraint("key_id"),
)  # fmt: skip
