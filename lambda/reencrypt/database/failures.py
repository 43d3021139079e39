"""Driver exceptions as ours: which mean "try again", which mean "unreachable", and never a statement or its parameters.

Each driver has a table of its own: code → our exception, and what the message says to do. A code that stands in no table is a DatabaseError.
Sources: MySQL's and MariaDB's server error references; PostgreSQL's Appendix A; https://www.sqlite.org/rescode.html.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import sqlalchemy.exc

from reencrypt.errors import DatabaseBusy, DatabaseError, DatabaseUnavailable, ValueRefused

_Meaning = tuple[type[DatabaseError], str]

_LOCKED: _Meaning = (DatabaseBusy, "another session holds a lock for too long: look for long transactions, then start again")
_CONFLICT: _Meaning = (DatabaseBusy, "it collides with other transactions again and again: start again when there is less load")
_CUT: _Meaning = (DatabaseUnavailable, "the connection was cut: the server restarted, failed over or ended the session; start again")
_STARTING: _Meaning = (DatabaseUnavailable, "the server is starting or shutting down: start again when it is up")
_NO_ANSWER: _Meaning = (DatabaseUnavailable, "nothing answers: see [database] host, the security group and the subnets")
_TOO_MANY: _Meaning = (DatabaseUnavailable, "the server has no connection left for this user: start again with a smaller maxConcurrency, or raise the limit")
_PASSWORD: _Meaning = (DatabaseUnavailable, "the user name or password is wrong: see [database] user and password, or [database] of the deployment settings")
_USER: _Meaning = (DatabaseUnavailable, "the server refuses this user from here: see [database] user, and who may connect from where")
_NAME: _Meaning = (DatabaseUnavailable, "the database does not exist: see [database] name")
_TLS: _Meaning = (DatabaseUnavailable, "TLS fails: see [database] ssl_mode and ca_cert_path")
_CANCELLED: _Meaning = (DatabaseUnavailable, "the statement was cancelled, by a time limit or an administrator: start again")
_READ_ONLY: _Meaning = (DatabaseError, "the server is read-only: use the writer's endpoint in [database] host")
_PERMISSION: _Meaning = (DatabaseError, "the user lacks a permission on a table: it needs SELECT, and UPDATE and INSERT for a run that writes")
_FULL: _Meaning = (DatabaseError, "the disk is full: make room for the database, then start again; what was written before stays")
_VALUE: _Meaning = (ValueRefused, "")

_MYSQL: Mapping[int, _Meaning] = {
    **dict.fromkeys((1205, 1689, 3572), _LOCKED),
    **dict.fromkeys((1020, 1213, 3101), _CONFLICT),  # 1020: MariaDB's snapshot isolation; 3101: group replication
    **dict.fromkeys((0, 1152, 1158, 1159, 1160, 1161, 1184, 1927, 2006, 2013, 2014, 2055, 3169, 4031), _CUT),
    **dict.fromkeys((1047, 1053, 1077, 1079), _STARTING),  # 1047: a Galera node that is not ready
    **dict.fromkeys((2002, 2003, 2005), _NO_ANSWER),
    **dict.fromkeys((1040, 1203, 1226), _TOO_MANY),
    **dict.fromkeys((1045, 1698, 1862), _PASSWORD),
    **dict.fromkeys((1044, 1129, 1130, 2059, 2061, 3118, 4151), _USER),
    1049: _NAME,
    2026: _TLS,
    **dict.fromkeys((1317, 1907, 1969, 3024), _CANCELLED),
    **dict.fromkeys((1290, 1792, 1836, 1874), _READ_ONLY),
    **dict.fromkeys((1142, 1143, 1227, 1370), _PERMISSION),
    **dict.fromkeys((1021, 1114), _FULL),
    **dict.fromkeys((1366, 1406, 1644, 3140, 3819, 4025), _VALUE),  # PyMySQL takes some of them for operational errors
}
_POSTGRESQL: Mapping[str, _Meaning] = {
    "55P03": _LOCKED,
    **dict.fromkeys(("40001", "40P01"), _CONFLICT),
    **dict.fromkeys(("08000", "08003", "08006", "08007", "25P03", "25P04", "57P01", "57P02", "57P05"), _CUT),
    "57P03": _STARTING,
    **dict.fromkeys(("08001", "08004"), _NO_ANSWER),
    "53300": _TOO_MANY,
    "28P01": _PASSWORD,
    "28000": (DatabaseUnavailable, "the server refuses this user: see [database] user and pg_hba.conf"),
    **dict.fromkeys(("3D000", "57P04"), _NAME),
    "57014": _CANCELLED,
    "25006": _READ_ONLY,
    "42501": _PERMISSION,
    "53100": _FULL,
    "53200": (DatabaseUnavailable, "the server is out of memory: start again when there is less load"),
    **dict.fromkeys(("54000", "P0001"), _VALUE),  # an index entry that would be too long; a trigger
}
_UNAVAILABLE_CLASSES = ("08", "28", "57")  # connection exception, invalid authorization, operator intervention
_SQLITE: Mapping[int, _Meaning] = {
    **dict.fromkeys((sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL), _LOCKED),
    sqlite3.SQLITE_CANTOPEN: (DatabaseUnavailable, "the file or its -wal and -shm cannot be opened: see [database] path, and who may write to its folder"),
    sqlite3.SQLITE_READONLY: (DatabaseError, "the file is read-only: the worker needs write permission on it and on its folder"),
    sqlite3.SQLITE_FULL: _FULL,
    sqlite3.SQLITE_IOERR: (DatabaseError, "the file cannot be read or written: see its file system, the disk's space and the quota"),
    sqlite3.SQLITE_NOTADB: (DatabaseError, "the file is no SQLite database: see [database] path"),
    sqlite3.SQLITE_CORRUPT: (DatabaseError, "the file is damaged: restore it from a backup, or see sqlite3's .recover"),
}
# psycopg gives no SQLSTATE where the connection itself fails; these words are the server's own (in English), and nothing of the text is shown.
_WORDS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"too many clients already|too many connections for|remaining connection slots are reserved"), "53300"),
    (re.compile(r"password authentication failed|authentication failed for user"), "28P01"),
    (re.compile(r"no pg_hba\.conf entry|pg_hba\.conf rejects|is not permitted to log in"), "28000"),
    (re.compile(r"the database system is (starting up|shutting down|in recovery mode|not (yet )?accepting connections)"), "57P03"),
)
_NO_CONNECTION: _Meaning = (
    DatabaseUnavailable, "there is no connection: see [database] host, name, user and password, the security group and the subnets"
)  # fmt: skip


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Raises DatabaseBusy, DatabaseUnavailable, ValueRefused or DatabaseError for what a driver raises while `doing` (words for the message)."""
    try:
        yield
    except sqlalchemy.exc.DBAPIError as error:
        shown, (kind, hint) = _answer(error), _meaning(error)
        raise kind(f"{doing}: the database answers {shown}{hint and f': {hint}'}") from None
    except sqlalchemy.exc.SQLAlchemyError as error:
        raise DatabaseError(f"{doing}: {type(error).__name__}") from None


def _answer(error: sqlalchemy.exc.DBAPIError) -> str:
    """The driver's exception by class and code, without its text: that names users, and could carry a value."""
    code = _code(error.orig)
    name = getattr(error.orig, "sqlite_errorname", code)
    return type(error.orig).__name__ if name is None else f"{type(error.orig).__name__} {name}"


def _meaning(error: sqlalchemy.exc.DBAPIError) -> _Meaning:
    if isinstance(error, sqlalchemy.exc.DataError | sqlalchemy.exc.IntegrityError):
        return _VALUE
    code = _code(error.orig)
    if isinstance(code, str):
        known = _POSTGRESQL.get(code)
    elif isinstance(code, int):
        known = (_SQLITE if isinstance(error.orig, sqlite3.Error) else _MYSQL).get(code)
    else:
        known = _NO_CONNECTION if _is_operational(error.orig) and not error.connection_invalidated else None
    if known is None and error.connection_invalidated:
        known = _CUT
    if known is None and isinstance(code, str) and code[:2] in _UNAVAILABLE_CLASSES:
        known = (DatabaseUnavailable, "")
    return known or (DatabaseError, "")


def _code(error: BaseException | None) -> object:
    """The engine's own code of a driver's exception: an int (MySQL, SQLite), a five-letter SQLSTATE (PostgreSQL), or None."""
    if isinstance(error, sqlite3.Error):
        code = getattr(error, "sqlite_errorcode", None)
        return None if code is None else code & 0xFF  # extended codes keep the primary one in the low byte
    first = error.args[0] if error is not None and error.args else None
    if isinstance(first, int):  # PyMySQL, whose sqlstate is less precise
        return first
    if state := getattr(error, "sqlstate", None):
        return state
    if _is_operational(error):
        return next((state for words, state in _WORDS if words.search(str(error))), None)
    return None


def _is_operational(error: BaseException | None) -> bool:
    """psycopg's exception where no server answered, or no longer."""
    return type(error).__module__.startswith("psycopg") and type(error).__name__ in ("OperationalError", "ConnectionTimeout")
