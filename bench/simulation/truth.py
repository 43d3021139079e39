"""What Grafana's users last stored: the ground truth that a run is measured against."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

Path = tuple[str | int, ...]
RowId = tuple[str, int | str]


class Place(NamedTuple):
    """Where a value stands; `path` is None where the whole column is the value."""

    table: str
    key: int | str
    column: str
    path: Path | None = None


@dataclass
class Truth:
    """Shared by every writer of one database. Writers call it in the same step as their commit, while they hold the row's claim."""

    values: dict[Place, bytes] = field(default_factory=dict, repr=False)
    former: dict[Place, set[bytes]] = field(default_factory=dict, repr=False)  # plaintexts that stood there before
    rows: dict[str, dict[int | str, None]] = field(default_factory=dict)  # rows in the order of their making
    gone: set[RowId] = field(default_factory=set)
    ever: dict[RowId, set[tuple[str, Path | None]]] = field(default_factory=dict)  # the places of every row that there ever was
    writes: dict[str, int] = field(default_factory=dict)  # Grafana's commits by table
    _claimed: set[RowId] = field(default_factory=set)
    _last: dict[str, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def next_id(self, table: str) -> int:
        """The next automatic key of `table`. As in a real sequence, a lower one may be committed after a higher one."""
        with self._lock:
            self._last[table] = self._last.get(table, 0) + 1
            return self._last[table]

    def stored(self, table: str, key: int | str, values: Mapping[tuple[str, Path | None], bytes]) -> None:
        """Grafana has stored these values of the row; the others of the row are as they were."""
        with self._lock:
            self._touch(table)
            self.rows.setdefault(table, {})[key] = None
            self.ever.setdefault((table, key), set()).update(values)
            for (column, path), plaintext in values.items():
                place = Place(table, key, column, path)
                if place in self.values and self.values[place] != plaintext:
                    self.former.setdefault(place, set()).add(self.values[place])
                self.values[place] = plaintext

    def removed(self, table: str, key: int | str) -> None:
        """Grafana has deleted the row."""
        with self._lock:
            self._touch(table)
            self.rows[table].pop(key)
            self.gone.add((table, key))
            for place in self._of(table, key):
                del self.values[place]

    def of_row(self, table: str, key: int | str) -> dict[tuple[str, Path | None], bytes]:
        """The row's values as `stored` takes them."""
        with self._lock:
            return {(place.column, place.path): self.values[place] for place in self._of(table, key)}

    @contextmanager
    def claim(self, *rows: RowId) -> Iterator[bool]:
        """Keeps Grafana's own writers apart, whose races among themselves are not the matter here. False: somebody else has one of the rows."""
        with self._lock:
            free = self._claimed.isdisjoint(rows)
            if free:
                self._claimed.update(rows)
        try:
            yield free
        finally:
            if free:
                with self._lock:
                    self._claimed.difference_update(rows)

    def _of(self, table: str, key: int | str) -> Iterable[Place]:
        return [place for place in self.values if place.table == table and place.key == key]

    def _touch(self, table: str) -> None:
        self.writes[table] = self.writes.get(table, 0) + 1
