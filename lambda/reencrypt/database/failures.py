"""Driver exceptions as ours: which mean "try again", which mean "unreachable", and never a statement or its parameters.

Codes: MySQL's server error reference, PostgreSQL's Appendix A, SQLite's result codes.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy.exc

from reencrypt.errors import DatabaseBusy, DatabaseError, DatabaseUnavailable, ValueRefused

_BUSY: frozenset[object] = frozenset({1205, 1213, 3572, "40001", "40P01", "55P03", sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_HINTS: dict[object, str] = {
    1045: "the user name or password is wrong: see [database] user and password",
    1049: "the database does not exist: see [database] name",
    1142: "the user lacks a permission on a table: it needs SELECT, and UPDATE and INSERT for a run that writes",
    1290: "the server is read-only: use the writer's endpoint",
    1836: "the server is read-only: use the writer's endpoint",
    2003: "nothing answers: see [database] host, the security group and the subnets",
    "28P01": "the user name or password is wrong: see [database] user and password",
    "28000": "the server refuses this user: see [database] user and pg_hba.conf",
    "3D000": "the database does not exist: see [database] name",
    "42501": "the user lacks a permission on a table: it needs SELECT, and UPDATE and INSERT for a run that writes",
    "25006": "the server is read-only: use the writer's endpoint",
    sqlite3.SQLITE_CANTOPEN: "the file cannot be opened: see [database] path",
    sqlite3.SQLITE_READONLY: "the file is read-only",
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_NOTADB: "the file is no SQLite database: see [database] path",
    sqlite3.SQLITE_CORRUPT: "the file is damaged",
}
# psycopg gives no code where the connection itself fails, and its text names the user.
_NO_CONNECTION = "there is no connection: see [database] host, name, user and password, the security group and the subnets"
_DISCONNECTED = frozenset({2002, 2003, 2005, 2006, 2013, 1053, 1040, 1045, 1049, 1317})


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Raises DatabaseBusy, DatabaseUnavailable or DatabaseError for what a driver raises while `doing` (words for the message)."""
    try:
        yield
    except sqlalchemy.exc.DBAPIError as error:
        original = error.orig
        code = error_code(original)
        shown = f"{type(original).__name__} {code}" if code is not None else type(original).__name__
        unanswered = _no_answer(original, code)
        hint = f": {_HINTS[code]}" if code in _HINTS else f": {_NO_CONNECTION}" if unanswered else ""
        message = f"{doing}: the database answers {shown}{hint}"
        if isinstance(error, sqlalchemy.exc.DataError | sqlalchemy.exc.IntegrityError):
            raise ValueRefused(message) from None
        if code in _BUSY:
            raise DatabaseBusy(message) from None
        if error.connection_invalidated or code in _DISCONNECTED or _class(code) in ("08", "57", "28", "3D") or unanswered:
            raise DatabaseUnavailable(message) from None
        raise DatabaseError(message) from None
    except sqlalchemy.exc.SQLAlchemyError as error:
        raise DatabaseError(f"{doing}: {type(error).__name__}") from None


def error_code(error: BaseException | None) -> object:
    """The engine's own code of a driver's exception: an int (MySQL, SQLite), a five-letter SQLSTATE (PostgreSQL), or None."""
    first = error.args[0] if error is not None and error.args else None
    if isinstance(first, int):  # PyMySQL, whose sqlstate is less precise
        return first
    if isinstance(error, sqlite3.Error):
        return getattr(error, "sqlite_errorcode", 0) & 0xFF  # extended codes keep the primary one in the low byte
    return getattr(error, "sqlstate", None)


def _class(code: object) -> str:
    return code[:2] if isinstance(code, str) else ""


def _no_answer(error: BaseException | None, code: object) -> bool:
    """psycopg raises OperationalError without a SQLSTATE when no server answered."""
    return (
        type(error).__module__.startswith("psycopg") and code is None and type(error).__name__ in ("OperationalError", "ConnectionTimeout")
    )
