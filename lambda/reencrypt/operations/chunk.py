"""Bring a chunk under the run's data key, or only see what that would do: the heart of every run.

The way of a value: page → payload → plaintext → judgement → new payload → decrypted back → compare-and-swap → outcome.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from reencrypt.database.database import Database, Row, Swap, Swapped
from reencrypt.database.statements import Key
from reencrypt.errors import PayloadError, Reason, SafetyError
from reencrypt.grafana import plausibility, secret_values
from reencrypt.grafana.key_ring import SECRET_KEY, KeyRing, Sealer
from reencrypt.grafana.secret_columns import ColumnGroup, SecretColumn
from reencrypt.grafana.secret_values import SecretValue, State
from reencrypt.operations.outcomes import Outcome, Tally, place

PAGE_ROWS = 200
PAGE_BYTES = 1 << 20
SWAP_ATTEMPTS = 3


@dataclass(frozen=True)
class Range:
    """The rows of a column group whose primary key is after `after` and not after `through`; None is open."""

    group: ColumnGroup
    after: Key | None
    through: Key | None


@dataclass(frozen=True)
class Policy:
    """What to do with readable values: those under a key of `current` stay unless `force`; `sealer` None writes nothing."""

    current: frozenset[str]
    sealer: Sealer | None
    force: bool = False


@dataclass
class _Rewrite:
    """A column of a row to be swapped, and how many values that are."""

    row: Row
    new: dict[int, bytes] = field(default_factory=dict, repr=False)
    values: dict[int, list[SecretValue]] = field(default_factory=dict, repr=False)


def process(stretch: Range, database: Database, ring: KeyRing, policy: Policy, out_of_time: Callable[[], bool]) -> tuple[Tally, Key | None]:
    """Brings every value of `stretch` under the policy's data key and tells what became of each; (tally, key reached or None when done).

    Writes a value only after its new payload has been decrypted back from the bytes that will be stored, and only if the stored bytes are
    still those that were read. Safe to run twice, at the same time, or again after a crash at any point: what is current already stays.
    Stops after a page when `out_of_time`. Raises DatabaseError; never for a bad value: those are counted.
    """
    tally = Tally()
    position = stretch.after
    while True:
        window = database.window(stretch.group, position, stretch.through, PAGE_ROWS, PAGE_BYTES)
        if window.rows:
            _process_page(stretch.group, database.page(stretch.group, position, window.through), database, ring, policy, tally)
        if window.last or window.through is None:
            return tally, None
        position = window.through
        if position == stretch.through:
            return tally, None
        if out_of_time():
            return tally, position


def _process_page(group: ColumnGroup, rows: Iterable[Row], database: Database, ring: KeyRing, policy: Policy, tally: Tally) -> None:
    rewrites = []
    for row in rows:
        tally.rows += 1
        rewrite = _Rewrite(row)
        for index, (column, stored) in enumerate(zip(group.columns, row.values, strict=True)):
            _process_column(group, column, index, stored, rewrite, database, ring, policy, tally)
        if rewrite.new:
            rewrites.append(rewrite)
    if rewrites:
        _swap(group, rewrites, database, tally)


def _process_column(
    group: ColumnGroup, column: SecretColumn, index: int, stored: bytes | None, rewrite: _Rewrite,
    database: Database, ring: KeyRing, policy: Policy, tally: Tally,
) -> None:  # fmt: skip
    sealed: list[tuple[SecretValue, bytes]] = []
    plaintexts: list[bytes] = []
    values = secret_values.read(column, stored)
    for value in values:
        if value.state is State.EMPTY:
            tally.add(column.id, Outcome.EMPTY)
        elif value.state is State.PLAINTEXT:
            tally.add_plaintext(column.id, _place(group, column, rewrite.row, value))
        elif value.payload is None:
            tally.add_unreadable(column.id, _place(group, column, rewrite.row, value), value.reason or Reason.NOT_A_PAYLOAD)
        else:
            key_id = value.payload.key_id
            tally.keys[SECRET_KEY if key_id is None else key_id] += 1
            try:
                plaintext = ring.decrypt(value.payload)
                if not plausibility.is_plausible(column.plaintext, plaintext):
                    raise PayloadError(Reason.IMPLAUSIBLE_PLAINTEXT)
            except PayloadError as error:
                tally.add_unreadable(column.id, _place(group, column, rewrite.row, value), error.reason)
                continue
            if not column.envelope or (key_id in policy.current and not policy.force):
                tally.add(column.id, Outcome.ALREADY_CURRENT)
            elif policy.sealer is None:
                tally.add(column.id, Outcome.RE_ENCRYPTED)
            else:
                sealed.append((value, policy.sealer.seal(plaintext)))
                plaintexts.append(plaintext)
    if not sealed or stored is None:
        return
    new = secret_values.write(column, stored, sealed)
    replaced = [value for value, _ in sealed]
    if not database.schema([group.table]).fits(group.table, column.column, new):
        refusal = Reason.TOO_LONG_FOR_COLUMN
    elif not database.can_send(group.table, column.column, new):
        refusal = Reason.TOO_LARGE_FOR_SERVER
    else:
        _decrypt_back(column, new, values, replaced, plaintexts, ring)
        rewrite.new[index] = new
        rewrite.values[index] = replaced
        return
    for value in replaced:
        tally.add_unreadable(column.id, _place(group, column, rewrite.row, value), refusal)


def _decrypt_back(
    column: SecretColumn, new: bytes, before: list[SecretValue], replaced: list[SecretValue], plaintexts: list[bytes], ring: KeyRing
) -> None:
    """Reads the new column value as Grafana will, and compares each plaintext. Raises SafetyError: nothing of this page is written then."""
    after = secret_values.read(column, new)
    if [value.path for value in after] != [value.path for value in before]:
        raise SafetyError(f"{column.id}: the new value does not have the places of the old one; this is a bug, nothing was written")
    wanted = iter(zip(replaced, plaintexts, strict=True))
    expected, plaintext = next(wanted)
    for old, now in zip(before, after, strict=True):
        if old is not expected:
            continue
        if now.payload is None or ring.decrypt(now.payload) != plaintext:
            raise SafetyError(f"{column.id}: a new payload does not decrypt to its plaintext; this is a bug, nothing was written")
        following = next(wanted, None)
        if following is None:
            return
        expected, plaintext = following
    raise SafetyError(f"{column.id}: a new payload was not found again; this is a bug, nothing was written")


def _swap(group: ColumnGroup, rewrites: list[_Rewrite], database: Database, tally: Tally) -> None:
    """Writes; what Grafana changed meanwhile stays Grafana's, and columns beside it in the same row are tried again on their own."""
    for _ in range(SWAP_ATTEMPTS):
        missed = []
        results = database.compare_and_swap(group, [Swap(rewrite.row, rewrite.new) for rewrite in rewrites])
        for rewrite, result in zip(rewrites, results, strict=True):
            if result is Swapped.WRITTEN:
                _count(group, rewrite, Outcome.RE_ENCRYPTED, tally)
            elif result is Swapped.REFUSED:
                _count_refused(group, rewrite, tally)
            elif _still_ours(group, rewrite, database, tally):
                missed.append(rewrite)
        rewrites = missed
        if not rewrites:
            return
    for rewrite in rewrites:
        _count(group, rewrite, Outcome.CHANGED_BY_GRAFANA, tally)


def _still_ours(group: ColumnGroup, rewrite: _Rewrite, database: Database, tally: Tally) -> bool:
    """After a missed swap: counts what has changed or is written after all; True where unchanged columns are left to try again."""
    now = database.row(group, rewrite.row.key)
    for index in list(rewrite.new):
        if now is not None and now.values[index] == rewrite.row.values[index] and now.classes == rewrite.row.classes:
            continue
        written = now is not None and now.values[index] == rewrite.new[index]
        outcome = Outcome.RE_ENCRYPTED if written else Outcome.CHANGED_BY_GRAFANA
        tally.add(group.columns[index].id, outcome, len(rewrite.values[index]))
        del rewrite.new[index]
    return bool(rewrite.new)


def _count(group: ColumnGroup, rewrite: _Rewrite, outcome: Outcome, tally: Tally) -> None:
    for index in rewrite.new:
        tally.add(group.columns[index].id, outcome, len(rewrite.values[index]))


def _count_refused(group: ColumnGroup, rewrite: _Rewrite, tally: Tally) -> None:
    for index in rewrite.new:
        column = group.columns[index]
        for value in rewrite.values[index]:
            tally.add_unreadable(column.id, _place(group, column, rewrite.row, value), Reason.WRITE_REFUSED)


def _place(group: ColumnGroup, column: SecretColumn, row: Row, value: SecretValue) -> dict[str, Any]:
    return place(group.table, column.column, dict(zip(group.primary_key, row.key, strict=True)), value.path)
