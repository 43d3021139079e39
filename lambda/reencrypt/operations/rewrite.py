"""Write new bytes over a page's rows by compare-and-swap, and tell what became of each column of each row.

What Grafana changed meanwhile stays Grafana's; columns beside it in the same row are tried again on their own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum

from reencrypt.database.database import Database, Row, Swap, Swapped
from reencrypt.grafana import split_form
from reencrypt.grafana.document import Path
from reencrypt.grafana.secret_columns import ColumnGroup, SecretColumn, Shape
from reencrypt.storage.journal import Entry

SWAP_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Change:
    """One secret value of a column: where it stands, the bytes there as they were read, and the digest of those that replace them."""

    path: Path | None
    old: bytes = field(repr=False)
    new: str


@dataclass
class Rewrite:
    """A row that was read, with new bytes for some of its columns (by index into the group's columns) and the values that changes in each.

    A column of the secrets manager whose data key id stands in a column of its own is seen here in the joined form of grafana/split_form.py.
    """

    group: ColumnGroup
    row: Row
    new: dict[int, bytes] = field(default_factory=dict, repr=False)
    changes: dict[int, list[Change]] = field(default_factory=dict, repr=False)

    def stored(self, index: int) -> bytes | None:
        """The bytes of a column as they were read; joined, where they stand in two columns."""
        companion = self._companion(index)
        return joined_form(self.group.columns[index], self.row.values[index], None if companion is None else self.row.values[companion])

    def scope(self, index: int) -> str:
        """The namespace of the row's values; '' where the column has none."""
        name = self.group.columns[index].scope_column
        if name is None:
            return ""
        if name in self.group.primary_key:
            return str(self.row.key[self.group.primary_key.index(name)])
        stored = self.row.values[next(at for at, column in enumerate(self.group.columns) if column.column == name)]
        return (stored or b"").decode(errors="replace")

    def parts_of(self, index: int, new: bytes) -> dict[str, bytes]:
        """What is to be written for `new` (as `stored` gives it), by column: two where the data key id stands in a column of its own."""
        column, companion = self.group.columns[index], self._companion(index)
        if companion is None:
            return {column.column: new}
        payload, key_id = split_form.split(new)
        return {column.column: payload, self.group.columns[companion].column: key_id}

    def put(self, index: int, new: bytes, changes: list[Change]) -> None:
        """Takes `new` to be written over the column, and over its companion."""
        self.changes[index] = changes
        for at, part in zip((index, self._companion(index)), self.parts_of(index, new).values(), strict=False):
            self.new[index if at is None else at] = part

    def parts(self) -> list[tuple[int, ...]]:
        """The columns of `new` that stand and fall together: each with its companion, whose values change in the first."""
        return [(index,) if (companion := self._companion(index)) is None else (index, companion) for index in self.changes if index in self.new]

    def entries(self) -> list[Entry]:
        """What the undo journal keeps of it."""
        return [
            Entry(self.group.id, self.group.columns[index].id, self.row.key, change.path, change.old, change.new)
            for index, changes in self.changes.items()
            for change in changes
        ]

    def _companion(self, index: int) -> int | None:
        """The index of the column that holds the data key id of the column at `index`."""
        name = self.group.columns[index].data_key_id_column
        if name is None:
            return None
        return next((at for at, column in enumerate(self.group.columns) if column.column == name), None)


def joined_form(column: SecretColumn, stored: bytes | None, companion: bytes | None) -> bytes | None:
    """What `column` holds, in one piece: with the data key id of its `companion` where it has one."""
    return stored if stored is None or column.shape is not Shape.SPLIT_RAW else split_form.joined(stored, companion)


class Ending(Enum):
    """What became of a column of a rewrite."""

    WRITTEN = "written"
    CHANGED = "Grafana has written since it was read"
    REFUSED = "the server refuses the value"


Ended = Callable[[ColumnGroup, Rewrite, int, Ending], None]


def swap(group: ColumnGroup, rewrites: Sequence[Rewrite], database: Database, ended: Ended) -> None:
    """Writes `rewrites`; calls `ended` once for each of their columns. Raises DatabaseError: some may be written then, and some not."""
    for _ in range(SWAP_ATTEMPTS):
        missed = []
        results = database.compare_and_swap(group, [Swap(rewrite.row, rewrite.new) for rewrite in rewrites])
        for rewrite, result in zip(rewrites, results, strict=True):
            if result is Swapped.WRITTEN:
                _end(group, rewrite, Ending.WRITTEN, ended)
            elif result is Swapped.REFUSED:
                _end(group, rewrite, Ending.REFUSED, ended)
            elif _still_ours(group, rewrite, database, ended):
                missed.append(rewrite)
        rewrites = missed
        if not rewrites:
            return
    for rewrite in rewrites:
        _end(group, rewrite, Ending.CHANGED, ended)


def _still_ours(group: ColumnGroup, rewrite: Rewrite, database: Database, ended: Ended) -> bool:
    """After a missed swap: ends what has changed or is written after all; True where unchanged columns are left to try again."""
    now = database.row(group, rewrite.row.key)
    for indexes in rewrite.parts():
        if now is not None and now.classes == rewrite.row.classes and all(now.values[index] == rewrite.row.values[index] for index in indexes):
            continue
        written = now is not None and all(now.values[index] == rewrite.new[index] for index in indexes)
        ended(group, rewrite, indexes[0], Ending.WRITTEN if written else Ending.CHANGED)
        for index in indexes:
            del rewrite.new[index]
    return bool(rewrite.new)


def _end(group: ColumnGroup, rewrite: Rewrite, ending: Ending, ended: Ended) -> None:
    for indexes in rewrite.parts():
        ended(group, rewrite, indexes[0], ending)
