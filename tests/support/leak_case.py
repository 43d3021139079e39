"""A sample database under known secrets, the functions configured for it, and the search over all that comes out of them (tests/support/leaks.py)."""

from __future__ import annotations

import contextlib
import io
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from cli.sample import ExpectedValue
from reencrypt.database import database as databases
from tests.support import decryptor
from tests.support.functions import JOURNAL, RUNS, Functions
from tests.support.leaks import Emission, Needle, Searcher, told

SECRET_KEY, OTHER_KEY = "known-secret-key-41ab", "known-wrong-key-77cd"
PASSWORD = "known passw0rd/äé+&<5e>"
ACCESS_KEY, SECRET_ACCESS_KEY, SESSION_TOKEN = "AKIAKNOWN0000000042", "known/secret+access/key/0123456789abcd", "known//session==token"
PROVIDER = "awskms.prod"
INI = f"""\
[security]
secret_key = {SECRET_KEY}
encryption_provider = {PROVIDER}
[security.encryption.{PROVIDER}]
key_id = alias/grafana
region = eu-north-1
access_key_id = {ACCESS_KEY}
secret_access_key = {SECRET_ACCESS_KEY}
session_token = {SESSION_TOKEN}
[database]
password = {PASSWORD}
"""
WRITE: dict[str, Any] = {"mode": "re-encrypt", "providerReady": True, "settleSeconds": 1}


class Case:
    """A sample database, the functions configured for it, and the search over all that comes out of them."""

    def __init__(self, functions: Functions, path: Path, secrets: list[ExpectedValue], log: io.StringIO) -> None:
        self.functions, self.path, self.log = functions, path, log
        self.extra: list[Emission] = []
        known = {"secret_key": SECRET_KEY, "wrong secret_key": OTHER_KEY, "password": PASSWORD, "access key": ACCESS_KEY}
        known |= {"secret access key": SECRET_ACCESS_KEY, "session token": SESSION_TOKEN}
        self.needles = [Needle(name, text.encode()) for name, text in known.items()]
        self.needles += [Needle(f"plaintext of {value.table}.{value.column} {value.primary_key} {value.path or ''}", value.plaintext) for value in secrets]
        self._secrets = secrets
        self.payloads: list[Needle] = []
        self.configure()
        self.note_ciphertexts()

    def configure(self, more: str = "", ini: str = INI) -> None:
        """Puts a grafana.ini in place: `ini`, with the sample as its database, and `more`."""
        self.functions.secrets["ini"] = f"{ini}\ntype = sqlite3\npath = {self.path}\n{more}"

    def sql(self, *statements: str) -> None:
        with contextlib.closing(sqlite3.connect(self.path)) as connection, connection:
            for statement in statements:
                connection.execute(statement)

    def note_ciphertexts(self) -> None:
        """Payloads as they stand now: they are for the database and the journal, not for logs and reports."""
        if not self.path.read_bytes().startswith(b"SQLite format 3"):
            return  # a case has put a text there
        with contextlib.closing(sqlite3.connect(self.path)) as connection:
            for table, column in dict.fromkeys((value.table, value.column) for value in self._secrets):
                for key, stored in connection.execute(f'SELECT id, "{column}" FROM "{table}"'):
                    whole = stored if isinstance(stored, bytes) else (stored or "").encode()
                    texts = [text.encode() for text in _strings(whole)] or [whole]
                    self.payloads += [Needle(f"payload of {table}.{column} {key}", text[-40:], in_pieces=False) for text in texts if len(text) > 40]

    def fails_to_connect(self, error: BaseException) -> str | None:
        """A run in which the engine raises `error`, instead of giving a connection."""

        def connect(*_: object, **__: object) -> object:
            raise error

        with self.functions.patch.context() as patch:
            patch.setattr(sa.Engine, "connect", connect)
            patch.setattr(databases, "BUSY_ATTEMPTS", 1)
            return self.functions.run(WRITE)

    def data_keys(self) -> Iterator[Needle]:
        unwrap = {PROVIDER: lambda wrapped: self.functions.kms.decrypt(CiphertextBlob=wrapped)["Plaintext"]}
        with contextlib.suppress(sa.exc.DatabaseError):  # a case may have put a text in its place
            reader = decryptor.Reader(sa.create_engine(f"sqlite:///{self.path}"), SECRET_KEY, unwrap)
            yield from (Needle(f"data key {key_id}", reader.data_key(key_id)) for key_id in reader.rows)

    def leaks(self) -> str:
        """What came out that should not have, as text; '' where nothing did."""
        self.functions.kms.fails = None
        self.note_ciphertexts()
        emitted = [*self.extra, *self.functions.emissions, *self.functions.objects(RUNS), self.functions.items(), Emission("log", self.log.getvalue().encode())]
        secrets = Searcher([*self.needles, *self.data_keys()])
        assert len(secrets.names) > 50
        assert len(emitted) > 1
        found = secrets.search([*emitted, *self.functions.objects(JOURNAL)])
        return told([*found, *Searcher(self.payloads).search(emitted)])


def _strings(whole: bytes) -> list[str]:
    try:
        document = json.loads(whole)
    except ValueError:
        return []
    stack, found = [document], list[str]()
    while stack:
        here = stack.pop()
        stack += list(here.values()) if isinstance(here, dict) else here if isinstance(here, list) else []
        found += [here] if isinstance(here, str) else []
    return found
