"""A secrets manager of any 12.x shape: its data keys, values in both forms and snapshots, and the independent reading of them.

Every value is read as Grafana does: its key is looked up by namespace and uid, so that a key of another namespace is none.
Source: grafana-format.md 6; Grafana pkg/registry/apis/secret/encryption, pkg/storage/secret (12.3, 12.4).
"""

from __future__ import annotations

import base64
import json
import os
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from reencrypt.grafana import cipher, split_form
from reencrypt.grafana.payload import GCM_PREFIX
from reencrypt.grafana.settings import DatabaseSettings
from reencrypt.operations.workspace import Workspace
from reencrypt.providers.awskms import KmsOptions
from reencrypt.providers.registry import manager_providers_for
from tests.support import decryptor, shapes
from tests.support.lifecycle import LifeRun, arn
from tests.support.shapes import DERIVE, Entry, Shape, Shaped

V1, V2, KMS = "secret_key.v1", "secret_key.v2", "aws_kms.v1"
SALT = b"*#\x00\xff`abc"
LONG_AGO = 1_700_000_000
VALUES = "secret_encrypted_value"
Where = dict[str, Any]


@dataclass
class ManagerRun(LifeRun):
    """A LifeRun whose secrets manager has a KMS key too."""

    def workspace(self) -> Workspace:
        self.account.keys.setdefault(arn(KMS), os.urandom(32))
        without = replace(self.settings, manager=replace(self.settings.manager, kms={}))
        return replace(super().workspace(), manager_providers=lambda: {**manager_providers_for(without, KmsOptions()), KMS: self.account.provider(KMS)})


@dataclass
class Manager:
    """A secrets manager with its database. `secret_keys` are those of its sections, `values` what is in it, `security` more lines of [security]."""

    shaped: Shaped
    database: DatabaseSettings
    runs: ManagerRun
    provider: str = V1
    secret_keys: dict[str, str] = field(default_factory=lambda: {V1: "the manager's own key", V2: "the manager's second key"})
    old_secret_keys: dict[str, str] = field(default_factory=dict)
    keys: dict[str, bytes] = field(default_factory=dict)
    values: list[Entry] = field(default_factory=list)
    security: tuple[str, ...] = ()

    @property
    def joined(self) -> bool:
        """Whether the column data_key_id is absent."""
        return self.shaped.shape is Shape.V12_JOINED

    def run(self, mode: str, **options: Any) -> dict[str, Any]:
        lines = [*self.security, "[secrets_manager]", f"encryption_provider = {self.provider}", f"[secrets_manager.encryption.{KMS}]", f"key_id = {arn(KMS)}"]
        for provider in sorted({*self.secret_keys, *self.old_secret_keys}):
            lines.append(f"[secrets_manager.encryption.{provider}]")
            lines += [f"secret_key = {self.secret_keys[provider]}"] if provider in self.secret_keys else []
            lines += [f"old_secret_key = {self.old_secret_keys[provider]}"] if provider in self.old_secret_keys else []
        self.runs.settings = shapes.settings(self.shaped, self.database, "\n".join(lines))
        return self.runs.run(mode, **options)

    def do(self, mode: str, **options: Any) -> dict[str, Any]:
        """A run that succeeds and loses nothing."""
        report = self.run(mode, **options)
        assert (report["outcome"], report["error"], report["unreadable"]) == ("succeeded", None, []), (mode, report["headline"], report["error"])
        return report

    def refused(self, error: str, reason: str, mode: str, **options: Any) -> None:
        """A run that is refused and writes nothing."""
        before = shapes.picture(self.shaped.engine)
        report = self.run(mode, **options)
        assert report["error"] is not None, report["headline"]
        assert (report["outcome"], report["error"]["name"]) == ("failed", error), report["error"]
        assert reason in report["error"]["message"], report["error"]
        assert shapes.picture(self.shaped.engine) == before

    def add_key(self, namespace: str, uid: str, *, active: bool, days: int, key: bytes | None = None) -> None:
        """A key that Grafana made `days` ago, wrapped by secret_key.v1."""
        self.keys[uid] = key or os.urandom(16)
        made = self.shaped.now - timedelta(days=days)
        wrapped = GCM_PREFIX + cipher.encrypt_gcm(self.keys[uid], DERIVE(self.secret_keys[V1].encode(), SALT), SALT)
        shapes.insert(
            self.shaped.engine, "secret_data_key", uid=uid, namespace=namespace, label=f"{made:%Y-%m-%d}@{V1}", active=active, provider=V1,
            encrypted_data=wrapped, created=made, updated=made,
        )  # fmt: skip

    def sealed(self, uid: str, plaintext: str) -> bytes:
        return GCM_PREFIX + cipher.encrypt_gcm(plaintext.encode(), DERIVE(self.keys[uid], SALT), SALT)

    def add(self, namespace: str, name: str, uid: str, plaintext: str, *, version: int = 1, joined: bool = False) -> Where:
        """A value; in the joined form as Grafana wrote it before it had the column data_key_id."""
        payload, where = self.sealed(uid, plaintext), {"namespace": namespace, "name": name, "version": version}
        self.add_stored(where, split_form.joined(payload, uid.encode()) if joined else payload, "" if joined else uid)
        self.values.append({"table": VALUES, "pk": where, "namespace": namespace, "plaintext": plaintext})
        return where

    def add_stored(self, where: Where, encrypted_data: bytes, uid: str) -> None:
        """A row with these bytes and this id, which stand in one column where there is no data_key_id."""
        parts = {"encrypted_data": split_form.joined(encrypted_data, uid.encode())} if self.joined else {"encrypted_data": encrypted_data, "data_key_id": uid}
        shapes.insert(self.shaped.engine, VALUES, **where, **parts, created=LONG_AGO, updated=LONG_AGO)

    def add_snapshot(self, table: str, namespace: str, uid: str, title: str) -> Where:
        """A snapshot of unified storage, as versions after 12.4.3 keep it."""
        plaintext, guid = json.dumps({"title": title, "panels": list(range(50))}), f"{table}-{namespace}"
        pair = {"dataKeyId": uid, "encryptedData": base64.b64encode(self.sealed(uid, plaintext)).decode()}
        value = '{"kind": "Snapshot",  "spec":{"title":"%s", "dashboardEncrypted": %s},"status":{ }}' % (title, json.dumps(pair))  # noqa: UP031  (JSON is all braces)
        shapes.insert(
            self.shaped.engine, table, guid=guid, resource_version=7, group="dashboard.grafana.app", resource="snapshots", namespace=namespace,
            name=f"s-{namespace}", value=value, action=1,
        )  # fmt: skip
        self.values.append({"table": table, "pk": {"guid": guid}, "namespace": namespace, "plaintext": plaintext})
        return {"guid": guid}

    def one(self, statement: str, **parameters: Any) -> Any:
        with self.shaped.engine.connect() as connection:
            return connection.execute(sa.text(statement), parameters).one()

    def parts(self, entry: Entry) -> tuple[bytes, str]:
        """Payload and uid of a value as they stand, by Grafana's own rules."""
        if entry["table"] != VALUES:
            document = json.loads(self.one(f"SELECT value FROM {entry['table']} WHERE guid = :guid", **entry["pk"])[0])
            pair = document["spec"]["dashboardEncrypted"]
            return base64.b64decode(pair["encryptedData"], validate=True), pair["dataKeyId"]
        columns = "encrypted_data" if self.joined else "encrypted_data, data_key_id"
        row = self.one(f"SELECT {columns} FROM {VALUES} WHERE namespace = :namespace AND name = :name AND version = :version", **entry["pk"])
        stored, uid = bytes(row[0]), "" if self.joined else row[1]
        if not uid:
            _, encoded, stored = stored.split(b"#", 2)
            uid = decryptor.unbase64(encoded).decode()
        return stored, uid

    def there(self) -> list[tuple[str, str, bool]]:
        """(uid, provider, active) of each value's key. Fails where a value is not as it was, or its key is not of its namespace."""
        found = []
        for entry in self.values:
            payload, uid = self.parts(entry)
            key = self.one("SELECT provider, encrypted_data, active FROM secret_data_key WHERE namespace = :n AND uid = :u", n=entry["namespace"], u=uid)
            opened = decryptor.decrypt(payload, self.opened(key.provider, bytes(key.encrypted_data)), _no_key).plaintext
            assert opened.decode() == entry["plaintext"], f"lost: {entry['pk']}"
            found.append((uid, key.provider, bool(key.active)))
        return found

    def opened(self, provider: str, wrapped: bytes) -> bytes:
        if provider == KMS:
            return self.runs.account.opener(wrapped)
        return decryptor.decrypt(wrapped, self.secret_keys[provider].encode(), _no_key).plaintext

    def of_table(self, table: str) -> list[dict[str, Any]]:
        with self.shaped.engine.connect() as connection:
            return [dict(row) for row in connection.execute(sa.text(f"SELECT * FROM {table}")).mappings()]


def _no_key(key_id: str) -> bytes:
    raise AssertionError(f"a payload of the secrets manager names {key_id}")
