"""A Grafana statement or transaction that meets a locked SQLite database: again after a pause, as Grafana does it."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TypeVar

import sqlalchemy as sa

T = TypeVar("T")


class GrafanaGaveUp(Exception):
    """A user's request failed: the database was locked at every try."""


def patiently(engine: sa.Engine, action: Callable[[sa.Connection], T], tries: int) -> Generator[None, None, T]:
    """Runs `action` in a transaction of its own; pauses only before another try, so whoever calls learns of the commit at once."""
    for _ in range(tries):
        try:
            with engine.begin() as connection:
                return action(connection)
        except sa.exc.OperationalError as error:
            if "locked" not in str(error.orig):
                raise
        yield
    raise GrafanaGaveUp
