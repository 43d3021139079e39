"""Bring a chunk's values under the key that the run wants, or only see what that would do: the heart of every run.

The way of a value: page → payload → plaintext → judgement → new payload → decrypted back → undo journal → compare-and-swap → outcome.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from reencrypt.database.database import Database, Row
from reencrypt.database.statements import Key
from reencrypt.errors import PayloadError, Reason, SafetyError
from reencrypt.grafana import plausibility, secret_values
from reencrypt.grafana.secret_columns import ColumnGroup, SecretColumn
from reencrypt.grafana.secret_values import SecretValue, State
from reencrypt.operations.aims import Aim, AimFor
from reencrypt.operations.keys import name_of
from reencrypt.operations.outcomes import Outcome, Tally, place
from reencrypt.operations.rewrite import Change, Rewrite, swap
from reencrypt.operations.safeguards import Safeguards
from reencrypt.storage.journal import digest

PAGE_ROWS = 200
PAGE_BYTES = 1 << 20


@dataclass(frozen=True)
class Range:
    """The rows of a column group whose primary key is after `after` and not after `through`; None is open.

    At most `rows` of them, and none of those in `without`.
    """

    group: ColumnGroup
    after: Key | None
    through: Key | None
    rows: int | None = None
    without: tuple[Key, ...] = ()


@dataclass(frozen=True)
class Policy:
    """What to do with readable values: the aim of their store says. `writes` False writes nothing; `safeguards` stand before each write.

    `witnesses`: remember for each data key a value that it protects.
    """

    aim: AimFor
    writes: bool
    safeguards: Safeguards
    witnesses: bool = False


def process(stretch: Range, database: Database, policy: Policy, out_of_time: Callable[[], bool], tally: Tally) -> Key | None:
    """Brings every value of `stretch` to the policy's aim, counts in `tally` what became of each, and returns the key reached, None at the end.

    Writes a value only after its new payload has been decrypted back from the bytes that will be stored, only after the old one is in the
    undo journal, and only if the stored bytes are still those that were read. Safe to run twice, at the same time, or again after a crash at
    any point: what is current already stays. Stops after a page when `out_of_time`. Raises DatabaseError, LeaseHeld, TooManyUnreadable; never
    for a bad value: those are counted.
    """
    return walk(stretch, database, out_of_time, lambda rows: _process_page(stretch.group, rows, database, policy, tally))


def walk(stretch: Range, database: Database, out_of_time: Callable[[], bool], each: Callable[[list[Row]], None]) -> Key | None:
    """Gives the rows of `stretch` to `each`, page by page, until the end (None) or, after a page, `out_of_time`; returns the key reached."""
    position = stretch.after
    left = stretch.rows
    while True:
        most = PAGE_ROWS if left is None else min(PAGE_ROWS, left)
        window = database.window(stretch.group, position, stretch.through, most, PAGE_BYTES, stretch.without)
        if window.rows:
            each(database.page(stretch.group, position, window.through, stretch.without))
        if window.last or window.through is None:
            return None
        position = window.through
        if position == stretch.through:
            return None
        if left is not None:
            left -= window.rows
        if out_of_time() or left == 0:
            return position


def _process_page(group: ColumnGroup, rows: Iterable[Row], database: Database, policy: Policy, tally: Tally) -> None:
    rewrites: list[Rewrite] = []
    for row in rows:
        tally.rows += 1
        rewrite = Rewrite(group, row)
        for index, column in enumerate(group.columns):
            _process_column(group, column, index, rewrite, database, policy, tally)
        if rewrite.new:
            rewrites.append(rewrite)
    policy.safeguards.judge(len(tally.unreadable))
    if rewrites:
        policy.safeguards.before_write(rewrites)
        swap(group, rewrites, database, tally.ended)


def _process_column(group: ColumnGroup, column: SecretColumn, index: int, rewrite: Rewrite, database: Database, policy: Policy, tally: Tally) -> None:
    sealed: list[tuple[SecretValue, bytes]] = []
    plaintexts: list[bytes] = []
    aim, stored = policy.aim(column.system), rewrite.stored(index)
    values = secret_values.read(column, stored, rewrite.scope(index))
    for value in values:
        if value.state is State.EMPTY:
            tally.add(column.id, Outcome.EMPTY)
        elif value.state is State.PLAINTEXT:
            tally.add_plaintext(column.id, place(group, column, rewrite.row.key, value.path))
        elif value.payload is None:
            tally.add_unreadable(column.id, place(group, column, rewrite.row.key, value.path), value.reason or Reason.NOT_A_PAYLOAD)
        else:
            name = name_of(column.system, value.payload)
            tally.keys[name] += 1
            try:
                reading = aim.read(column, value.payload)
            except PayloadError as error:
                tally.add_unreadable(column.id, place(group, column, rewrite.row.key, value.path), error.reason)
                continue
            if policy.witnesses:
                convincing = plausibility.is_convincing(column.plaintext, reading.plaintext)
                tally.add_witness(name, place(group, column, rewrite.row.key, value.path), group, convincing=convincing)
            if reading.current:
                tally.add(column.id, Outcome.ALREADY_CURRENT)
            elif not policy.writes:
                tally.add(column.id, Outcome.RE_ENCRYPTED)
            elif (payload := aim.seal(value.payload, reading.plaintext)) is None:
                tally.add(column.id, Outcome.CHANGED_BY_GRAFANA)  # in a namespace that it has added meanwhile: the next run has a key for it
            else:
                sealed.append((value, payload))
                plaintexts.append(reading.plaintext)
    if sealed:
        _put(group, index, values, sealed, plaintexts, rewrite, database, aim, tally)


def _put(
    group: ColumnGroup, index: int, values: list[SecretValue], sealed: list[tuple[SecretValue, bytes]], plaintexts: list[bytes],
    rewrite: Rewrite, database: Database, aim: Aim, tally: Tally,
) -> None:  # fmt: skip
    """Puts the column's new bytes into `rewrite`, once they are read back as Grafana will; what the server could not hold is counted."""
    column, stored = group.columns[index], rewrite.stored(index) or b""
    new = secret_values.write(column, stored, sealed)
    replaced = [value for value, _ in sealed]
    parts = rewrite.parts_of(index, new)
    if not all(database.schema([group.table]).fits(group.table, name, part) for name, part in parts.items()):
        refusal = Reason.TOO_LONG_FOR_COLUMN
    elif not all(database.can_send(group.table, name, part) for name, part in parts.items()):
        refusal = Reason.TOO_LARGE_FOR_SERVER
    else:
        written = _decrypt_back(column, secret_values.read(column, new, rewrite.scope(index)), values, replaced, plaintexts, aim)
        changes = [Change(old.path, stored[slice(*old.span)], digest(new[slice(*now.span)])) for old, now in zip(replaced, written, strict=True)]
        rewrite.put(index, new, changes)
        return
    for value in replaced:
        tally.add_unreadable(column.id, place(group, column, rewrite.row.key, value.path), refusal)


def _decrypt_back(
    column: SecretColumn, after: list[SecretValue], before: list[SecretValue], replaced: list[SecretValue], plaintexts: list[bytes], aim: Aim
) -> list[SecretValue]:
    """Compares the plaintext of each new payload with the old one's; returns the new values. Raises SafetyError: nothing of this page is written then."""
    if [value.path for value in after] != [value.path for value in before]:
        raise SafetyError(f"{column.id}: the new value does not have the places of the old one; this is a bug, nothing was written")
    now_at = {id(old): now for old, now in zip(before, after, strict=True)}
    written = [now_at[id(old)] for old in replaced]
    for now, plaintext in zip(written, plaintexts, strict=True):
        if now.payload is None or aim.open(now.payload) != plaintext:
            raise SafetyError(f"{column.id}: a new payload does not decrypt to its plaintext; this is a bug, nothing was written")
    return written
