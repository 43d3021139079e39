"""Real databases for every test of this folder: one server per engine and session, a fresh database per test."""

from __future__ import annotations

import functools
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pymysql.connections
import pytest
import sqlalchemy as sa

from reencrypt.grafana import cipher
from reencrypt.grafana.settings import DatabaseSettings
from tests.support import golden, servers
from tests.support.golden import GoldenDatabase

ENGINES = ("sqlite", "mysql", "postgres")


class _SslOnce:
    """The module `ssl` as PyMySQL sees it: it loads the system's certificates once, and not for each connection, TLS or not (45 ms of a processor)."""

    create_default_context = staticmethod(functools.lru_cache(ssl.create_default_context))

    def __getattr__(self, name: str) -> Any:
        return getattr(ssl, name)


@pytest.fixture(scope="session", autouse=True)
def what_is_the_same_is_done_once() -> Iterator[None]:
    """The same golden values are read hundreds of times: their AES keys are derived once for all tests of a worker."""
    shared = functools.lru_cache(maxsize=200_000)(cipher.derive_key)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cipher, "caching_derivation", lambda entries=0: shared)
        patch.setattr(pymysql.connections, "ssl", _SslOnce())
        yield


@pytest.fixture(scope="session")
def mysql_server() -> Iterator[sa.URL]:
    """A MariaDB (or MySQL) server."""
    with servers.server("mysql") as url:
        yield url


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[sa.URL]:
    """A PostgreSQL server."""
    with servers.server("postgres") as url:
        yield url


@dataclass(frozen=True)
class EmptyDatabase:
    """A fresh database. `engine` is a plain connection, not the product's."""

    engine_name: str
    url: sa.URL

    @property
    def engine(self) -> sa.Engine:
        return sa.create_engine(self.url, poolclass=sa.pool.NullPool)

    @property
    def settings(self) -> DatabaseSettings:
        return servers.settings_of(self.url)

    def execute(self, statement: str, **parameters: Any) -> None:
        with self.engine.begin() as connection:
            connection.execute(sa.text(statement), parameters)

    def scalar(self, statement: str) -> Any:
        with self.engine.connect() as connection:
            return connection.execute(sa.text(statement)).scalar_one()

    def unreachable(self) -> Iterator[tuple[DatabaseSettings, str]]:
        """Settings that cannot work, with a word of the message that each must lead to."""
        if self.engine_name == "sqlite":
            yield replace(self.settings, path=f"{self.url.database}.absent"), "[database] path"
            return
        yield replace(self.settings, port=1), "[database] host"
        yield replace(self.settings, name="absent"), "[database] name" if self.engine_name == "mysql" else "host, name, user"
        if self.engine_name == "mysql":  # the private PostgreSQL trusts everybody
            yield replace(self.settings, password="wrong-password"), "[database] user and password"


@contextmanager
def fresh(engine_name: str, request: pytest.FixtureRequest, folder: Path) -> Iterator[EmptyDatabase]:
    """An empty database of the engine."""
    if engine_name == "sqlite":
        path = folder / "empty.db"
        path.touch()
        yield EmptyDatabase(engine_name, sa.URL.create("sqlite", database=str(path)))
        return
    with servers.new_database(request.getfixturevalue(f"{engine_name}_server")) as url:
        yield EmptyDatabase(engine_name, url)


@pytest.fixture(params=ENGINES)
def empty_database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[EmptyDatabase]:
    """An empty database of each engine."""
    with fresh(request.param, request, tmp_path) as database:
        yield database


@pytest.fixture(scope="session")
def postgres_template(postgres_server: sa.URL) -> Iterator[str]:
    """The golden PostgreSQL database, loaded once, to be copied."""
    source = golden.require("12.4.0-postgres")
    with servers.new_database(postgres_server) as url:
        golden.load_dump(source / "grafana.sql.gz", url)
        yield url.database or ""


@pytest.fixture(params=golden.NAMES)
def golden_database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[GoldenDatabase]:
    """A fresh copy of each golden database (parametrise indirectly to name some)."""
    name: str = request.param
    golden.require(name)
    engine = golden.engine_of(name)
    url = None if engine == "sqlite" else request.getfixturevalue(f"{engine}_server")
    template = request.getfixturevalue("postgres_template") if engine == "postgres" else None
    with golden.loaded(name, tmp_path, url, template) as database:
        yield database
