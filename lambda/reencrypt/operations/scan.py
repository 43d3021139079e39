"""Look through every text and binary column of the database, known or not, for the data keys that it names.

A data key may only go when nothing refers to it any more: not a secret column, not a column that is in no list (Enterprise, a plugin, a newer
Grafana), not a cache. A reference is known where this product re-encrypts it, disposable where Grafana makes it anew, and else unknown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from enum import StrEnum

from reencrypt.database.database import Database, Row
from reencrypt.database.statements import Key
from reencrypt.grafana import references, secret_values
from reencrypt.grafana.key_ring import SECRET_KEY
from reencrypt.grafana.secret_columns import ALL_SYSTEMS, ColumnGroup, SecretColumn, Shape, secret_columns
from reencrypt.operations.chunk import Range, walk
from reencrypt.operations.outcomes import Tally
from reencrypt.operations.rewrite import joined_form

# The remote cache of Grafana: whatever cannot be decrypted there is read anew (grafana-format.md: auth info, and everything with encryption = true).
DISPOSABLE = frozenset({("cache_data", "data")})


class Known(StrEnum):
    """What this product knows about the place of a reference."""

    KNOWN = "known"
    UNKNOWN = "unknown"
    DISPOSABLE = "disposable"


def scan(stretch: Range, database: Database, ids: Collection[str], out_of_time: Callable[[], bool], tally: Tally) -> Key | None:
    """Counts in `tally` every reference in the rows of `stretch`; returns the key reached, None at the end.

    A table without a key is read in one go. Raises DatabaseError.
    """
    declared = [column for column in secret_columns(*ALL_SYSTEMS) if column.table == stretch.group.table]

    def look(rows: list[Row]) -> None:
        _look(stretch.group, rows, ids, declared, tally)

    if stretch.group.primary_key:
        return walk(stretch, database, out_of_time, look)
    for rows in database.stream(stretch.group):
        look(rows)
    return None


def _look(group: ColumnGroup, rows: Iterable[Row], ids: Collection[str], declared: list[SecretColumn], tally: Tally) -> None:
    for row in rows:
        tally.rows += 1
        for column, stored in zip(group.columns, row.values, strict=True):
            if not stored:
                continue
            found = references.find(stored, ids)
            if not found:
                continue
            if (group.table, column.column) in DISPOSABLE:
                _count(group, column, Known.DISPOSABLE, found, tally)
                continue
            known = _known(group, row, column, declared)
            _count(group, column, Known.KNOWN, found & known, tally)
            _count(group, column, Known.UNKNOWN, found - known, tally)


def _count(group: ColumnGroup, column: SecretColumn, known: Known, found: Mapping[str, int], tally: Tally) -> None:
    for key, count in found.items():
        tally.references[group.table, column.column, known.value, key] += count


def _known(group: ColumnGroup, row: Row, column: SecretColumn, declared: list[SecretColumn]) -> Counter[str]:
    """What the declarations of the column find in the row: this is what a run re-encrypts."""
    at = {entry.column: stored for entry, stored in zip(group.columns, row.values, strict=True)}
    found: Counter[str] = Counter()
    for declaration in declared:
        if any(at.get(name) != value.encode() for name, value in declaration.where):
            continue
        if column.column in (declaration.column, declaration.data_key_id_column) and declaration.shape is not Shape.KEY_ID:
            names = list(_names(declaration, at))
            found.update(names)
            if column.column == declaration.column and _keeps_ids_apart(declaration):
                found[SECRET_KEY] += len(names)  # where such a payload stands it names no key, as one directly under secret_key
    return found


def _keeps_ids_apart(declaration: SecretColumn) -> bool:
    """Whether the ids of the data keys stand beside the payloads: in a column or in a string of their own."""
    return declaration.shape is Shape.SPLIT_RAW or any(pattern.data_key_id is not None for pattern in declaration.json_paths)


def _names(declaration: SecretColumn, at: Mapping[str, bytes | None]) -> Iterable[str]:
    """The key ids that the values of a declared column name."""
    stored = joined_form(declaration, at.get(declaration.column), at.get(declaration.data_key_id_column or ""))
    for value in secret_values.read(declaration, stored):
        if value.payload is not None:
            yield SECRET_KEY if value.payload.key_id is None else value.payload.key_id
