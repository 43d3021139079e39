"""Databases shaped as those of Grafana 8.3, 8.5, 9.4, 12.3 and 12.4, on any engine, filled with secrets that are all known.

A shape has the tables, columns and sizes of its version, as far as secrets go, and payloads in every form that such a database can hold. The secrets
are read back by the independent decryptor, for 8.x exactly as that Grafana reads: no algorithm's name, and no inactive data key.

Sources: grafana-format.md 0, 1.5, 2.1, 2.3, 4 and secret-columns.yaml; Grafana pkg/services/sqlstore/migrations (8.3, 8.5, 9.4, 12.3, 12.4).
"""

from __future__ import annotations

import base64
import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from reencrypt.grafana import cipher
from reencrypt.grafana import payload as payloads
from reencrypt.grafana.payload import CFB_PREFIX, GCM_PREFIX
from reencrypt.grafana.settings import DatabaseSettings, GrafanaSettings, load_settings
from tests.support import decryptor
from tests.support.decryptor import Found

SECRET_KEY = "the-secret-key-of-a-shape"
DERIVE = cipher.caching_derivation()
_SALT = b"Shap3d00"  # one for all, so that a database is made in no time: the product derives its own
Entry = dict[str, Any]
Seal = Callable[[bytes], bytes]


class Shape(StrEnum):
    """The versions of Grafana, oldest first. `12.3-joined` is a 12.x before the column data_key_id."""

    V8_3 = "8.3"
    V8_5 = "8.5"
    V9_4 = "9.4"
    V12_JOINED = "12.3-joined"
    V12_3 = "12.3"
    V12_4 = "12.4"

    @property
    def is_8(self) -> bool:
        """Whether its reader knows no algorithm names, no labels, and no inactive data keys."""
        return self in (Shape.V8_3, Shape.V8_5)

    @property
    def has_manager(self) -> bool:
        """Whether there is a secrets manager."""
        return self.since(Shape.V12_JOINED)

    def since(self, version: str) -> bool:
        """Whether it is that version or a later one."""
        versions = list(Shape)
        return versions.index(self) >= versions.index(Shape(version))


_TYPES = {
    "sqlite": {
        "id": "INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL", "text": "TEXT", "mtext": "TEXT", "ltext": "TEXT", "blob": "BLOB", "mblob": "BLOB",
        "bool": "INTEGER", "int": "INTEGER", "big": "INTEGER", "moment": "DATETIME", "varchar": "TEXT", "end": "",
    },
    "mysql": {
        "id": "BIGINT(20) PRIMARY KEY AUTO_INCREMENT NOT NULL", "text": "TEXT", "mtext": "MEDIUMTEXT", "ltext": "LONGTEXT", "blob": "BLOB",
        "mblob": "MEDIUMBLOB", "bool": "TINYINT(1)", "int": "INT", "big": "BIGINT(20)", "moment": "DATETIME", "varchar": "VARCHAR({n})",
        "end": " ENGINE=InnoDB DEFAULT CHARSET utf8mb4 COLLATE utf8mb4_unicode_ci",
    },
    "postgresql": {
        "id": "SERIAL PRIMARY KEY NOT NULL", "text": "TEXT", "mtext": "TEXT", "ltext": "TEXT", "blob": "BYTEA", "mblob": "BYTEA", "bool": "BOOL",
        "int": "INTEGER", "big": "BIGINT", "moment": "TIMESTAMP", "varchar": "VARCHAR({n})", "end": "",
    },
}  # fmt: skip

# table: (since, columns). A column is name:type, with ! for NOT NULL, a number for VARCHAR, * for the primary key, and @version for "since".
_TABLES: Mapping[str, tuple[str, str]] = {
    "data_keys": ("8.3", "name:100!* active:bool! scope:30! provider:50! encrypted_data:blob! created:moment! updated:moment! label:100@9.4"),
    "data_source": ("8.3", "id:id org_id:big! version:int! type:255! name:190! secure_json_data:text read_only:bool uid:40 created:moment! updated:moment!"),
    "plugin_setting": ("8.3", "id:id org_id:big plugin_id:190! enabled:bool! secure_json_data:text created:moment! updated:moment!"),
    "user_auth": ("8.3", "id:id user_id:big! auth_module:190! auth_id:190! created:moment! o_auth_access_token:text o_auth_refresh_token:text "
                         "o_auth_token_type:text o_auth_expiry:moment o_auth_id_token:text@8.5"),
    "dashboard_snapshot": ("8.3", "id:id name:255! key:190! dashboard:mtext! dashboard_encrypted:blob created:moment! updated:moment!"),
    "alert_configuration": ("8.3", "id:id alertmanager_configuration:mtext! configuration_version:3! created_at:int! org_id:big! configuration_hash:32@9.4"),
    "alert_notification": ("8.3", "id:id org_id:big! name:190! type:255! settings:text! secure_settings:text created:moment! updated:moment!"),
    "cache_data": ("8.3", "cache_key:168!* data:blob! expires:int! created_at:int!"),
    "alert_configuration_history": ("9.4", "id:id org_id:big! alertmanager_configuration:mtext! configuration_hash:32! created_at:int!"),
    "secrets": ("9.4", "id:id org_id:big! namespace:255! type:255! value:text created:moment! updated:moment!"),
    "signing_key": ("12.3-joined", "id:id key_id:255! private_key:text! added_at:moment! expires_at:moment alg:255!"),
    "sso_setting": ("12.3-joined", "id:40!* provider:255! settings:mtext! created:moment! updated:moment! is_deleted:bool!"),
    "user_external_session": ("12.3-joined", "id:id user_auth_id:big! user_id:big! auth_module:190! access_token:text id_token:text refresh_token:text "
                                             "session_id:1024 session_id_hash:44 name_id:1024 name_id_hash:44 created_at:moment!"),
    "cloud_migration_session": ("12.3-joined", "id:id uid:40 auth_token:text slug:255! created:moment! updated:moment!"),
    "resource": ("12.3-joined", "guid:36!* resource_version:big group:190! resource:190! namespace:63! name:253! value:ltext action:int!"),
    "resource_history": ("12.3-joined", "guid:36!* resource_version:big group:190! resource:190! namespace:63! name:253! value:ltext action:int!"),
    "secret_data_key": ("12.3-joined", "uid:100!* namespace:253! label:100! active:bool! provider:50! encrypted_data:blob! created:moment! updated:moment!"),
    "secret_encrypted_value": ("12.3-joined", "namespace:253! name:253! version:big! encrypted_data:blob! created:big! updated:big! data_key_id:100!@12.3"),
    "secret_secure_value": ("12.3-joined", "guid:36!* name:253! namespace:253! created:big! updated:big! version:big! active:bool! decrypters:text"),
}  # fmt: skip
_WIDENED = {
    ("dashboard_snapshot", "dashboard_encrypted"): (Shape.V8_5, "mblob"),
    ("data_source", "secure_json_data"): (Shape.V12_JOINED, "mtext"),
}
_VALUE_KEY = ("namespace", "name", "version")


def statements(shape: Shape, dialect: sa.Dialect) -> Iterator[str]:
    """The DDL of a shape."""
    quote, types = dialect.identifier_preparer.quote_identifier, _TYPES[dialect.name]
    for table, (since, columns) in _TABLES.items():
        if not shape.since(since):
            continue
        parts = []
        for declared in columns.split():
            name, _, rest = declared.partition(":")
            kind, _, begun = rest.partition("@")
            if begun and not shape.since(begun):
                continue
            widened = _WIDENED.get((table, name))
            if widened is not None and shape.since(widened[0]):
                kind = widened[1]
            bare = kind.rstrip("!*")
            sql = types["varchar"].format(n=bare) if bare.isdigit() else types[bare]
            default = " DEFAULT ''" if (name in ("label", "data_key_id") and begun and (dialect.name != "mysql" or "!" in kind)) else ""
            required = " NOT NULL" if "!" in kind or default else ""
            parts.append(f"{quote(name)} {sql}{required}{default}{' PRIMARY KEY' if '*' in kind else ''}")
        if table == "secret_encrypted_value":
            key = ", ".join(map(quote, _VALUE_KEY))
            parts += [f"PRIMARY KEY ({key})"] if shape is Shape.V12_4 else []
        yield f"CREATE TABLE {quote(table)} ({', '.join(parts)}){types['end']}"
        if table == "secret_encrypted_value" and shape is not Shape.V12_4:
            yield f"CREATE UNIQUE INDEX {quote('UQE_secret_encrypted_value_namespace_name_version')} ON {quote(table)} ({key})"


def insert(engine: sa.Engine, table: str, **values: Any) -> None:
    """Adds a row."""
    quote = engine.dialect.identifier_preparer.quote_identifier
    names, marks = ", ".join(map(quote, values)), ", ".join(f":{name}" for name in values)
    with engine.begin() as connection:
        connection.execute(sa.text(f"INSERT INTO {quote(table)} ({names}) VALUES ({marks})"), values)


def picture(engine: sa.Engine, leave_out: Callable[[str, str], bool] = lambda table, column: False) -> dict[str, list[str]]:
    """Every row of every table as text, in an order that does not depend on the engine; without the columns to leave out."""
    quote = engine.dialect.identifier_preparer.quote_identifier
    found = {}
    with engine.connect() as connection:
        for (_, table), described in sa.inspect(connection).get_multi_columns().items():
            columns = [str(column["name"]) for column in described if not leave_out(table, str(column["name"]))]
            if engine.dialect.name == "sqlite":
                columns = [text for column in columns for text in (quote(column), f"typeof({quote(column)})")]
            else:
                columns = list(map(quote, columns))
            if columns:
                rows = connection.exec_driver_sql(f"SELECT {', '.join(columns)} FROM {quote(table)}")
                found[table] = sorted(repr([bytes(value) if isinstance(value, memoryview) else value for value in row]) for row in rows)
    return found


def as_8(payload: bytes, secret_key: bytes, data_key: Callable[[str], bytes]) -> Found:
    """Reads one payload as Grafana 8.3 to 8.5 does with envelope encryption: behind the data key's id stands a body, whatever it looks like."""
    key_id, password = None, secret_key
    if payload.startswith(b"#"):
        _, encoded, payload = payload.split(b"#", 2)
        key_id = decryptor.unbase64(encoded).decode()
        password = data_key(key_id)
    return Found(decryptor.decrypt_as_8(payload, password, data_key).plaintext, key_id)


@dataclass
class Shaped:
    """A database of a shape. `entries` are its secrets, `keys` the 16 bytes of its data keys by id."""

    shape: Shape
    engine: sa.Engine
    secret_key: str = SECRET_KEY
    entries: list[Entry] = field(default_factory=list)
    keys: dict[str, bytes] = field(default_factory=dict, repr=False)
    now: datetime = field(default_factory=lambda: datetime.now(UTC).replace(microsecond=0, tzinfo=None))
    _seals: Iterator[Seal] = field(init=False, repr=False)

    def add_key(self, name: str, key: bytes, provider: str, wrapped: bytes, *, active: bool = True, days: int = 30, label: str | None = None) -> None:
        """A row of data_keys that Grafana made `days` ago."""
        made = self.now - timedelta(days=days)
        self.keys[name] = key
        labelled = {} if self.shape.is_8 else {"label": f"{made:%Y-%m-%d}/root@{provider}" if label is None else label}
        insert(
            self.engine, "data_keys", name=name, active=active, scope="root", provider=provider, encrypted_data=wrapped, created=made, updated=made, **labelled
        )

    def under_secret_key(self, plaintext: bytes, *, named: bool) -> bytes:
        """As `secretKey.v1` wraps a data key, and as every Grafana reads a secret."""
        body = cipher.encrypt_cfb(plaintext, DERIVE(self.secret_key.encode(), _SALT), _SALT)
        return (CFB_PREFIX if named else b"") + body

    def under_data_key(self, name: str, plaintext: bytes, prefix: bytes = CFB_PREFIX) -> bytes:
        """An envelope; `prefix` b"" as 8.x writes it."""
        encrypt = cipher.encrypt_gcm if prefix == GCM_PREFIX else cipher.encrypt_cfb
        return payloads.envelope(name, prefix + encrypt(plaintext, DERIVE(self.keys[name], _SALT), _SALT))

    def expect(self, table: str, column: str, pk: Mapping[str, Any], path: tuple[str | int, ...] | None, plaintext: str) -> bytes:
        """A payload of `plaintext`, in the next of the forms, which is to be found there."""
        self.entries.append({"table": table, "column": column, "pk": dict(pk), "path": path, "plaintext": plaintext, "form": "shape"})
        return next(self._seals)(plaintext.encode())

    def standard(self, table: str, column: str, pk: Mapping[str, Any], path: tuple[str | int, ...] | None, plaintext: str) -> str:
        return base64.b64encode(self.expect(table, column, pk, path, plaintext)).decode()

    def map_of(self, table: str, column: str, pk: Mapping[str, Any], secrets: Mapping[str, str]) -> str:
        return json.dumps({name: self.standard(table, column, pk, (name,), text) for name, text in secrets.items()}, separators=(",", ":"))

    def reader(self, secret_key: str | None = None, unwrap: Mapping[str, Callable[[bytes], bytes]] | None = None, **options: Any) -> decryptor.Reader:
        """The independent decryptor over this database: of 8.x as that Grafana reads, if nothing else is asked for."""
        key = (secret_key or self.secret_key).encode()
        payload = options.get("payload", as_8 if self.shape.is_8 else decryptor.decrypt)

        def by_secret_key(wrapped: bytes) -> bytes:
            plaintext: bytes = payload(wrapped, key, _no_key).plaintext
            return plaintext

        both = dict.fromkeys(("secretKey", "secretKey.v1"), by_secret_key)
        return decryptor.Reader(self.engine, key.decode(), {**both, **(unwrap or {})}, payload=payload)

    def assert_all_there(self, reader: decryptor.Reader | None = None) -> dict[str | None, int]:
        """Every secret reads as it did, and in 8.x under an active key; returns how many are under each data key."""
        reader, under = reader or self.reader(), dict[str | None, int]()
        for entry in self.entries:
            found = reader.read(entry)
            assert decryptor.matches(entry, found.plaintext), f"lost: {entry}"
            assert not (self.shape.is_8 and found.key_id) or reader.rows[found.key_id][2], f"8.x does not decrypt with an inactive data key: {entry}"
            under[found.key_id] = under.get(found.key_id, 0) + 1
        return under

    def stored(self, entry: Entry) -> bytes:
        """The bytes of a payload as they stand."""
        return self.reader(payload=lambda payload, key, data_key: Found(payload, None)).read(entry).plaintext


def build(shape: Shape, engine: sa.Engine, secret_key: str = SECRET_KEY) -> Shaped:
    """A database of the shape, with an old data key and today's, and secrets in every column and form that the version has."""
    with engine.begin() as connection:
        for statement in statements(shape, engine.dialect):
            connection.exec_driver_sql(statement)
    shaped = Shaped(shape, engine, secret_key)
    old, new = _add_keys(shaped)
    forms: list[Seal] = [lambda text: shaped.under_secret_key(text, named=False)]
    for name in (old, new):
        forms.append(lambda text, name=name: shaped.under_data_key(name, text, b"" if shape.is_8 else CFB_PREFIX))  # type: ignore[misc]  # a lambda's default
    if not shape.is_8:
        forms += [lambda text: shaped.under_secret_key(text, named=True), lambda text: shaped.under_data_key(old, text, b"**")]
    if shape.has_manager:
        forms.append(lambda text: shaped.under_data_key(new, text, GCM_PREFIX))  # Grafana Enterprise
    shaped._seals = itertools.cycle(forms)
    _fill(shaped)
    return shaped


def settings(shaped: Shaped, database: DatabaseSettings, more: str = "") -> GrafanaSettings:
    """The configuration of its Grafana, with `more` at the end of the file."""
    return replace(load_settings(f"[security]\nsecret_key = {shaped.secret_key}\n{more}\n"), database=database)


def _add_keys(shaped: Shaped) -> tuple[str, str]:
    """An old key, and one of today."""
    is_8, today = shaped.shape.is_8, f"{shaped.now:%Y-%m-%d}"
    provider = "secretKey" if shaped.shape is Shape.V8_3 else "secretKey.v1"
    names = (f"2021-11-29/root@{provider}", f"{today}/root@{provider}") if is_8 else ("2022-03-01/root@secretKey.v1", "fg5b0mreqohdsa")
    for name, days in zip(names, (400, 0), strict=True):
        key = f"0123456789abc{days:03d}".encode()
        wrapped = shaped.under_secret_key(key, named=not is_8)
        # A key of 8.x keeps its id when Grafana is upgraded, and its label is the id; nobody deactivates it.
        shaped.add_key(name, key, provider, wrapped, active=is_8 or not days, days=days, label=name if days else None)
    return names


def _fill(shaped: Shaped) -> None:
    shape, engine = shaped.shape, shaped.engine
    dated = {"created": shaped.now, "updated": shaped.now}
    for number in range(1, 3):
        pk = {"id": number}
        secrets = {"basicAuthPassword": f"prometheus password {number}", "tlsCACert": f"-----BEGIN CERTIFICATE-----\n{number}\n"}
        insert(
            engine, "data_source", id=number, org_id=1, version=1, type="prometheus", name=f"p{number}", read_only=False, uid=f"u{number}",
            secure_json_data=shaped.map_of("data_source", "secure_json_data", pk, secrets), **dated,
        )  # fmt: skip
        insert(
            engine, "plugin_setting", id=number, org_id=1, plugin_id=f"app-{number}", enabled=True,
            secure_json_data=shaped.map_of("plugin_setting", "secure_json_data", pk, {"apiKey": f"api key of app {number}"}), **dated,
        )  # fmt: skip
        tokens = {"o_auth_access_token": f"ya29.access-{number}", "o_auth_refresh_token": f"1//refresh-{number}", "o_auth_token_type": "Bearer"}
        tokens |= {"o_auth_id_token": f"eyJhbGciOiJSUzI1NiJ9.{number}.c2ln"} if shape.since("8.5") else {}
        texts = {column: shaped.standard("user_auth", column, pk, None, text) for column, text in tokens.items()}
        insert(engine, "user_auth", id=number, user_id=number, auth_module="oauth_google", auth_id=f"1{number}", created=shaped.now, **texts)
        board = shaped.expect("dashboard_snapshot", "dashboard_encrypted", pk, None, json.dumps({"title": f"Board {number}", "panels": list(range(99))}))
        insert(engine, "dashboard_snapshot", id=number, name=f"s{number}", key=f"k{number}", dashboard="{}", dashboard_encrypted=board, **dated)
        never = {"form": "legacy", "table": "alert_notification", "column": "secure_settings", "pk": pk, "path": ("url",), "plaintext": f"https://old/{number}"}
        shaped.entries.append(never)  # its reader knows no data keys
        text = base64.b64encode(shaped.under_secret_key(str(never["plaintext"]).encode(), named=False)).decode()
        secure = json.dumps({"url": text})
        insert(engine, "alert_notification", id=number, org_id=1, name=f"n{number}", type="slack", settings="{}", secure_settings=secure, **dated)
        insert(
            engine, "alert_configuration", id=number, configuration_version="v1", created_at=1, org_id=number,
            alertmanager_configuration=_alerting(shaped, "alert_configuration", number), **({"configuration_hash": "0" * 32} if shape.since("9.4") else {}),
        )  # fmt: skip
        if shape.since("9.4"):
            secret = shaped.standard("secrets", "value", pk, None, json.dumps(secrets)).rstrip("=")
            insert(engine, "secrets", id=number, org_id=1, namespace=f"p{number}", type="datasource", value=secret, **dated)
            document = _alerting(shaped, "alert_configuration_history", number)
            insert(engine, "alert_configuration_history", id=number, org_id=1, alertmanager_configuration=document, configuration_hash="0" * 32, created_at=1)
    if shape.has_manager:
        _fill_12(shaped, dated)


def _fill_12(shaped: Shaped, dated: Mapping[str, datetime]) -> None:
    engine, pk = shaped.engine, {"id": 1}
    pem = "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49AgEG\n-----END PRIVATE KEY-----\n"
    text = shaped.standard("signing_key", "private_key", pk, None, pem).rstrip("=")
    insert(engine, "signing_key", id=1, key_id="k", private_key=text, added_at=shaped.now, alg="ES256")
    row = {"id": "827721bd-f8d0-4b06-8ad5-758eb6bd9f62"}
    secret = shaped.standard("sso_setting", "settings", row, ("clientSecret",), "the client secret of google").rstrip("=")
    insert(engine, "sso_setting", **row, provider="google", settings=json.dumps({"clientId": "grafana", "clientSecret": secret}), is_deleted=False, **dated)
    tokens = {"access_token": "ya29.session", "id_token": "eyJ.session.c2ln", "refresh_token": "1//session", "session_id": "s1", "name_id": "a@example.com"}
    texts = {column: shaped.standard("user_external_session", column, pk, None, token) for column, token in tokens.items()}
    insert(engine, "user_external_session", id=1, user_auth_id=1, user_id=1, auth_module="oauth_google", created_at=shaped.now, **texts)
    token = shaped.standard("cloud_migration_session", "auth_token", pk, None, "the token of a migration")
    insert(engine, "cloud_migration_session", id=1, uid="c1", auth_token=token, slug="s", **dated)
    for table in ("resource", "resource_history"):
        path, guid = ("spec", "github", "encryptedToken"), f"{table}-repository"
        secret = shaped.standard(table, "value", {"guid": guid}, path, f"ghp_token of {table}")
        document = {"kind": "Repository", "spec": {"github": {"encryptedToken": secret}}, "status": {}}
        insert(
            engine, table, guid=guid, resource_version=1, group="provisioning.grafana.app", resource="repositories", namespace="default", name="r",
            value=json.dumps(document), action=1,
        )  # fmt: skip


def _alerting(shaped: Shaped, table: str, number: int) -> str:
    place = ("alertmanager_config", "receivers", 0, "grafana_managed_receiver_configs", 0, "secureSettings", "url")
    url = shaped.standard(table, "alertmanager_configuration", {"id": number}, place, f"https://hooks.slack.example/{table}/{number}")
    receiver = {"uid": "u", "name": "slack", "type": "slack", "settings": {}, "secureSettings": {"url": url}}
    return json.dumps({"alertmanager_config": {"receivers": [{"name": "slack", "grafana_managed_receiver_configs": [receiver]}]}})


def _no_key(key_id: str) -> bytes:
    raise AssertionError(f"a data key is not wrapped by the data key {key_id}")


__all__ = ["DERIVE", "SECRET_KEY", "Entry", "Shape", "Shaped", "as_8", "build", "insert", "picture", "settings", "statements"]
