"""`[database]` of grafana.ini. Source: Grafana pkg/services/sqlstore/database_config.go (12.4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from reencrypt.errors import ConfigurationError
from reencrypt.grafana.ini import Ini, shown

SECTION = "database"
_TYPES = ("sqlite3", "mysql", "postgres")
_DEFAULT_PORTS = {"mysql": 3306, "postgres": 5432}


@dataclass(frozen=True)
class DatabaseSettings:
    """Where Grafana's database is. `type` is sqlite3, mysql or postgres.

    `path` is SQLite's file, absolute or relative to `data_path` ([paths] data, None where it is not set). `query` holds the parameters of `url`.
    """

    type: str
    host: str = ""
    port: int | None = None
    name: str = ""
    user: str = ""
    password: str = field(default="", repr=False)
    path: str = ""
    data_path: str | None = None
    unix_socket: str | None = None
    ssl_mode: str = ""
    ca_cert_path: str | None = None
    client_cert_path: str | None = None
    client_key_path: str | None = None
    server_cert_name: str | None = None
    query: Mapping[str, str] = field(default_factory=dict, repr=False)  # sslpassword and the like


def read(ini: Ini, data_path: str | None) -> DatabaseSettings:
    """The settings of `[database]`; `url` wins over the single keys. Raises ConfigurationError, naming the key."""

    def text(key: str) -> str:
        return ini.text(SECTION, key)

    url = text("url")
    if url:
        parts = _split(url)
        kind, name, host, port = parts.scheme, unquote(parts.path).partition("/")[2].partition("/")[0], parts.netloc.rpartition("@")[2], ""
        user, password = unquote(parts.username or ""), unquote(parts.password or "")
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
    elif text("connection_string"):
        raise ConfigurationError("[database] connection_string is a Go driver's own language: give url, or host, name, user and password instead")
    else:
        kind, name, host, port, user, password = (text(key) for key in ("type", "name", "host", "port", "user", "password"))
        query = {}
    if kind not in _TYPES:
        hint = "; the scheme of a PostgreSQL url is postgres" if kind == "postgresql" else ""
        raise ConfigurationError(f"[database] {'url' if url else 'type'}: {shown(kind)!r} is unknown, Grafana knows {', '.join(_TYPES)}{hint}")
    host = "" if kind == "sqlite3" else host  # Grafana does not look at it then, so it may be anything
    socket = host if host.startswith("/") else None
    address, number = ("", None) if socket or kind == "sqlite3" else _address(host, port, kind)
    return DatabaseSettings(
        type=kind,
        host=address,
        port=number,
        name=name,
        user=user,
        password=password,
        path=text("path"),
        data_path=data_path,
        unix_socket=socket,
        ssl_mode=text("ssl_mode"),
        ca_cert_path=text("ca_cert_path") or None,
        client_cert_path=text("client_cert_path") or None,
        client_key_path=text("client_key_path") or None,
        server_cert_name=text("server_cert_name") or None,
        query=query,
    )


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError:
        raise ConfigurationError("[database] url is no URL: type://user:password@host:port/name, with special characters percent-encoded") from None


def _address(host: str, port: str, kind: str) -> tuple[str, int | None]:
    """(host, port) of `host`, `host:port`, `[ipv6]` or `[ipv6]:port`; the key `port` is appended to a host without one."""
    if host.startswith("["):
        address, _, rest = host[1:].partition("]")
        given = rest.removeprefix(":")
    elif host.count(":") == 1:
        address, _, given = host.partition(":")
    else:
        address, given = host, ""
    given = given or port
    if not given:
        return address or "127.0.0.1", _DEFAULT_PORTS.get(kind)
    if not (given.isascii() and given.isdigit() and len(given) <= 5 and 0 < int(given) < 65536):
        raise ConfigurationError("[database] host or port: the port is no number from 1 to 65535")
    return address or "127.0.0.1", int(given)
