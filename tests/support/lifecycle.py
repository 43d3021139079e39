"""The life of a database's keys: runs of every mode one after the other, and after each the proof that not one value was lost.

The proof shares no line with `lambda/`: the independent decryptor reads every value of expected.json, and a snapshot says what else has changed.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import sqlalchemy as sa
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from reencrypt.grafana.secret_columns import ALL_SYSTEMS, secret_columns
from reencrypt.grafana.settings import KmsSection, SecretKeyCandidate
from reencrypt.operations.workspace import Workspace
from reencrypt.providers import Provider
from reencrypt.providers.awskms import AwsKmsProvider, KmsOptions
from reencrypt.providers.secret_key import SecretKeyProvider
from tests.support import decryptor, snapshot
from tests.support.golden import GoldenDatabase
from tests.support.local_run import LocalRun

SECRET_KEY = "secretKey.v1"
KMS_A, KMS_B = "awskms.first", "awskms.second"
NEVER_ENVELOPED = "alert_notification"  # its reader knows no data keys
KEY_TABLES = {"data_keys", "secret_data_key"}
CACHES = {"cache_data"}
SECRET_PLACES = {
    place
    for column in secret_columns(*ALL_SYSTEMS)
    for place in ((column.table, column.column), (column.table, column.data_key_id_column), (column.table, column.bump))
}
Entry = dict[str, Any]


def arn(provider: str) -> str:
    """The KMS key of a provider."""
    return f"arn:aws:kms:eu-north-1:111122223333:key/{provider.partition('.')[2]}"


@dataclass
class KmsAccount:
    """KMS in memory, as boto3's client: authenticated blobs that name their key. `disabled` keys refuse; `calls` lists the actions."""

    keys: dict[str, bytes] = field(default_factory=lambda: {arn(name): os.urandom(32) for name in (KMS_A, KMS_B)}, repr=False)
    calls: list[str] = field(default_factory=list)

    def encrypt(self, KeyId: str, Plaintext: bytes) -> dict[str, Any]:  # noqa: N803  (boto3's spelling)
        self.calls.append("encrypt")
        nonce, name = os.urandom(12), KeyId.encode()
        return {"CiphertextBlob": b"\x01\x02\x02\x00" + bytes([len(name)]) + name + nonce + AESGCM(self.keys[KeyId]).encrypt(nonce, Plaintext, name)}

    def decrypt(self, CiphertextBlob: bytes) -> dict[str, Any]:  # noqa: N803
        self.calls.append("decrypt")
        name, sealed = CiphertextBlob[5 : 5 + CiphertextBlob[4]], CiphertextBlob[5 + CiphertextBlob[4] :]
        try:
            plaintext = AESGCM(self.keys[name.decode()]).decrypt(sealed[:12], sealed[12:], name)
        except (InvalidTag, KeyError):
            raise AssertionError("not a blob of this account") from None
        return {"Plaintext": plaintext, "KeyId": name.decode()}

    def re_encrypt(self, CiphertextBlob: bytes, DestinationKeyId: str) -> dict[str, Any]:  # noqa: N803
        self.calls.append("re_encrypt")
        return self.encrypt(DestinationKeyId, self.decrypt(CiphertextBlob)["Plaintext"])

    def describe_key(self, KeyId: str) -> dict[str, Any]:  # noqa: N803
        return {"KeyMetadata": {"Arn": KeyId}}

    def provider(self, name: str) -> AwsKmsProvider:
        """The product's provider over this account."""
        return AwsKmsProvider(KmsSection(name, arn(name), "eu-north-1"), KmsOptions(), cast(Any, self))

    def opener(self, blob: bytes) -> bytes:
        """For the independent decryptor."""
        plaintext: bytes = self.decrypt(blob)["Plaintext"]
        return plaintext


@dataclass
class Clock:
    """The time of the runs: it passes only while a run settles, or where a test says so."""

    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@dataclass
class LifeRun(LocalRun):
    """A LocalRun with two KMS keys and a clock of its own."""

    account: KmsAccount = field(default_factory=KmsAccount)
    clock: Clock = field(default_factory=Clock)
    configured: tuple[str, ...] = (KMS_A, KMS_B)

    def __post_init__(self) -> None:
        self.settle = self.clock.advance

    def providers(self, candidate: SecretKeyCandidate) -> Mapping[str, Provider]:
        return {SECRET_KEY: SecretKeyProvider(candidate.value), **{name: self.account.provider(name) for name in self.configured}}

    def workspace(self) -> Workspace:
        return replace(super().workspace(), now=lambda: self.clock.now)


class Life:
    """One database and its configuration, which the steps of its life change."""

    def __init__(self, database: GoldenDatabase, folder: Path) -> None:
        self.database = database
        # One engine for all: on a server most of the time of many small readings would go into connecting.
        self.engine = database.engine if database.url.drivername == "sqlite" else sa.create_engine(database.url, pool_size=1)
        weakref.finalize(self, self.engine.dispose)
        self.secret_key: str = database.expected["secret_key"]
        self.manager_key: str = database.expected["secrets_manager_secret_key"]
        self.old_secret_key: str | None = None
        self.old_manager_key: str | None = None
        self.provider = SECRET_KEY
        self.values: list[Entry] = list(database.expected["values"])
        self.more = ""
        self.run_ = LifeRun(database.settings(self.ini), folder)
        self.account, self.clock = self.run_.account, self.run_.clock

    @property
    def ini(self) -> str:
        """What the configuration says beside [database]."""
        lines = ["", "[security]", f"secret_key = {self.secret_key}", f"encryption_provider = {self.provider}"]
        lines += [f"old_secret_key = {self.old_secret_key}"] if self.old_secret_key is not None else []
        for name in (KMS_A, KMS_B):
            lines += [f"[security.encryption.{name}]", f"key_id = {arn(name)}"]
        lines += ["[secrets_manager.encryption.secret_key.v1]", f"secret_key = {self.manager_key}"]
        lines += [f"old_secret_key = {self.old_manager_key}"] if self.old_manager_key is not None else []
        return "\n".join(lines) + "\n" + self.more

    def run(self, mode: str, **options: Any) -> dict[str, Any]:
        """The report of a run under the configuration as it is now."""
        self.run_.settings = self.database.settings(self.ini)
        return self.run_.run(mode, **options)

    def do(self, mode: str, **options: Any) -> dict[str, Any]:
        """A run that must succeed, with nothing unreadable."""
        report = self.run(mode, **options)
        assert (report["outcome"], report["error"], report["unreadable"]) == ("succeeded", None, []), (mode, report["headline"], report["unreadable"][:3])
        return report

    def change_secret_key(self, new: str, manager: str | None = None) -> None:
        """Puts a new secret_key into the configuration, beside the old one."""
        self.old_secret_key, self.secret_key = self.secret_key, new
        if manager is not None:
            self.old_manager_key, self.manager_key = self.manager_key, manager

    def forget_old_keys(self) -> None:
        """The configuration of a Grafana that starts with the new keys."""
        self.old_secret_key = self.old_manager_key = None

    def readers(self) -> Iterator[decryptor.Reader]:
        """One for each secret_key that is configured."""
        unwrap: dict[str, Callable[[bytes], bytes]] = dict.fromkeys((KMS_A, KMS_B), self.account.opener)
        yield decryptor.Reader(self.engine, self.secret_key, unwrap, self.manager_key)
        if self.old_secret_key is not None or self.old_manager_key is not None:
            old, manager = self.old_secret_key or self.secret_key, self.old_manager_key or self.manager_key
            yield decryptor.Reader(self.engine, old, unwrap, manager)

    def found(self) -> list[tuple[Entry, decryptor.Found, tuple[str, bytes, bool] | None]]:
        """Every value with the row of its data key, as the independent decryptor reads it. Fails where one is not what it was."""
        readers = list(self.readers())
        found = []
        for entry in self.values:
            value, reader = next(((value, reader) for reader in readers if (value := reading(reader, entry)) is not None), (None, None))
            assert value is not None, f"lost: {entry['table']}.{entry['column']} {entry['pk']} {entry['path']}"
            assert reader is not None
            found.append((entry, value, reader.rows.get(value.key_id) if value.key_id else None))
        return found

    def assert_under(self, provider: str | None) -> None:
        """Every value of Grafana's own store is under an active data key of `provider`, or (None) directly under secret_key."""
        for entry, value, row in self.found():
            if entry["form"] == "split-gcm":
                continue
            if provider is None or entry["table"] == NEVER_ENVELOPED:
                assert value.key_id is None, (entry["table"], entry["pk"], entry["path"])
                continue
            assert row is not None, (entry["table"], entry["pk"], entry["path"])
            assert (row[0], row[2]) == (provider, True), (entry["table"], entry["pk"], entry["path"])

    def snapshot(self) -> snapshot.Snapshot:
        return snapshot.take(self.engine)

    def execute(self, statement: str, **parameters: Any) -> int:
        with self.engine.begin() as connection:
            return connection.execute(sa.text(statement), parameters).rowcount

    def rows(self, statement: str, **parameters: Any) -> list[Any]:
        with self.engine.connect() as connection:
            return list(connection.execute(sa.text(statement), parameters).all())

    def keys(self) -> dict[str, tuple[str, bool]]:
        """The provider of each row of data_keys, and whether it is active."""
        return {row.name: (row.provider, bool(row.active)) for row in self.rows("SELECT name, provider, active FROM data_keys")}


def reading(reader: decryptor.Reader, entry: Entry) -> decryptor.Found | None:
    """What `reader` reads there if that is what the entry expects; None where it is anything else, or nothing."""
    try:
        found = reader.read(entry)
    except (ValueError, AssertionError, KeyError, InvalidTag, sa.exc.NoResultFound):
        return None
    return found if decryptor.matches(entry, found.plaintext) else None


def only_secrets_changed(before: snapshot.Snapshot, after: snapshot.Snapshot) -> None:
    """Nothing but secret columns, data keys and what is disposable has changed."""
    others = [
        change for change in snapshot.difference(before, after)
        if change[0] not in KEY_TABLES | CACHES and (change[0], change[2]) not in SECRET_PLACES
    ]  # fmt: skip
    assert others == []


def nothing_changed(before: snapshot.Snapshot, after: snapshot.Snapshot) -> None:
    assert snapshot.difference(before, after) == []
