"""Grafana's secrets service, as far as a run can notice it: payloads, data keys, and the two caches of data keys.

Written from the description of the formats, with no line shared with `lambda/`: what it cannot read, a Grafana cannot read.
Source: Grafana pkg/services/secrets/manager/manager.go and cache.go (12.4).
"""

from __future__ import annotations

import base64
import hashlib
import os
import random
import string
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Protocol

import sqlalchemy as sa
from cryptography.hazmat.decrepit.ciphers.modes import CFB
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES

from bench.simulation.statements import patiently

SECRET_KEY_PROVIDER = "secretKey.v1"  # noqa: S105 - a provider's name
CACHE_TTL = timedelta(minutes=15)  # [security.encryption] data_keys_cache_ttl
CAUTION = timedelta(minutes=10)  # a younger key is not cached for writing
_TRIES = 50  # a lock that stays is for the writer to find, not for the cache
CFB_PREFIX = b"*YWVzLWNmYg*"

Derive = Callable[[bytes, bytes], bytes]
Steps = Generator[None, None, bytes]


class Wrapper(Protocol):
    """What wraps and unwraps data keys: a KMS key."""

    def wrap(self, data_key: bytes, /) -> bytes: ...
    def unwrap(self, wrapped: bytes, /) -> bytes: ...


def pbkdf2(password: bytes, salt: bytes) -> bytes:
    """Grafana's key derivation."""
    return hashlib.pbkdf2_hmac("sha256", password, salt, 10_000, 32)


@dataclass
class _Cached:
    name: str
    key: bytes = field(repr=False)
    until: datetime


class SecretsService:
    """The secrets service of one Grafana process. Generators pause after each of their SQL statements.

    `provider` is `[security] encryption_provider` of this process; `wrappers` are further providers by name. `derive` stands for PBKDF2.
    """

    def __init__(
        self, engine: sa.Engine, secret_key: bytes, provider: str, wrappers: Mapping[str, Wrapper], now: Callable[[], datetime],
        *, ttl: timedelta = CACHE_TTL, derive: Derive = pbkdf2,
    ) -> None:  # fmt: skip
        self.provider = provider
        self._engine, self._secret_key, self._wrappers, self._now, self._ttl, self._derive = engine, secret_key, wrappers, now, ttl, derive
        self._by_id: dict[str, _Cached] = {}
        self._by_label: dict[str, _Cached] = {}

    def encrypt(self, plaintext: bytes) -> Steps:
        """A payload under the current data key of the provider, from the cache while that holds."""
        cached = yield from self._current()
        return b"#" + _rawstd(cached.name.encode()) + b"#" + seal(plaintext, cached.key, self._derive)

    def decrypt(self, payload: bytes) -> Steps:
        """The plaintext. Raises LookupError for a data key that is in no row; under a wrong key it is garbage."""
        password = self._secret_key
        if payload[:1] == b"#":
            _, encoded, payload = payload.split(b"#", 2)
            password = yield from self._data_key(_unbase64(encoded).decode())
        return unseal(payload, password, self._derive)

    @staticmethod
    def key_of(payload: bytes) -> str | None:
        """The id of the data key that `payload` is under; None for secret_key."""
        return _unbase64(payload.split(b"#", 2)[1]).decode() if payload[:1] == b"#" else None

    def forget(self) -> None:
        """A fresh process: every cache is empty."""
        self._by_id.clear()
        self._by_label.clear()

    def rotate(self) -> Generator[None, None, None]:
        """`rotate-data-keys`: deactivates every key; only this process forgets its cache, the others write on for their TTL."""
        statement, parameters = sa.text("UPDATE data_keys SET active = :no WHERE active = :yes"), {"no": False, "yes": True}
        yield from patiently(self._engine, lambda connection: connection.execute(statement, parameters), _TRIES)
        self.forget()

    def insert_key(self, name: str, provider: str, *, active: bool, age: timedelta) -> bytes:
        """A row of data_keys as a Grafana of some days ago left it; returns the key."""
        key = os.urandom(16)
        for _ in self._insert(name, key, provider, active, self._now() - age):
            pass
        return key

    def _current(self) -> Generator[None, None, _Cached]:
        now, provider = self._now(), self.provider  # a process that is restarted meanwhile ends what it does as what it was
        label = f"{now:%Y-%m-%d}/root@{provider}"
        cached = self._by_label.get(label)
        if cached is not None and now < cached.until:
            return cached
        statement = sa.text("SELECT name, encrypted_data, created FROM data_keys WHERE label = :label AND active = :yes LIMIT 1")
        row = yield from patiently(self._engine, lambda connection: connection.execute(statement, {"label": label, "yes": True}).first(), _TRIES)
        yield
        if row is None:
            name, key = f"a{random.getrandbits(60):012x}f", os.urandom(16)
            yield from self._insert(name, key, provider, True, now)
            self._by_id[name] = _Cached(name, key, now + self._ttl)
            yield
            return self._by_id[name]
        found = _Cached(row.name, self._unwrap(provider, bytes(row.encrypted_data)), now + self._ttl)
        if now - _moment(row.created) > CAUTION:
            self._by_label[label] = found
        return found

    def _data_key(self, name: str) -> Steps:
        cached = self._by_id.get(name)
        if cached is not None and self._now() < cached.until:
            return cached.key
        statement = sa.text("SELECT name, provider, encrypted_data FROM data_keys WHERE name = :name")
        row = yield from patiently(self._engine, lambda connection: connection.execute(statement, {"name": name}).first(), _TRIES)
        yield
        if row is None:
            raise LookupError(f"data key not found: {name}")
        self._by_id[name] = _Cached(name, self._unwrap(row.provider, bytes(row.encrypted_data)), self._now() + self._ttl)
        return self._by_id[name].key

    def _unwrap(self, provider: str, wrapped: bytes) -> bytes:
        return unseal(wrapped, self._secret_key, self._derive) if provider == SECRET_KEY_PROVIDER else self._wrappers[provider].unwrap(wrapped)

    def _insert(self, name: str, key: bytes, provider: str, active: bool, created: datetime) -> Generator[None, None, None]:
        wrapped = seal(key, self._secret_key, self._derive) if provider == SECRET_KEY_PROVIDER else self._wrappers[provider].wrap(key)
        values = {
            "name": name, "active": active, "scope": "root", "provider": provider, "data": wrapped, "at": f"{created:%Y-%m-%d %H:%M:%S}",
            "label": f"{created:%Y-%m-%d}/root@{provider}",
        }  # fmt: skip
        statement = sa.text(
            "INSERT INTO data_keys (name, active, scope, provider, encrypted_data, created, updated, label) "
            "VALUES (:name, :active, :scope, :provider, :data, :at, :at, :label)"
        )
        yield from patiently(self._engine, lambda connection: connection.execute(statement, values), _TRIES)


def seal(plaintext: bytes, password: bytes, derive: Derive, *, prefix: bytes = CFB_PREFIX) -> bytes:
    """`*YWVzLWNmYg*` and a CFB body with a salt of its own; without `prefix` as Grafana up to 8.5 wrote it."""
    salt, iv = "".join(random.choices(string.ascii_letters + string.digits, k=8)).encode(), os.urandom(16)  # noqa: S311 - no strength asked
    stream = Cipher(AES(derive(password, salt)), CFB(iv)).encryptor()
    return prefix + salt + iv + stream.update(plaintext) + stream.finalize()


def unseal(payload: bytes, password: bytes, derive: Derive) -> bytes:
    """The plaintext of a payload without `#`."""
    algorithm = b"aes-cfb"
    if payload[:1] == b"*":
        _, name, payload = payload.split(b"*", 2)
        algorithm = _unbase64(name) or algorithm
    key, body = derive(password, payload[:8]), payload[8:]
    if algorithm == b"aes-gcm":
        return AESGCM(key).decrypt(body[:12], body[12:], None)
    stream = Cipher(AES(key), CFB(body[:16])).decryptor()
    return stream.update(body[16:]) + stream.finalize()


def _rawstd(data: bytes) -> bytes:
    return base64.b64encode(data).rstrip(b"=")


def _unbase64(text: bytes) -> bytes:
    return base64.b64decode(text.rstrip(b"=") + b"=" * (-len(text.rstrip(b"=")) % 4), validate=True)


def _moment(value: object) -> datetime:
    moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    if not isinstance(moment, datetime):
        raise TypeError("created is no date")
    return moment.replace(tzinfo=UTC)
