"""Where an actor may be interrupted: around every SQL statement, every commit, and every object of the run's store and journal.

The hooks sit in SQLAlchemy's events and in its dialects' commit, so that the product's own code runs as it is.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pymysql
import sqlalchemy as sa
from sqlalchemy.engine.default import DefaultDialect

from bench.simulation.scheduler import Scheduler
from tests.support.engine_hooks import Commit, hooked

_WRITES = ("UPDATE", "INSERT", "DELETE")
_ALONE = "@@max_allowed_packet"  # asked inside of a cached_property, which must not be left by halves


class Interruptions:
    """The hooks, for one scheduler after the other (`scheduler` None: nothing happens)."""

    def __init__(self) -> None:
        self.scheduler: Scheduler | None = None
        self.drop_share = 0.0
        self.drops_left = 0
        self.updates = 0  # UPDATE statements of the product

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Listens to every SQLAlchemy engine of this process."""
        with hooked(self._commit, before_cursor_execute=self._before, after_cursor_execute=self._after):
            yield

    def _commit(self, commit: Commit, dialect: DefaultDialect, connection: Any) -> None:
        scheduler = self.scheduler
        if scheduler is None or scheduler.current() is None:
            commit(dialect, connection)
            return
        scheduler.pause("commit")
        commit(dialect, connection)
        self._locks(False)
        scheduler.pause("committed")
        self._drop(dialect)

    def _before(self, connection: sa.Connection, _cursor: Any, statement: str, *_rest: Any) -> None:
        scheduler = self.scheduler
        if scheduler is None or scheduler.current() is None or _ALONE in statement:
            return
        scheduler.pause(statement[:60])
        if statement.startswith(_WRITES):
            self.updates += 1
            # A server would let others wait for the rows until the commit, and everybody waits for the baton: so nobody comes between.
            self._locks(connection.dialect.name != "sqlite")

    def _after(self, connection: sa.Connection, _cursor: Any, statement: str, *_rest: Any) -> None:
        """Between a statement and the next one there is one pause; only a commit has one behind it, since its answer may get lost."""
        if statement == "COMMIT" and self.scheduler is not None:
            self.scheduler.pause("committed")
        elif _ALONE not in statement:
            self._drop(connection.dialect)

    def _drop(self, dialect: sa.Dialect) -> None:
        """Now and then the server's answer does not come."""
        scheduler = self.scheduler
        actor = scheduler.current() if scheduler is not None and self.drops_left else None
        if scheduler is None or actor is None or not actor.killable or scheduler.rng.random() >= self.drop_share:
            return
        self.drops_left -= 1
        actor.holds_locks = False
        scheduler.trace.append(f"{actor.name}: connection lost")
        raise _lost(dialect)

    def _locks(self, held: bool) -> None:
        actor = self.scheduler.current() if self.scheduler is not None else None
        if actor is not None:
            actor.holds_locks = held


def _lost(dialect: sa.Dialect) -> Exception:
    """What the driver raises when the server's answer does not come."""
    if dialect.name == "mysql":
        return pymysql.err.OperationalError(2013, "Lost connection to MySQL server during query")
    if dialect.name == "postgresql":
        return psycopg.OperationalError("server closed the connection unexpectedly")
    return sqlite3.OperationalError("disk I/O error")
