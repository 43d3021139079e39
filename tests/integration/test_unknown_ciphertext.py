"""A database with 1 000 data keys, and 100 columns in no list that hold values under them: told exactly, never lost, and moved once they are declared.

The references stand raw, in base64, inside text, in JSON, in the engine's own JSON type, in tables with composite keys and with none.
"""

from __future__ import annotations

import base64
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from reencrypt.grafana import secret_columns
from tests.integration.conftest import EmptyDatabase
from tests.support import decryptor, shapes
from tests.support.lifecycle import KMS_A, KMS_B, LifeRun, arn
from tests.support.shapes import Shape, Shaped

KEYS, COLUMNS, FIRST = 1000, 100, 300  # the columns name the keys from FIRST on, one each; the ones before protect data sources, or nothing
DATA_SOURCES = 40
PROVIDERS = ("secretKey.v1", KMS_A, KMS_B)
JSON_TYPE = {"sqlite": "TEXT", "mysql": "JSON", "postgresql": "JSONB"}
BLOB_TYPE = {"sqlite": "BLOB", "mysql": "MEDIUMBLOB", "postgresql": "BYTEA"}
Embed = Callable[[bytes], Any]


@dataclass(frozen=True)
class Unknown:
    """A table that this product does not know: its key, the type of its columns and how a payload stands in them."""

    table: str
    key: tuple[str, ...]
    columns: int
    type: Mapping[str, str]
    embed: Embed

    @property
    def names(self) -> list[str]:
        return [f"c{number:02d}" for number in range(self.columns)]


def _text(sql: str) -> dict[str, str]:
    return dict.fromkeys(JSON_TYPE, sql)


def _base64(payload: bytes) -> str:
    return base64.b64encode(payload).decode()


UNKNOWN = (
    Unknown("setting", ("id",), 20, BLOB_TYPE, lambda payload: payload),
    Unknown("plugin_store", ("id",), 20, _text("TEXT"), _base64),
    Unknown("report_text", ("id",), 20, _text("TEXT"), lambda payload: f"Authorization: Bearer {_base64(payload)} (see #abc# and #fff#)"),
    Unknown("plugin_document", ("id",), 10, _text("TEXT"), lambda payload: json.dumps({"auth": {"token": _base64(payload)}, "n": 1})),
    Unknown("native_json", ("id",), 10, JSON_TYPE, lambda payload: json.dumps({"list": [{"deep": _base64(payload)}]})),
    Unknown("two_keys", ("org_id", "name"), 10, BLOB_TYPE, lambda payload: b"\x00\xffhead" + payload),
    Unknown("no_key", (), 10, _text("TEXT"), _base64),
)
DECLARATIONS = """
[[secret_column]]
table = "setting"
primary_key = ["id"]
column = "c03"
shape = "raw"
base64 = "none"
plaintext = "text"

[[secret_column]]
table = "plugin_store"
primary_key = ["id"]
column = "c04"
shape = "base64"
base64 = "std"
plaintext = "text"

[[secret_column]]
table = "plugin_document"
primary_key = ["id"]
column = "c05"
shape = "json_paths"
base64 = "std"
plaintext = "text"
json_paths = [{ path = "auth.token" }]
"""
DECLARED = {("setting", "c03"), ("plugin_store", "c04"), ("plugin_document", "c05")}


@dataclass
class Crowd:
    """The database. `unknown` is what a report must say of it: how often each unknown column names which key."""

    shaped: Shaped
    database: EmptyDatabase
    runs: LifeRun
    provider: str = PROVIDERS[0]
    unknown: dict[tuple[str, str], Counter[str]] = field(default_factory=dict)

    def run(self, mode: str, **options: Any) -> dict[str, Any]:
        lines = [f"encryption_provider = {self.provider}"]
        for name in (KMS_A, KMS_B):
            lines += [f"[security.encryption.{name}]", f"key_id = {arn(name)}"]
        self.runs.settings = shapes.settings(self.shaped, self.database.settings, "\n".join(lines))
        return self.runs.run(mode, providerReady=True, **options)

    def do(self, mode: str, **options: Any) -> dict[str, Any]:
        report = self.run(mode, **options)
        assert (report["outcome"], report["error"], report["unreadable"]) == ("succeeded", None, []), (mode, report["headline"], report["error"])
        return report

    def reader(self) -> decryptor.Reader:
        return self.shaped.reader(unwrap=dict.fromkeys((KMS_A, KMS_B), self.runs.account.opener))

    def there(self) -> set[str]:
        """The keys that the declared secrets of Grafana are under; fails where one is not as it was."""
        return {key for key in self.shaped.assert_all_there(self.reader()) if key}

    def rows(self, statement: str) -> list[Any]:
        with self.database.engine.connect() as connection:
            return list(connection.execute(sa.text(statement)).all())

    def told(self, report: Mapping[str, Any]) -> dict[tuple[str, str], Counter[str]]:
        return {(place["table"], place["column"]): Counter(place["data_keys"]) for place in report["unknown_ciphertext"]}


def key_name(number: int) -> str:
    return f"c{number:04d}b0mreqo"


def _add_keys(crowd: Crowd) -> None:
    shaped, account = crowd.shaped, crowd.runs.account
    rows = []
    for number in range(KEYS):
        name, provider, made = key_name(number), PROVIDERS[number % 3], shaped.now - timedelta(days=3 + number % 700)
        key = shaped.keys[name] = f"sixteen bytes{number:03d}".encode()
        wrapped = shaped.under_secret_key(key, named=True) if provider == PROVIDERS[0] else account.encrypt(arn(provider), key)["CiphertextBlob"]
        rows.append({
            "name": name, "active": number % 5 == 0, "provider": provider, "wrapped": wrapped, "made": made, "label": f"{made:%Y-%m-%d}/root@{provider}",
        })  # fmt: skip
    statement = (
        "INSERT INTO data_keys (name, active, scope, provider, encrypted_data, created, updated, label)"
        " VALUES (:name, :active, 'root', :provider, :wrapped, :made, :made, :label)"
    )
    with crowd.database.engine.begin() as connection:
        connection.execute(sa.text(statement), rows)


def _add_unknown(crowd: Crowd) -> None:
    """Three rows in each table: one with a reference in every column, one with nothing, one with a reference in every second column."""
    engine, number = crowd.database.engine, FIRST
    for unknown in UNKNOWN:
        keys = ["id INTEGER NOT NULL"] if unknown.key == ("id",) else ["org_id INTEGER NOT NULL", "name VARCHAR(50) NOT NULL"] if unknown.key else []
        columns = [f"{name} {unknown.type[engine.dialect.name]}" for name in unknown.names]
        primary = [f"PRIMARY KEY ({', '.join(unknown.key)})"] if unknown.key else []
        with engine.begin() as connection:
            connection.exec_driver_sql(f"CREATE TABLE {unknown.table} ({', '.join(keys + columns + primary)})")
        rows: list[dict[str, Any]] = [{}, {}, {}]
        for row, at in enumerate(rows):
            at |= {"id": row + 1} if unknown.key == ("id",) else {"org_id": 1, "name": f"n{row}"} if unknown.key else {}
        for position, name in enumerate(unknown.names):
            key = key_name(number)
            payload = crowd.shaped.under_data_key(key, f"the secret of {unknown.table} {name}".encode())
            rows[0][name] = unknown.embed(payload)
            rows[2][name] = unknown.embed(payload) if position % 2 else None
            crowd.unknown[unknown.table, name] = Counter({key: 1 + position % 2})
            number += 1
        for row_values in rows:
            shapes.insert(engine, unknown.table, **row_values) if row_values else None
    assert len(crowd.unknown) == COLUMNS


@pytest.fixture
def crowd(empty_database: EmptyDatabase, tmp_path: Path) -> Crowd:
    shaped = shapes.build(Shape.V9_4, empty_database.engine)
    crowd = Crowd(shaped, empty_database, LifeRun(shapes.settings(shaped, empty_database.settings), tmp_path))
    _add_keys(crowd)
    _add_unknown(crowd)
    dated = {"created": shaped.now, "updated": shaped.now}
    for number in range(DATA_SOURCES):
        shaped.entries.append({
            "table": "data_source", "column": "secure_json_data", "pk": {"id": 100 + number}, "path": ("password",), "plaintext": f"password number {number}",
            "form": "shape",
        })  # fmt: skip
        value = _base64(shaped.under_data_key(key_name(number), f"password number {number}".encode()))
        shapes.insert(
            empty_database.engine, "data_source", id=100 + number, org_id=1, version=1, type="mysql", name=f"many {number}", uid=f"many{number}",
            secure_json_data=json.dumps({"password": value}), **dated,
        )  # fmt: skip
    return crowd


@pytest.fixture
def declared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """Declares the columns of DECLARATIONS, as the bundle of a deployment does."""

    def declare() -> None:
        path = tmp_path / "declared_columns.toml"
        path.write_text(DECLARATIONS, encoding="utf-8")
        monkeypatch.setattr(secret_columns, "DECLARED", path)
        secret_columns.secret_columns.cache_clear()

    yield declare
    monkeypatch.undo()
    secret_columns.secret_columns.cache_clear()


def test_a_thousand_data_keys_are_wrapped_anew_and_a_plan_tells_a_hundred_unknown_columns_exactly(crowd: Crowd) -> None:
    before = shapes.picture(crowd.database.engine)
    plan = crowd.do("plan")
    assert shapes.picture(crowd.database.engine) == before
    assert crowd.told(plan) == crowd.unknown
    total = KEYS + 2
    assert len(plan["data_keys"]) == total
    crowd.provider = KMS_B
    started = time.monotonic()
    report = crowd.do("rewrap-data-keys")
    print(f"{crowd.database.engine_name}: {total} data keys wrapped anew in {time.monotonic() - started:.1f} s")  # pytest -rP shows it
    assert (sum(report["rewrapped"]["rewrapped"].values()) + report["rewrapped"]["left"], report["rewrapped"]["failed"]) == (total, [])
    rows = crowd.rows("SELECT name, provider, encrypted_data FROM data_keys")
    assert {row.provider for row in rows} == {KMS_B}
    assert {row.name: crowd.runs.account.opener(bytes(row.encrypted_data)) for row in rows} == crowd.shaped.keys
    crowd.there()


def test_pruning_keeps_what_unknown_columns_need_and_removes_exactly_the_rest_until_a_column_is_declared(crowd: Crowd, declared: Callable[[], None]) -> None:
    known, unknown = crowd.there(), {key for keys in crowd.unknown.values() for key in keys}
    active = [row for row in crowd.rows("SELECT name, provider, active, created FROM data_keys ORDER BY created, name") if row.active]
    in_use = {[row.name for row in active if row.provider == PROVIDERS[0]][-1]}
    everything = set(crowd.shaped.keys)
    report = crowd.do("prune-data-keys")
    assert {entry["id"] for entry in report["removed"]["removed"]} == everything - known - unknown - in_use
    why = {entry["id"]: entry["why"] for entry in report["removed"]["kept"]}
    assert {key for key, reason in why.items() if reason == "referenced-by-unknown-column"} == unknown
    assert {key for key, reason in why.items() if reason == "referenced"} == known
    assert crowd.told(report) == crowd.unknown
    kept = {row.name for row in crowd.rows("SELECT name FROM data_keys")}
    assert kept == known | unknown | in_use
    assert crowd.there() == known

    before = shapes.picture(crowd.database.engine)
    refused = crowd.run("rollback")
    assert refused["error"] is not None
    assert refused["error"]["name"] == "UnknownCiphertext"
    assert "native_json.c00" in refused["error"]["message"]
    assert shapes.picture(crowd.database.engine) == before

    declared()
    moved = crowd.do("re-encrypt", tables=["setting", "plugin_store", "plugin_document"])
    assert moved["totals"]["re_encrypted"] == sum(crowd.unknown[place].total() for place in DECLARED)
    assert declared_secrets(crowd) == {f"the secret of {table} {column}": moved["data_key"] for table, column in DECLARED}
    freed = {key for place in DECLARED for key in crowd.unknown.pop(place)}
    pruned = crowd.do("prune-data-keys")
    assert {entry["id"] for entry in pruned["removed"]["removed"]} == freed
    assert crowd.told(pruned) == crowd.unknown
    assert crowd.there() == known
    assert set(declared_secrets(crowd).values()) == {moved["data_key"]}


def declared_secrets(crowd: Crowd) -> dict[str, str | None]:
    """The secrets in the declared columns, and their keys."""
    reader, found = crowd.reader(), {}
    for unknown in UNKNOWN:
        for table, column in DECLARED:
            if table != unknown.table:
                continue
            for (stored,) in crowd.rows(f"SELECT {column} FROM {table} WHERE {column} IS NOT NULL"):
                if table == "setting":
                    payload = bytes(stored)
                else:
                    payload = decryptor.unbase64(stored if table == "plugin_store" else json.loads(stored)["auth"]["token"])
                value = decryptor.decrypt(payload, crowd.shaped.secret_key.encode(), reader.data_key)
                found[value.plaintext.decode()] = value.key_id
    return found
