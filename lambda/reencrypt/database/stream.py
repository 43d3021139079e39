"""Tables without a key, read from one end to the other, bounded in rows and bytes; nothing of a table is held but one batch.

MySQL sends row by row and waits. PostgreSQL's cursor gives as many rows as are asked for, however large: so rows that are large come without
their values, which are then read one by one by the rows' place in the table (`ctid`), in the same snapshot, in which no place changes its row.
Sources: https://dev.mysql.com/doc/c-api/8.4/en/mysql-use-result.html; PostgreSQL manual, "System Columns", DECLARE.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy as sa

from reencrypt.database.statements import Statements

ROWS = 200
BYTES = 1 << 20
_INLINE_BYTES = 16 * 1024  # of a row that PostgreSQL's cursor gives at once; ROWS of them are 3 MB
# The longest pause between two batches, in which their reader looks at what it was given; 60 s by default.
_MYSQL_PAUSE = "SET SESSION net_write_timeout = 600"

Values = Sequence[Any]


def mysql(connection: sa.Connection, statements: Statements) -> Iterator[list[Values]]:
    """Every row's values. The connection is thrown away where not all of them are taken: the driver would read the rest of the table first."""
    connection.exec_driver_sql(_MYSQL_PAUSE)
    text, parameters = statements.everything()
    result = connection.execution_options(stream_results=True, max_row_buffer=1).exec_driver_sql(text, tuple(parameters))
    unread: Any = result.cursor
    finished = False
    try:
        yield from _batches(map(tuple, result))
        finished = True
    finally:
        if not finished:
            if unread._result is not None:
                unread._result.unbuffered_active = False  # PyMySQL has no other way to say that nobody wants the rest
            connection.invalidate()


def postgresql(connection: sa.Connection, statements: Statements) -> Iterator[list[Values]]:
    """Every row's values, as of one moment."""
    snapshot = connection.execution_options(isolation_level="REPEATABLE READ")
    text, parameters = statements.places(_INLINE_BYTES)
    snapshot.exec_driver_sql(f"DECLARE reencrypt NO SCROLL CURSOR FOR {text}", tuple(parameters))
    yield from _batches(_postgresql_rows(snapshot, statements))


def _postgresql_rows(snapshot: sa.Connection, statements: Statements) -> Iterator[Values]:
    while places := snapshot.exec_driver_sql(f"FETCH FORWARD {ROWS} FROM reencrypt").fetchall():
        for table, place, is_inline, *values in places:
            if is_inline:
                yield values
            else:
                text, parameters = statements.at_place(table, place)
                yield from snapshot.exec_driver_sql(text, tuple(parameters))


def _batches(rows: Iterator[Values]) -> Iterator[list[Values]]:
    """`rows` in batches; one large row is a batch of its own."""
    batch: list[Values] = []
    size = 0
    for row in rows:
        batch.append(row)
        size += sum(len(value) for value in row if value is not None)
        if len(batch) == ROWS or size >= BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
