"""Connections to Grafana's database, as `[database]` of grafana.ini describes it, in sessions of our own making.

Grafana's MySQL sessions are not strict (they truncate silently); ours are. Lock waits are short, so that a live Grafana never waits for us.
Sources: Grafana pkg/services/sqlstore/database_config.go; the drivers' connection parameters.
"""

from __future__ import annotations

import socket
import sqlite3
import ssl
from pathlib import Path
from typing import Any

import pymysql.constants.CLIENT
import sqlalchemy as sa

from reencrypt.database.dialects import Engine
from reencrypt.errors import ConfigurationError, DatabaseUnavailable
from reencrypt.grafana.ini import shown
from reencrypt.grafana.settings import DatabaseSettings

CONNECT_SECONDS = 10
STATEMENT_SECONDS = 45  # with the locks that are waited for, less than the minute that a worker keeps before its deadline
LOCK_WAIT_SECONDS = 2
ANSWER_SECONDS = 30  # a host that is gone says nothing, and PostgreSQL's driver has no time limit of its own
SQLITE_BUSY_MILLISECONDS = 5  # a waiting writer bars Grafana's readers: give up at once and come back later

_MYSQL_SESSION = (
    "SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION'",
    "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
    f"SET SESSION innodb_lock_wait_timeout = {LOCK_WAIT_SECONDS}",
    f"SET SESSION lock_wait_timeout = {LOCK_WAIT_SECONDS}",  # of whole tables: LOCK TABLES, ALTER TABLE; a day or a year by default
)
# Read committed whatever the role's or the database's default is: a serializable session of ours could make a transaction of Grafana's fail.
# Never "read only = off": whoever has made role or database read-only means us too.
_POSTGRESQL_SESSION = (
    f"SET lock_timeout = '{LOCK_WAIT_SECONDS}s'",
    f"SET statement_timeout = '{STATEMENT_SECONDS}s'",
    "SET client_encoding = 'UTF8'",
    "SET default_transaction_isolation = 'read committed'",
)
ENGINES = {"sqlite3": Engine.SQLITE, "mysql": Engine.MYSQL, "postgres": Engine.POSTGRESQL}


def create_engine(settings: DatabaseSettings, *, read_only: bool) -> sa.Engine:
    """An engine for `settings`; connects on first use. `read_only` sessions cannot write whatever a statement says.

    Raises ConfigurationError for a setting that cannot be honoured, DatabaseUnavailable for a SQLite file that is not there.
    """
    if settings.type == "sqlite3":
        return _sqlite(settings, read_only)
    if settings.type == "mysql":
        return _mysql(settings, read_only)
    if settings.type == "postgres":
        return _postgresql(settings, read_only)
    raise ConfigurationError(f"[database] type = {settings.type} is unknown; Grafana knows sqlite3, mysql and postgres")


def _sqlite(settings: DatabaseSettings, read_only: bool) -> sa.Engine:
    path = Path(settings.path)
    if not path.is_absolute() and settings.data_path:
        path = Path(settings.data_path) / path
    if not path.is_file():
        raise DatabaseUnavailable(f"there is no SQLite database {shown(str(path))}; see [database] path and [paths] data")

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, isolation_level=None, check_same_thread=False)
        connection.execute(f"PRAGMA busy_timeout = {SQLITE_BUSY_MILLISECONDS}")
        connection.execute(f"PRAGMA query_only = {'ON' if read_only else 'OFF'}")
        return connection

    return sa.create_engine("sqlite://", creator=connect, poolclass=sa.pool.QueuePool, hide_parameters=True)


def _mysql(settings: DatabaseSettings, read_only: bool) -> sa.Engine:
    arguments: dict[str, Any] = {
        "charset": "utf8mb4",
        "connect_timeout": CONNECT_SECONDS,
        "read_timeout": STATEMENT_SECONDS,
        "write_timeout": STATEMENT_SECONDS,
        "client_flag": pymysql.constants.CLIENT.FOUND_ROWS,
    }
    if settings.unix_socket:
        arguments["unix_socket"] = settings.unix_socket
    if context := _mysql_tls(settings):
        arguments["ssl"] = context
    url = sa.URL.create("mysql+pymysql", settings.user, settings.password, settings.host or None, settings.port, settings.name)
    engine = sa.create_engine(url, connect_args=arguments, pool_pre_ping=True, hide_parameters=True)
    return _with_session(engine, (*_MYSQL_SESSION, "SET SESSION TRANSACTION READ ONLY") if read_only else _MYSQL_SESSION)


class _CertificateOf(ssl.SSLContext):
    """Checks the server's certificate for `name` instead of the host that is connected to, as Grafana does with server_cert_name (makeCert)."""

    name: str | None = None

    def wrap_socket(self, sock: socket.socket, *, server_hostname: str | bytes | None = None, **more: Any) -> ssl.SSLSocket:  # type: ignore[override]  # all are keywords here
        return super().wrap_socket(sock, server_hostname=self.name or server_hostname, **more)


def _mysql_tls(settings: DatabaseSettings) -> ssl.SSLContext | None:
    """Grafana: `true` and `skip-verify` mean TLS, anything else none (database_config.go).

    Not `create_default_context`: from Python 3.13 on that demands of authorities what Go does not, and old RDS and private ones lack it.
    """
    if settings.ssl_mode not in ("true", "skip-verify"):
        return None
    context = _CertificateOf(ssl.PROTOCOL_TLS_CLIENT)
    context.name = settings.server_cert_name
    try:
        context.load_verify_locations(settings.ca_cert_path) if settings.ca_cert_path else context.load_default_certs()
        if settings.client_cert_path:
            context.load_cert_chain(settings.client_cert_path, settings.client_key_path or None)
    except OSError as error:
        raise ConfigurationError(f"[database] ca_cert_path, client_cert_path or client_key_path cannot be used: {type(error).__name__}") from None
    if settings.ssl_mode == "skip-verify":
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def _postgresql(settings: DatabaseSettings, read_only: bool) -> sa.Engine:
    files = {"sslrootcert": settings.ca_cert_path, "sslcert": settings.client_cert_path, "sslkey": settings.client_key_path}
    arguments: dict[str, Any] = {
        "connect_timeout": CONNECT_SECONDS,
        "keepalives_idle": ANSWER_SECONDS // 2,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": ANSWER_SECONDS * 1000,
        "sslmode": settings.query.get("sslmode") or settings.ssl_mode or "prefer",
    }
    arguments |= {name: path for name, path in files.items() if path}
    url = sa.URL.create("postgresql+psycopg", settings.user, settings.password, settings.unix_socket or settings.host or None, settings.port, settings.name)
    engine = sa.create_engine(url, connect_args=arguments, pool_pre_ping=True, hide_parameters=True)
    return _with_session(engine, (*_POSTGRESQL_SESSION, "SET default_transaction_read_only = on") if read_only else _POSTGRESQL_SESSION)


def _with_session(engine: sa.Engine, statements: tuple[str, ...]) -> sa.Engine:
    @sa.event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: object) -> None:
        with connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
        connection.commit()

    return engine
