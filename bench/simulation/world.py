"""A small Grafana database on one engine, made anew for each interleaving, and the settings under which both sides use it."""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import sqlalchemy as sa

from bench.simulation import secrets_service, tables
from reencrypt.database import connect, data_key_table
from reencrypt.database.database import Database
from reencrypt.database.schema import Schema
from reencrypt.grafana import cipher
from reencrypt.grafana.secret_columns import secret_columns
from reencrypt.grafana.settings import DatabaseSettings, GrafanaSettings, SecretKeyCandidate, load_settings
from reencrypt.operations import chunk
from reencrypt.providers import Provider
from tests.support import servers
from tests.support.local_run import KMS, FakeKms

SECRET_KEY = b"simulated-secret-key"
ENGINES = ("sqlite", "mysql", "postgres")
_INI = f"[security]\nsecret_key = {SECRET_KEY.decode()}\nencryption_provider = {KMS}\n[security.encryption.{KMS}]\nkey_id = alias/simulation\n"
_PAGE_ROWS = 2


def derive(password: bytes, salt: bytes) -> bytes:
    """Stands for PBKDF2, whose cost would be all that a simulation does."""
    return hashlib.sha256(salt + password).digest()


@dataclass
class CheapSecretKey:
    """The provider `secretKey.v1` with the cheap derivation."""

    name: str = secrets_service.SECRET_KEY_PROVIDER

    def wrap(self, data_key: bytes) -> bytes:
        return secrets_service.seal(data_key, SECRET_KEY, derive)

    def unwrap(self, wrapped: bytes) -> bytes:
        return secrets_service.unseal(wrapped, SECRET_KEY, derive)


@dataclass
class World:
    """One database. `fresh` empties it; `engine` is Grafana's connection to it."""

    settings: GrafanaSettings
    engine: sa.Engine
    empty: Callable[[frozenset[str]], None]
    kms: FakeKms = field(default_factory=FakeKms)
    _schemas: dict[frozenset[str], Schema] = field(default_factory=dict)
    _schema: Schema = field(default_factory=lambda: Schema({}))

    def fresh(self, present: frozenset[str]) -> None:
        """An empty database with the tables `present` (a server keeps them all)."""
        self.empty(present)
        if present not in self._schemas:
            with closing(Database(self.settings.database, read_only=True)) as database:
                self._schemas[present] = database.schema(dict.fromkeys([data_key_table.TABLE, *(column.table for column in secret_columns())]))
        self._schema = self._schemas[present]

    def providers(self, _candidate: SecretKeyCandidate) -> Mapping[str, Provider]:
        return {secrets_service.SECRET_KEY_PROVIDER: CheapSecretKey(), KMS: self.kms}

    def database(self, read_only: bool, sleep: Callable[[float], None]) -> Database:
        """The product's connection."""
        return _Database(self.settings, read_only, sleep, self._schema)


class _Database(Database):
    """Asks what the tables look like once in a simulation, and not once in a worker: nobody changes a table here."""

    def __init__(self, settings: GrafanaSettings, read_only: bool, sleep: Callable[[float], None], known: Schema) -> None:
        super().__init__(settings.database, read_only=read_only, sleep=sleep)
        self._known = known

    def schema(self, tables: Iterable[str]) -> Schema:
        return Schema({table: columns for table in tables if (columns := self._known.tables.get(table)) is not None})


@contextmanager
def world(engine: str) -> Iterator[World]:
    """The world on `engine`: a SQLite file in a temporary folder, or a fresh database of a private server."""
    with ExitStack() as stack:
        engines = stack.enter_context(_small_and_fast())
        settings = load_settings(_INI)
        if engine == "sqlite":
            memory = Path("/dev/shm")  # noqa: S108 - a file there costs no disk
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="simulation-", dir=memory if memory.is_dir() else None)))
            made = _sqlite(settings, folder, engines)
        else:
            made = _server(settings, stack.enter_context(servers.new_database(stack.enter_context(servers.server(engine)))))
        stack.callback(made.engine.dispose)
        stack.callback(engines.dispose)
        yield made


@contextmanager
def _small_and_fast() -> Iterator[_Engines]:
    """Small pages, a cheap derivation, workers that share their connections, and no waiting for locks.

    Whoever has the baton would wait for a lock of somebody who has not.
    """
    kept = chunk.PAGE_ROWS, cipher.caching_derivation, connect.SQLITE_BUSY_MILLISECONDS, connect.create_engine
    engines = _Engines(connect.create_engine)
    chunk.PAGE_ROWS, connect.SQLITE_BUSY_MILLISECONDS = _PAGE_ROWS, 0
    cipher.caching_derivation = lambda entries=0: derive  # a cache would cost more than it saves
    connect.create_engine = engines.get
    try:
        yield engines
    finally:
        chunk.PAGE_ROWS, cipher.caching_derivation, connect.SQLITE_BUSY_MILLISECONDS, connect.create_engine = kept
        engines.dispose()


class _Engines:
    """The product's SQLAlchemy engines, used again: to make one and to connect takes longer than what most workers do here.

    A worker that is killed loses its connection all the same: SQLAlchemy closes it when the exception passes through.
    """

    def __init__(self, create: Callable[..., sa.Engine]) -> None:
        self._create = create
        self._made: dict[bool, sa.Engine] = {}

    def get(self, settings: DatabaseSettings, *, read_only: bool) -> sa.Engine:
        if read_only not in self._made:
            self._made[read_only] = self._create(settings, read_only=read_only)
            self._made[read_only].dispose = lambda close=True: None  # type: ignore[method-assign]  # called by each worker when it ends
        return self._made[read_only]

    def dispose(self) -> None:
        """Closes every connection."""
        for engine in self._made.values():
            sa.Engine.dispose(engine)


def _sqlite(settings: GrafanaSettings, folder: Path, engines: _Engines) -> World:
    made, file = dict[frozenset[str], Path](), folder / "grafana.db"
    engine = sa.create_engine("sqlite://", creator=lambda: sqlite3.connect(file, timeout=0, check_same_thread=False), poolclass=sa.pool.QueuePool)

    def empty(present: frozenset[str]) -> None:
        if present not in made:
            made[present] = folder / f"template-{len(made)}.db"
            tables.create(sa.create_engine(f"sqlite:///{made[present]}", poolclass=sa.pool.NullPool), present)
        engines.dispose()
        engine.dispose()
        file.unlink(missing_ok=True)  # a new file: whoever still has the old one open has nothing to do with this one
        shutil.copyfile(made[present], file)

    return World(replace(settings, database=replace(settings.database, type="sqlite3", path=str(file))), engine, empty)


def _server(settings: GrafanaSettings, url: sa.URL) -> World:
    engine = sa.create_engine(url)
    tables.create(engine)
    used: set[str] = set()

    def empty(present: frozenset[str]) -> None:
        with engine.begin() as connection:
            for name in sorted(used):
                connection.exec_driver_sql(f"DELETE FROM {name}")
        used.clear()
        used.update(present, ("data_keys",))

    return World(replace(settings, database=servers.settings_of(url)), engine, empty)
