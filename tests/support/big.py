"""Big databases, fast: 200 000 secrets in seconds, on every engine, for tests of memory and speed.

The columns that hold secrets have Grafana 12.4's types. Payloads are real envelopes, but many values share a salt: PBKDF2 would cost
minutes otherwise. Shares no code with `lambda/`: `decryptor.decrypt` reads what stands here.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from cryptography.hazmat.decrepit.ciphers.modes import CFB
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from sqlalchemy.dialects import mysql

_NOW = "2026-01-01 00:00:00"
_BATCH = 5000
_BATCH_BYTES = 4 << 20

_METADATA = sa.MetaData()
# 4 bytes on PostgreSQL, as Grafana's SERIAL; SQLite counts only in a column whose type is INTEGER.
_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite", "postgresql")
_MEDIUM = sa.Text().with_variant(mysql.MEDIUMTEXT(), "mysql", "mariadb")
_MEDIUM_BYTES = sa.LargeBinary().with_variant(mysql.MEDIUMBLOB(), "mysql", "mariadb")


def _table(name: str, *columns: sa.Column[Any]) -> sa.Table:
    moments = [sa.Column(moment, sa.DateTime, nullable=False) for moment in ("created", "updated")]
    return sa.Table(name, _METADATA, *columns, *moments, mysql_charset="utf8mb4", mysql_collate="utf8mb4_unicode_ci")


DATA_KEYS = _table(
    "data_keys",
    sa.Column("name", sa.String(100), primary_key=True),
    sa.Column("active", sa.Boolean, nullable=False),
    sa.Column("scope", sa.String(30), nullable=False),
    sa.Column("provider", sa.String(50), nullable=False),
    sa.Column("encrypted_data", sa.LargeBinary, nullable=False),
    sa.Column("label", sa.String(100), server_default=""),
)
SECRETS = _table(
    "secrets",
    sa.Column("id", _ID, primary_key=True),
    sa.Column("org_id", sa.BigInteger, nullable=False),
    sa.Column("namespace", sa.String(255), nullable=False),
    sa.Column("type", sa.String(255), nullable=False),
    sa.Column("value", sa.Text),
)
DATA_SOURCE = _table(
    "data_source",
    sa.Column("id", _ID, primary_key=True),
    sa.Column("org_id", sa.BigInteger, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("type", sa.String(255), nullable=False),
    sa.Column("name", sa.String(190), nullable=False),
    sa.Column("access", sa.String(255), nullable=False),
    sa.Column("url", sa.String(255), nullable=False),
    sa.Column("basic_auth", sa.Boolean, nullable=False),
    sa.Column("is_default", sa.Boolean, nullable=False),
    sa.Column("secure_json_data", _MEDIUM),
    sa.Column("uid", sa.String(40), nullable=False),
)
SNAPSHOT = _table(
    "dashboard_snapshot",
    sa.Column("id", _ID, primary_key=True),
    sa.Column("name", sa.String(255), nullable=False),
    sa.Column("key", sa.String(190), nullable=False),
    sa.Column("delete_key", sa.String(190), nullable=False),
    sa.Column("org_id", sa.BigInteger, nullable=False),
    sa.Column("user_id", sa.BigInteger, nullable=False),
    sa.Column("external", sa.Boolean, nullable=False),
    sa.Column("external_url", sa.String(255), nullable=False),
    sa.Column("dashboard", _MEDIUM, nullable=False),
    sa.Column("expires", sa.DateTime, nullable=False),
    sa.Column("dashboard_encrypted", _MEDIUM_BYTES),
)


@dataclass
class Sealer:
    """Encrypts as Grafana does, under one data key, with `salts` salts in turn (each costs a key derivation, here and for every reader)."""

    key_id: str = "big0datakey0aa"
    data_key: bytes = field(default_factory=lambda: os.urandom(16), repr=False)
    salts: int = 1
    _derived: Iterator[tuple[bytes, bytes]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        salts = [b"%08d" % number for number in range(self.salts)]
        self._derived = itertools.cycle([(salt, hashlib.pbkdf2_hmac("sha256", self.data_key, salt, 10_000, 32)) for salt in salts])

    def seal(self, plaintext: bytes) -> bytes:
        """The payload of `plaintext`: an envelope with AES-CFB."""
        salt, key = next(self._derived)
        iv = os.urandom(16)
        stream = Cipher(AES(key), CFB(iv)).encryptor()
        return _envelope(self.key_id) + salt + iv + stream.update(plaintext) + stream.finalize()


def create_tables(engine: sa.Engine) -> None:
    """Makes the tables below where they are missing; a database that Grafana made needs none."""
    _METADATA.create_all(engine)


def add_data_key(engine: sa.Engine, sealer: Sealer, secret_key: str) -> None:
    """Adds the active data key of `sealer`, wrapped by `secretKey.v1`."""
    wrapped = Sealer(data_key=secret_key.encode()).seal(sealer.data_key).removeprefix(_envelope("big0datakey0aa", b""))
    row = (sealer.key_id, True, "root", "secretKey.v1", wrapped, "2026-01-01/root@secretKey.v1", _NOW, _NOW)
    _insert(engine, DATA_KEYS, [row])


def fill_secrets(engine: sa.Engine, rows: int, sealer: Sealer, plaintext: Callable[[int], bytes] = lambda number: b"password-%d" % number) -> None:
    """Adds `rows` values to `secrets`, with unpadded base64; number 0 to rows - 1."""
    values = (base64.b64encode(sealer.seal(plaintext(number))).rstrip(b"=").decode() for number in range(rows))
    _insert(engine, SECRETS, ((1, f"big-{number}", "extsvc-token", value, _NOW, _NOW) for number, value in enumerate(values)))


def fill_data_sources(
    engine: sa.Engine, rows: int, sealer: Sealer, secrets: int = 2, plaintext: Callable[[int], bytes] = lambda number: b"password-%d" % number
) -> None:
    """Adds `rows` data sources with `secrets` secrets each, all of them `plaintext(row)`."""
    names = [f"httpHeaderValue{number}" for number in range(1, secrets + 1)]
    maps = ({name: base64.b64encode(sealer.seal(plaintext(row))).decode() for name in names} for row in range(rows))
    texts = (json.dumps(secure, separators=(",", ":")) for secure in maps)
    _insert(
        engine,
        DATA_SOURCE,
        ((1, 1, "prometheus", f"big {row}", "proxy", "http://127.0.0.1", False, False, text, f"big{row}", _NOW, _NOW) for row, text in enumerate(texts)),
    )


def fill_snapshots(engine: sa.Engine, rows: int, sealer: Sealer, size: int) -> None:
    """Adds `rows` dashboard snapshots of `size` bytes of JSON each.

    At most 7 MB on MariaDB: a packet holds 16 MB as it comes, and PyMySQL sends bytes as hexadecimal digits.
    """
    empty = len(json.dumps({"title": "", "panels": []}))
    plaintext = json.dumps({"title": "x" * (size - empty), "panels": []}).encode()
    _insert(
        engine,
        SNAPSHOT,
        ((f"big {row}", f"big{row}", f"bigdelete{row}", 1, 1, False, "", "{}", _NOW, sealer.seal(plaintext), _NOW, _NOW) for row in range(rows)),
    )


def _insert(engine: sa.Engine, table: sa.Table, rows: Iterable[tuple[Any, ...]]) -> None:
    """One transaction; a tuple has the table's columns in their order, without the id that the database counts."""
    quote = engine.dialect.identifier_preparer.quote
    names = [quote(column.name) for column in table.columns if column.name != "id"]
    target = f"INSERT INTO {quote(table.name)} ({', '.join(names)})"
    connection = engine.raw_connection()
    try:
        cursor: Any = connection.cursor()
        if engine.dialect.name == "postgresql":
            with cursor.copy(target.replace("INSERT INTO", "COPY", 1) + " FROM STDIN") as copy:
                for row in rows:
                    copy.write_row(row)
        else:
            mark = "?" if engine.dialect.name == "sqlite" else "%s"
            statement = f"{target} VALUES ({', '.join([mark] * len(names))})"  # PyMySQL makes one statement of many rows out of this
            for batch in _batches(rows):
                cursor.executemany(statement, batch)
        connection.commit()
    finally:
        connection.close()


def _batches(rows: Iterable[tuple[Any, ...]]) -> Iterator[list[tuple[Any, ...]]]:
    """Lists of bounded length and size, so that memory stays flat."""
    batch: list[tuple[Any, ...]] = []
    size = 0
    for row in rows:
        batch.append(row)
        size += sum(len(value) for value in row if isinstance(value, (str, bytes)))
        if len(batch) >= _BATCH or size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _envelope(key_id: str, ending: bytes = b"*YWVzLWNmYg*") -> bytes:
    return b"#" + base64.b64encode(key_id.encode()).rstrip(b"=") + b"#" + ending
