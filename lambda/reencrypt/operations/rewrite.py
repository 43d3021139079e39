"""Write new bytes over a page's rows by compare-and-swap, and tell what became of each column of each row.

What Grafana changed meanwhile stays Grafana's; columns beside it in the same row are tried again on their own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum

from reencrypt.database.database import Database, Row, Swap, Swapped
from reencrypt.grafana.document import Path
from reencrypt.grafana.secret_columns import ColumnGroup
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
    """A row that was read, with new bytes for some of its columns (by index into the group's columns) and the values that changes in each."""

    row: Row
    new: dict[int, bytes] = field(default_factory=dict, repr=False)
    changes: dict[int, list[Change]] = field(default_factory=dict, repr=False)

    def entries(self, group: ColumnGroup) -> list[Entry]:
        """What the undo journal keeps of it."""
        return [
            Entry(group.id, group.columns[index].id, self.row.key, change.path, change.old, change.new)
            for index, changes in self.changes.items()
            for change in changes
        ]


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
    for index in list(rewrite.new):
        if now is not None and now.values[index] == rewrite.row.values[index] and now.classes == rewrite.row.classes:
            continue
        written = now is not None and now.values[index] == rewrite.new[index]
        ended(group, rewrite, index, Ending.WRITTEN if written else Ending.CHANGED)
        del rewrite.new[index]
    return bool(rewrite.new)


def _end(group: ColumnGroup, rewrite: Rewrite, ending: Ending, ended: Ended) -> None:
    for index in rewrite.new:
        ended(group, rewrite, index, ending)
