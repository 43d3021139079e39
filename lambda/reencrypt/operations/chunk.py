"""Bring a chunk under the run's data key, or only see what that would do: the heart of every run.

The way of a value: page → payload → plaintext → judgement → new payload → decrypted back → undo journal → compare-and-swap → outcome.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from reencrypt.database.database import Database, Row
from reencrypt.database.statements import Key
from reencrypt.errors import PayloadError, Reason, SafetyError
from reencrypt.grafana import secret_values
from reencrypt.grafana.key_ring import SECRET_KEY, KeyRing, Sealer
from reencrypt.grafana.secret_columns import ColumnGroup, SecretColumn
from reencrypt.grafana.secret_values import SecretValue, State
from reencrypt.operations.keys import read
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
    """What to do with readable values: those under a key of `current` stay unless `force`; `sealer` None writes nothing.

    `safeguards` stand before each write.
    """

    current: frozenset[str]
    sealer: Sealer | None
    safeguards: Safeguards
    force: bool = False


def process(stretch: Range, database: Database, ring: KeyRing, policy: Policy, out_of_time: Callable[[], bool], tally: Tally) -> Key | None:
    """Brings every value of `stretch` under the policy's data key, counts in `tally` what became of each, and returns the key reached, None at the end.

    Writes a value only after its new payload has been decrypted back from the bytes that will be stored, only after the old one is in the
    undo journal, and only if the stored bytes are still those that were read. Safe to run twice, at the same time, or again after a crash at
    any point: what is current already stays. Stops after a page when `out_of_time`. Raises DatabaseError, LeaseHeld, TooManyUnreadable; never
    for a bad value: those are counted.
    """
    position = stretch.after
    left = stretch.rows
    while True:
        most = PAGE_ROWS if left is None else min(PAGE_ROWS, left)
        window = database.window(stretch.group, position, stretch.through, most, PAGE_BYTES, stretch.without)
        if window.rows:
            rows = database.page(stretch.group, position, window.through, stretch.without)
            _process_page(stretch.group, rows, database, ring, policy, tally)
        if window.last or window.through is None:
            return None
        position = window.through
        if position == stretch.through:
            return None
        if left is not None:
            left -= window.rows
        if out_of_time() or left == 0:
            return position


def _process_page(group: ColumnGroup, rows: Iterable[Row], database: Database, ring: KeyRing, policy: Policy, tally: Tally) -> None:
    rewrites: list[Rewrite] = []
    for row in rows:
        tally.rows += 1
        rewrite = Rewrite(row)
        for index, (column, stored) in enumerate(zip(group.columns, row.values, strict=True)):
            _process_column(group, column, index, stored, rewrite, database, ring, policy, tally)
        if rewrite.new:
            rewrites.append(rewrite)
    policy.safeguards.judge(len(tally.unreadable))
    if rewrites:
        policy.safeguards.before_write(group, rewrites)
        swap(group, rewrites, database, tally.ended)


def _process_column(
    group: ColumnGroup, column: SecretColumn, index: int, stored: bytes | None, rewrite: Rewrite,
    database: Database, ring: KeyRing, policy: Policy, tally: Tally,
) -> None:  # fmt: skip
    sealed: list[tuple[SecretValue, bytes]] = []
    plaintexts: list[bytes] = []
    values = secret_values.read(column, stored)
    for value in values:
        if value.state is State.EMPTY:
            tally.add(column.id, Outcome.EMPTY)
        elif value.state is State.PLAINTEXT:
            tally.add_plaintext(column.id, place(group, column, rewrite.row.key, value.path))
        elif value.payload is None:
            tally.add_unreadable(column.id, place(group, column, rewrite.row.key, value.path), value.reason or Reason.NOT_A_PAYLOAD)
        else:
            key_id = value.payload.key_id
            tally.keys[SECRET_KEY if key_id is None else key_id] += 1
            try:
                plaintext = read(ring, column, value.payload)
            except PayloadError as error:
                tally.add_unreadable(column.id, place(group, column, rewrite.row.key, value.path), error.reason)
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
        written = _decrypt_back(column, new, values, replaced, plaintexts, ring)
        rewrite.new[index] = new
        rewrite.changes[index] = [
            Change(before.path, stored[slice(*before.span)], digest(new[slice(*after.span)])) for before, after in zip(replaced, written, strict=True)
        ]
        return
    for value in replaced:
        tally.add_unreadable(column.id, place(group, column, rewrite.row.key, value.path), refusal)


def _decrypt_back(
    column: SecretColumn, new: bytes, before: list[SecretValue], replaced: list[SecretValue], plaintexts: list[bytes], ring: KeyRing
) -> list[SecretValue]:
    """Reads the new column value as Grafana will, and compares each plaintext; returns the new values.

    Raises SafetyError: nothing of this page is written then.
    """
    after = secret_values.read(column, new)
    if [value.path for value in after] != [value.path for value in before]:
        raise SafetyError(f"{column.id}: the new value does not have the places of the old one; this is a bug, nothing was written")
    now_at = {id(old): now for old, now in zip(before, after, strict=True)}
    written = [now_at[id(old)] for old in replaced]
    for now, plaintext in zip(written, plaintexts, strict=True):
        if now.payload is None or ring.decrypt(now.payload) != plaintext:
            raise SafetyError(f"{column.id}: a new payload does not decrypt to its plaintext; this is a bug, nothing was written")
    return written
