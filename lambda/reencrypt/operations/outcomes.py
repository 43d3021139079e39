"""What became of each value: the six outcomes, and the tally of one stretch of a chunk.

Every value lands in exactly one outcome, so the outcomes of a column always add up to its values.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from reencrypt.database.statements import Key
from reencrypt.errors import Reason
from reencrypt.grafana.document import Path
from reencrypt.grafana.secret_columns import ColumnGroup, SecretColumn
from reencrypt.operations.rewrite import Ending, Rewrite


class Outcome(StrEnum):
    """What became of a value; in a run that does not write, `re_encrypted` is what a `re-encrypt` would rewrite."""

    RE_ENCRYPTED = "re_encrypted"
    ALREADY_CURRENT = "already_current"
    EMPTY = "empty"
    CHANGED_BY_GRAFANA = "changed_by_grafana"
    PLAINTEXT = "plaintext"
    UNREADABLE = "unreadable"


@dataclass
class Tally:
    """Counts of one stretch. `outcomes` is by (column id, outcome), `keys` by data key id: who the payloads were under when they were read.

    `new_data_keys` are those among them that Grafana has made since the preflight. `witnesses` has, for each of these keys, a value that it
    protects. `references` is by (table, column, how it is known, key id): what a look through every column has found.
    """

    rows: int = 0
    outcomes: Counter[tuple[str, Outcome]] = field(default_factory=Counter)
    keys: Counter[str] = field(default_factory=Counter)
    unreadable: list[dict[str, Any]] = field(default_factory=list)
    plaintext: list[dict[str, Any]] = field(default_factory=list)
    new_data_keys: list[dict[str, Any]] = field(default_factory=list)
    witnesses: dict[str, dict[str, Any]] = field(default_factory=dict)
    references: Counter[tuple[str, str, str, str]] = field(default_factory=Counter)

    def add(self, column_id: str, outcome: Outcome, count: int = 1) -> None:
        """Counts values without a place to tell of."""
        self.outcomes[column_id, outcome] += count

    def add_unreadable(self, column_id: str, place: Mapping[str, Any], reason: Reason) -> None:
        """Counts an unreadable value and lists it, by place and reason, never by value."""
        self.add(column_id, Outcome.UNREADABLE)
        self.unreadable.append({**place, "reason": reason.value})

    def add_plaintext(self, column_id: str, place: Mapping[str, Any]) -> None:
        """Counts a plaintext and lists its place."""
        self.add(column_id, Outcome.PLAINTEXT)
        self.plaintext.append(dict(place))

    def add_witness(self, key: str, where: Mapping[str, Any], group: ColumnGroup, *, convincing: bool) -> None:
        """Remembers where a value under `key` stands; rather one whose plaintext would hardly come out of a wrong key."""
        known = self.witnesses.get(key)
        if known is None or (convincing and not known["convincing"]):
            self.witnesses[key] = {**where, "group": group.id, "convincing": convincing}

    def ended(self, group: ColumnGroup, rewrite: Rewrite, index: int, ending: Ending) -> None:
        """Counts the values of one column of a rewrite."""
        column, changes = group.columns[index], rewrite.changes[index]
        if ending is not Ending.REFUSED:
            self.add(column.id, Outcome.RE_ENCRYPTED if ending is Ending.WRITTEN else Outcome.CHANGED_BY_GRAFANA, len(changes))
            return
        for change in changes:
            self.add_unreadable(column.id, place(group, column, rewrite.row.key, change.path), Reason.WRITE_REFUSED)

    @property
    def values(self) -> int:
        """All values counted."""
        return self.outcomes.total()

    def as_json(self) -> dict[str, Any]:
        """The form in which a worker leaves it for the report."""
        columns: dict[str, dict[str, int]] = {}
        for (column_id, outcome), count in self.outcomes.items():
            columns.setdefault(column_id, {})[outcome.value] = count
        return {"rows": self.rows, "columns": columns, "keys": dict(self.keys), "unreadable": self.unreadable, "plaintext": self.plaintext,
                "new_data_keys": self.new_data_keys, "witnesses": self.witnesses,
                "references": [[*name, count] for name, count in self.references.items()]}  # fmt: skip


def place(group: ColumnGroup, column: SecretColumn, key: Key, path: Path | None) -> dict[str, Any]:
    """Where a value stands, as a report names it."""
    return {
        "table": group.table, "column": column.column, "primary_key": dict(zip(group.primary_key, key, strict=True)),
        "path": None if path is None else list(path),
    }  # fmt: skip
