"""Stand between SQLAlchemy and the database: before and after statements by its events, around commits by a patch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine.default import DefaultDialect

Commit = Callable[[DefaultDialect, Any], None]


@contextmanager
def hooked(around_commit: Callable[[Commit, DefaultDialect, Any], None], **listeners: Callable[..., Any]) -> Iterator[None]:
    """While entered, `listeners` (by SQLAlchemy's names) hear of every engine, and each commit is `around_commit`'s to do."""
    original: Any = DefaultDialect.do_commit
    for name, listener in listeners.items():
        sa.event.listen(sa.Engine, name, listener)
    DefaultDialect.do_commit = lambda dialect, connection: around_commit(original, dialect, connection)  # type: ignore[method-assign]  # there is no event after a commit
    try:
        yield
    finally:
        DefaultDialect.do_commit = original  # type: ignore[method-assign]  # as it was
        for name, listener in listeners.items():
            sa.event.remove(sa.Engine, name, listener)
