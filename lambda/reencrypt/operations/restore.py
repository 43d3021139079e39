"""Put a run's old ciphertexts back from its undo journal: only where the database still holds what that run wrote.

A value is known by the digest of its text, not by its place: IVs are random, so no two writes look alike, and a contact point that Grafana has
moved within its document is still found. What Grafana has written since is left alone and reported. An old ciphertext that the configured keys
no longer open, or that holds another secret than the new one, stays in the journal: putting it back would lose the secret.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from reencrypt.database.database import Database, Row
from reencrypt.errors import PayloadError, Reason
from reencrypt.grafana import document, secret_values
from reencrypt.grafana.secret_columns import ColumnGroup, SecretColumn
from reencrypt.grafana.secret_values import SecretValue
from reencrypt.operations.aims import Aim, AimFor
from reencrypt.operations.outcomes import Outcome, Tally, place
from reencrypt.operations.plan_chunks import group_of
from reencrypt.operations.rewrite import Change, Ending, Rewrite, swap
from reencrypt.operations.safeguards import Safeguards
from reencrypt.storage.journal import Entry, Journal, digest

# A value may have entries of several attempts and sweeps; it is counted once, as the first of these that any of them came to.
_ORDER = (Outcome.RE_ENCRYPTED, Outcome.ALREADY_CURRENT, Outcome.UNREADABLE, Outcome.CHANGED_BY_GRAFANA)
_Place = tuple[str, tuple[object, ...], tuple[str | int, ...] | None]


@dataclass(frozen=True)
class _Verdict:
    outcome: Outcome
    reason: Reason | None = None


class _Verdicts:
    """What became of each value of the chunk."""

    def __init__(self) -> None:
        self._by_place: dict[_Place, _Verdict] = {}

    def add(self, where: _Place, outcome: Outcome, reason: Reason | None = None) -> None:
        before = self._by_place.get(where)
        if before is None or _ORDER.index(outcome) < _ORDER.index(before.outcome):
            self._by_place[where] = _Verdict(outcome, reason)

    def count(self, group: ColumnGroup, tally: Tally) -> None:
        """Counts each value once."""
        tally.rows += len({key for _, key, _ in self._by_place})
        columns = {column.id: column for column in group.columns}
        for (column_id, key, path), verdict in self._by_place.items():
            if verdict.outcome is Outcome.UNREADABLE and verdict.reason is not None:
                tally.add_unreadable(column_id, place(group, columns[column_id], key, path), verdict.reason)
            else:
                tally.add(column_id, verdict.outcome)


def restore_chunk(chunk: Mapping[str, Any], database: Database, aim: AimFor, source: Journal, safeguards: Safeguards, tally: Tally) -> None:
    """Puts the old bytes of `chunk` back, newest writes first, so that a value written twice ends as it was before the first.

    In `tally`, `re_encrypted` counts what was put back, `already_current` what stands there already, `changed_by_grafana` what Grafana has
    written or deleted since. Safe to repeat. Raises DatabaseError, LeaseHeld.
    """
    group = group_of(database, chunk)
    verdicts = _Verdicts()

    def ended(group: ColumnGroup, rewrite: Rewrite, index: int, ending: Ending) -> None:
        for change in rewrite.changes[index]:
            where = (group.columns[index].id, rewrite.row.key, change.path)
            if ending is Ending.REFUSED:
                verdicts.add(where, Outcome.UNREADABLE, Reason.WRITE_REFUSED)
            else:
                verdicts.add(where, Outcome.RE_ENCRYPTED if ending is Ending.WRITTEN else Outcome.CHANGED_BY_GRAFANA)

    for page in source.pages(chunk["id"]):
        rewrites = []
        for key, entries in _by_row(source.read(page)):
            row = database.row(group, key)
            rewrite = _rewrite(group, row, entries, aim, verdicts)
            if rewrite is not None and rewrite.new:
                rewrites.append(rewrite)
        safeguards.judge(0)
        if rewrites:
            safeguards.before_write(rewrites)
            swap(group, rewrites, database, ended)
    verdicts.count(group, tally)


def _where(entry: Entry) -> _Place:
    return entry.column, entry.key, entry.path


def _by_row(entries: Iterator[Entry]) -> Iterator[tuple[tuple[object, ...], list[Entry]]]:
    """The entries of one row stand side by side in a page."""
    held: list[Entry] = []
    for entry in entries:
        if held and held[0].key != entry.key:
            yield held[0].key, held
            held = []
        held.append(entry)
    if held:
        yield held[0].key, held


def _rewrite(group: ColumnGroup, row: Row | None, entries: list[Entry], aim: AimFor, verdicts: _Verdicts) -> Rewrite | None:
    if row is None:  # Grafana has deleted it
        for entry in entries:
            verdicts.add(_where(entry), Outcome.CHANGED_BY_GRAFANA)
        return None
    rewrite = Rewrite(group, row)
    for index, column in enumerate(group.columns):
        stored, scope = rewrite.stored(index), rewrite.scope(index)
        ours = [entry for entry in entries if entry.column == column.id]
        if not ours:
            continue
        if not stored:
            for entry in ours:
                verdicts.add(_where(entry), Outcome.CHANGED_BY_GRAFANA)
            continue
        found = list(_standing(column, stored, scope, ours))
        _judge_absent(column, stored, scope, [entry for entry in ours if all(entry is not other for _, other in found)], verdicts)
        readable = []
        for value, entry in found:
            reason = _unfit(column, entry.old, scope, value, aim(column.system))
            if reason is None:
                readable.append((value, entry))
            else:
                verdicts.add(_where(entry), Outcome.UNREADABLE, reason)
        if readable:
            new = document.splice(stored, [(*value.span, entry.old) for value, entry in readable])
            rewrite.put(index, new, [Change(entry.path, stored[slice(*value.span)], digest(entry.old)) for value, entry in readable])
    return rewrite


def _standing(column: SecretColumn, stored: bytes, scope: str, entries: list[Entry]) -> Iterator[tuple[SecretValue, Entry]]:
    """The values that the run wrote, each with its entry. Several entries have the same text where Grafana has copied it: each value gets its own."""
    ours: dict[str, list[Entry]] = {}
    for entry in entries:
        ours.setdefault(entry.new, []).append(entry)
    for value in secret_values.read(column, stored, scope):
        if same := ours.get(digest(stored[slice(*value.span)])):
            entry = next((entry for entry in same if entry.path == value.path), same[0])
            if len(same) > 1:
                same.remove(entry)
            yield value, entry


def _judge_absent(column: SecretColumn, stored: bytes, scope: str, absent: list[Entry], verdicts: _Verdicts) -> None:
    """What this run wrote does not stand there: either the old text does (it was never written, or is back), or Grafana's own."""
    standing = {stored[slice(*value.span)] for value in secret_values.read(column, stored, scope)} if absent else set()
    for entry in absent:
        verdicts.add(_where(entry), Outcome.ALREADY_CURRENT if entry.old in standing else Outcome.CHANGED_BY_GRAFANA)


def _unfit(column: SecretColumn, old: bytes, scope: str, standing: SecretValue, aim: Aim) -> Reason | None:
    """Why the old text must not be put back in place of `standing`; None where it may.

    It must open with the keys configured now, and to the same secret as what stands there. If that one does not open, the key that the run encrypted
    under is lost, which is what a restore is for.
    """
    value = secret_values.read_place(column, old, scope)
    if value.payload is None:
        return value.reason or Reason.NOT_A_PAYLOAD
    try:
        plaintext = aim.read(column, value.payload).plaintext
    except PayloadError as error:
        return error.reason
    try:
        same = standing.payload is not None and aim.open(standing.payload) == plaintext
    except PayloadError:
        return None
    return None if same else Reason.IMPLAUSIBLE_PLAINTEXT
