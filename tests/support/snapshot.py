"""Every table of a database, byte for byte, so that a test can say what changed and that nothing else did."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

# table → primary key → column → stored value (SQLite: with its storage class)
Snapshot = dict[str, dict[tuple[Any, ...], dict[str, Any]]]


def take(engine: sa.Engine) -> Snapshot:
    """Reads everything."""
    quote = engine.dialect.identifier_preparer.quote
    snapshot: Snapshot = {}
    with engine.connect() as connection:
        # Through this one connection: an inspector of an engine without a pool opens one for every question.
        inspector = sa.inspect(connection)
        keys = inspector.get_multi_pk_constraint()
        for (schema, table), described in inspector.get_multi_columns().items():
            columns = [column["name"] for column in described]
            key = keys[schema, table]["constrained_columns"] or columns[:1]
            selected = ", ".join(map(quote, columns))
            if engine.dialect.name == "sqlite":
                selected = ", ".join(f"CAST({quote(column)} AS BLOB), typeof({quote(column)})" for column in columns)
            rows = connection.exec_driver_sql(f"SELECT {selected} FROM {quote(table)}").all()
            found: dict[tuple[Any, ...], dict[str, Any]] = {}
            for row in rows:
                values = list(zip(row[::2], row[1::2], strict=True)) if engine.dialect.name == "sqlite" else list(row)
                named = dict(zip(columns, values, strict=True))
                found[tuple(named[name] for name in key)] = named
            if len(found) != len(rows):
                raise AssertionError(f"{table}: {key} does not tell its rows apart")
            snapshot[table] = found
    return snapshot


def difference(before: Snapshot, after: Snapshot) -> list[tuple[str, tuple[Any, ...], str]]:
    """(table, primary key, column) of everything that is not the same; column "*" for a row that came or went."""
    changed = []
    for table in sorted(before.keys() | after.keys()):
        old, new = before.get(table, {}), after.get(table, {})
        for key in old.keys() | new.keys():
            if key not in old or key not in new:
                changed.append((table, key, "*"))
                continue
            changed += [(table, key, column) for column in old[key] if old[key][column] != new[key][column]]
    return changed
