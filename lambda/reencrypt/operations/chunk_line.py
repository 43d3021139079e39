"""One line of the log about a stretch of a chunk, which a person can read and a query can count.

    chunk 12 of secrets: 1000 rows, 812 values: 800 re-encrypted, 12 already current, 0 unreadable, 3.2 s

Counts and names of tables, never a value, never a primary key.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reencrypt.database.everything import PREFIX
from reencrypt.operations.modes import Mode
from reencrypt.operations.outcomes import Outcome

# What the report calls an outcome in the first pass of a mode; a pass that only reads has "to re-encrypt".
_DONE: Mapping[str, str] = {Mode.RESTORE: "put back", Mode.ROLLBACK: "brought back"}
_SAID: Mapping[Outcome, str] = {
    Outcome.ALREADY_CURRENT: "already current",
    Outcome.EMPTY: "empty",
    Outcome.CHANGED_BY_GRAFANA: "changed by Grafana",
    Outcome.PLAINTEXT: "in plaintext",
    Outcome.UNREADABLE: "unreadable",
}
# These are told even where there are none: that is the news.
_ALWAYS = (Outcome.RE_ENCRYPTED, Outcome.ALREADY_CURRENT, Outcome.UNREADABLE)


def counts(outcome: Mapping[str, Any]) -> dict[str, int]:
    """The six outcomes of the stretch's values, over all its columns."""
    return {kind.value: sum(column.get(kind.value, 0) for column in outcome["columns"].values()) for kind in Outcome}


def line(mode: str, phase: str, outcome: Mapping[str, Any]) -> str:
    """`outcome` is what `work_through` returns; `mode` and `phase` choose the words."""
    start = f"chunk {outcome['chunk']} of {outcome['group'].removeprefix(PREFIX)}: {_many(outcome['rows'], 'row')}"
    if outcome["group"].startswith(PREFIX):
        what = f" looked through, {_many(sum(count for *_, count in outcome['references']), 'reference')} to data keys"
    else:
        found = counts(outcome)
        told = [f"{found[kind]} {_word(kind, mode, phase)}" for kind in Outcome if found[kind] or kind in _ALWAYS]
        what = f", {_many(sum(found.values()), 'value')}: {', '.join(told)}"
    return f"{start}{what}, {outcome['seconds']:.1f} s" + ("" if outcome["to"] is None else "; stopped before the deadline, the next delivery goes on")


def _word(kind: Outcome, mode: str, phase: str) -> str:
    if kind is not Outcome.RE_ENCRYPTED:
        return _SAID[kind]
    known = Mode(mode) if mode in list(Mode) else Mode.PLAN
    return _DONE.get(mode, "re-encrypted") if known.writes and phase != "verify" else "to re-encrypt"


def _many(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
