"""An independent reader of Grafana's secrets, for tests: hashlib and cryptography, no line shared with `lambda/`.

Written from the format's description alone, so that a misunderstanding in the product cannot hide in its own test.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from cryptography.hazmat.decrepit.ciphers.modes import CFB
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES

RAW_COLUMNS = {("dashboard_snapshot", "dashboard_encrypted")}
AS_JSON = {("dashboard_snapshot", "dashboard_encrypted"), ("secrets", "value")}


@dataclass(frozen=True)
class Found:
    """A value as it stands: its plaintext, and the data key it is under (None: secret_key)."""

    plaintext: bytes
    key_id: str | None


def unbase64(text: str | bytes) -> bytes:
    """Standard base64, padded or not."""
    raw = text.encode() if isinstance(text, str) else text
    raw = raw.rstrip(b"=")
    return base64.b64decode(raw + b"=" * (-len(raw) % 4), validate=True)


def decrypt(payload: bytes, secret_key: bytes, data_key: Callable[[str], bytes]) -> Found:
    """Reads one payload."""
    key_id, password = None, secret_key
    if payload.startswith(b"#"):
        _, encoded, payload = payload.split(b"#", 2)
        key_id = unbase64(encoded).decode()
        password = data_key(key_id)
    algorithm = "aes-cfb"
    if payload.startswith(b"*"):
        _, name, payload = payload.split(b"*", 2)
        algorithm = unbase64(name).decode() if name else "aes-cfb"
    salt, body = payload[:8], payload[8:]
    key = _derived(password, salt)
    if algorithm == "aes-gcm":
        return Found(AESGCM(key).decrypt(body[:12], body[12:], None), key_id)
    if algorithm != "aes-cfb":
        raise AssertionError(f"unknown algorithm {algorithm}")
    stream = Cipher(AES(key), CFB(body[:16])).decryptor()
    return Found(stream.update(body[16:]) + stream.finalize(), key_id)


@functools.lru_cache(maxsize=4096)  # half the values of a database have few salts, since a writer pays for each
def _derived(password: bytes, salt: bytes) -> bytes:
    return hashlib.pbkdf2_hmac("sha256", password, salt, 10_000, 32)


def decrypt_as_8(payload: bytes, secret_key: bytes, data_key: Callable[[str], bytes]) -> Found:
    """Reads one payload as Grafana 8.x without envelopes does: whatever stands there is a salt, an IV and a ciphertext."""
    stream = Cipher(AES(_derived(secret_key, payload[:8])), CFB(payload[8:24])).decryptor()
    return Found(stream.update(payload[24:]) + stream.finalize(), None)


class Reader:
    """Reads values of one database. `unwrap` has a function for each further provider of either store: a row's encrypted_data to its 16 bytes.

    `manager_key` is the secrets manager's own secret_key; its values (`split-gcm`) cannot be read without. `payload` reads one payload of Grafana's
    own store. Where a `secret_key` is being changed, one reader for each key reads what is under that key, and nothing else.
    """

    def __init__(
        self, engine: sa.Engine, secret_key: str, unwrap: Mapping[str, Callable[[bytes], bytes]] | None = None, manager_key: str | None = None,
        payload: Callable[[bytes, bytes, Callable[[str], bytes]], Found] = decrypt,
    ) -> None:  # fmt: skip
        self._engine, self._secret_key, self._manager_key = engine, secret_key.encode(), (manager_key or "").encode()
        self._payload = payload
        self._unwrapped: dict[str, bytes] = {}
        own = {"secretKey.v1": lambda wrapped: decrypt(wrapped, self._secret_key, _no_key).plaintext}
        self._unwrap: dict[str, Callable[[bytes], bytes]] = {**own, **(unwrap or {})}
        with engine.connect() as connection:
            rows = connection.execute(sa.text("SELECT name, provider, encrypted_data, active FROM data_keys")).all()
        self.rows = {row.name: (row.provider, bytes(row.encrypted_data), bool(row.active)) for row in rows}

    def data_key(self, key_id: str) -> bytes:
        """The unwrapped key."""
        if key_id not in self._unwrapped:
            provider, wrapped, _ = self.rows[key_id]
            self._unwrapped[key_id] = self._unwrap[provider](wrapped)
        return self._unwrapped[key_id]

    def read(self, entry: Mapping[str, Any]) -> Found:
        """The value that an entry of expected.json describes, as the database holds it now."""
        if entry.get("form") == "split-gcm":
            return self._read_split(entry)
        quote = self._engine.dialect.identifier_preparer.quote
        condition = " AND ".join(f"{quote(name)} = :{name}" for name in entry["pk"])
        with self._engine.connect() as connection:
            stored = connection.execute(sa.text(f"SELECT {quote(entry['column'])} FROM {quote(entry['table'])} WHERE {condition}"), entry["pk"]).scalar_one()
        if (entry["table"], entry["column"]) in RAW_COLUMNS:
            return self._payload(bytes(stored), self._secret_key, self.data_key)
        if entry["path"]:
            stored = json.loads(stored)
            for step in entry["path"]:
                stored = stored[step]
        return self._payload(unbase64(stored), self._secret_key, self.data_key)

    def _read_split(self, entry: Mapping[str, Any]) -> Found:
        """A value of the secrets manager: its data key stands in a column beside it, and keys belong to a namespace."""
        value = "SELECT encrypted_data, data_key_id FROM secret_encrypted_value WHERE namespace = :namespace AND name = :name AND version = :version"
        key = "SELECT provider, encrypted_data FROM secret_data_key WHERE namespace = :namespace AND uid = :uid"
        with self._engine.connect() as connection:
            stored, key_id = connection.execute(sa.text(value), entry["pk"]).one()
            provider, wrapped = connection.execute(sa.text(key), {"namespace": entry["pk"]["namespace"], "uid": key_id}).one()
        unwrap = self._unwrap.get(provider)
        data_key = decrypt(bytes(wrapped), self._manager_key, _no_key).plaintext if unwrap is None else unwrap(bytes(wrapped))
        return Found(decrypt(bytes(stored), data_key, _no_key).plaintext, key_id)


def matches(entry: Mapping[str, Any], plaintext: bytes) -> bool:
    """Whether `plaintext` is what the entry expects; secrets and snapshots are compared as JSON, since Grafana chose the order of keys."""
    if "plaintext_sha256" in entry:
        return bool((len(plaintext), hashlib.sha256(plaintext).hexdigest()) == (entry["plaintext_len"], entry["plaintext_sha256"]))
    wanted: bytes = base64.b64decode(entry["plaintext_b64"]) if "plaintext_b64" in entry else entry["plaintext"].encode()
    if (entry["table"], entry["column"]) in AS_JSON:
        try:
            return bool(json.loads(plaintext) == json.loads(wanted))
        except ValueError:
            return plaintext == wanted
    return plaintext == wanted


def _no_key(key_id: str) -> bytes:
    raise AssertionError(f"a data key is not wrapped by the data key {key_id}")
