"""Known bugs, each put into the real code at one seam: a simulator that does not find them would not find others either."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from reencrypt.database.database import Database, Row
from reencrypt.database.statements import Key, Statements
from reencrypt.grafana import document, secret_values
from reencrypt.grafana.data_keys import DataKey
from reencrypt.grafana.key_ring import Sealer
from reencrypt.grafana.secret_columns import ColumnGroup, SecretColumn, System
from reencrypt.grafana.secret_values import SecretValue
from reencrypt.operations import chunk, plan_chunks, preflight, restore, rewrite, run_keys
from reencrypt.operations.aims import Aim, AimFor
from reencrypt.operations.keys import key_name
from reencrypt.operations.rewrite import Change, Ended, Ending, Rewrite
from reencrypt.operations.safeguards import Safeguards
from reencrypt.storage.journal import Entry, digest
from reencrypt.storage.objects import RunStore

Plant = Callable[[], Any]
_DAMAGE_EVERY = 5


@contextmanager
def planted(name: str | None) -> Iterator[None]:
    """The product with the bug `name` in it; None: as it is."""
    if name is None:
        yield
        return
    with PLANTS[name].put():
        yield


def _no_compare() -> Any:
    original = Statements.swap

    def swap(self: Statements, columns: Sequence[int], rows: Sequence[Any]) -> tuple[str, list[object]]:
        text, parameters = original(self, columns, rows)
        if " FROM (VALUES " in text:  # PostgreSQL: the old bytes stay in the list of new rows, where nobody looks at them
            head, _, conditions = text.rpartition(" WHERE ")
            return f"{head} WHERE {' AND '.join(part for part in conditions.split(' AND ') if ' = v.o' not in part)}", parameters
        return text, parameters

    def still(self: Statements, _index: int, old: bytes) -> tuple[str, object]:
        return f"{self.dialect.mark} IS NOT NULL", old

    return _both(patch.object(Statements, "swap", swap), patch.object(Statements, "_still", still))


def _stale_page() -> Any:
    def still_ours(group: ColumnGroup, missed: Rewrite, database: Database, ended: Ended) -> bool:
        now = database.row(group, missed.row.key)
        if now is None:
            for index in list(missed.new):
                ended(group, missed, index, Ending.CHANGED)
            return False
        missed.row = now
        return True

    return patch.object(rewrite, "_still_ours", still_ours)


def _write_before_journal() -> Any:
    late: dict[int, tuple[Safeguards, list[Entry]]] = {}
    original = rewrite.swap

    def before_write(self: Safeguards, rewrites: Sequence[Rewrite]) -> None:
        late[id(rewrites)] = self, [entry for written in rewrites for entry in written.entries()]

    def swap(group: ColumnGroup, rewrites: Sequence[Rewrite], database: Database, ended: Ended) -> None:
        safeguards, entries = late.pop(id(rewrites))
        original(group, rewrites, database, ended)
        if safeguards.journal is not None:
            safeguards.journal.record(safeguards.chunk, entries)

    return _both(patch.object(Safeguards, "before_write", before_write), patch.object(chunk, "swap", swap), patch.object(restore, "swap", swap))


def _no_journal() -> Any:
    original = Safeguards.before_write

    def before_write(self: Safeguards, rewrites: Sequence[Rewrite]) -> None:
        original(self, rewrites[1:])

    return patch.object(Safeguards, "before_write", before_write)


def damaging_sealer() -> Any:
    """Not a bug of the product's: a fault of memory, say. With the check that follows it, the run must stop and lose nothing."""
    original, turns = Sealer.seal, itertools.count(1)

    def seal(self: Sealer, plaintext: bytes) -> bytes:
        sealed = original(self, plaintext)
        return sealed if next(turns) % _DAMAGE_EVERY or not plaintext else sealed[:-1] + bytes((sealed[-1] ^ 1,))

    return patch.object(Sealer, "seal", seal)


def _skip_decrypt_back() -> Any:
    def decrypt_back(
        _column: SecretColumn, after: list[SecretValue], before: list[SecretValue], replaced: list[SecretValue], _plaintexts: list[bytes], _aim: Aim
    ) -> list[SecretValue]:
        now_at = {id(old): now for old, now in zip(before, after, strict=True)}
        return [now_at[id(old)] for old in replaced]

    return _both(damaging_sealer(), patch.object(chunk, "_decrypt_back", decrypt_back))


def _count_twice() -> Any:
    original = RunStore.put_json

    def put_json(self: RunStore, key: str, value: Any, *, once: bool = False) -> bool:
        known = self.find_json(key) if once and key.startswith("outcomes/") else None
        if known is None:
            return original(self, key, value, once=once)
        for column, counts in value["columns"].items():
            for outcome, count in counts.items():
                of_column = known["columns"].setdefault(column, {})
                of_column[outcome] = of_column.get(outcome, 0) + count
        return original(self, key, known)

    return patch.object(RunStore, "put_json", put_json)


def _no_settle() -> Any:
    return patch.object(preflight, "_settle_seconds", lambda request, workspace: 1)


def _closed_end() -> Any:
    original = plan_chunks._chunks

    def chunks(database: Database, group: ColumnGroup, rows: int) -> Iterator[dict[str, Any]]:
        for piece in original(database, group, rows):
            if piece["through"] is None:
                after = None if piece["after"] is None else tuple(piece["after"])
                last = [row.key for row in database.page(group, after, None)][-1:]
                piece = {**piece, "through": list(last[0]) if last else piece["after"]}
            yield piece

    return patch.object(plan_chunks, "_chunks", chunks)


def _restore_without_compare() -> Any:
    def by_place(group: ColumnGroup, row: Row | None, entries: list[Entry], _aim: AimFor, verdicts: Any) -> Rewrite | None:
        if row is None:
            return None
        back = Rewrite(group, row)
        for index, column in enumerate(group.columns):
            stored = row.values[index]
            ours = {entry.path: entry for entry in entries if entry.column == column.id}
            found = [(value, ours[value.path]) for value in secret_values.read(column, stored) if value.path in ours and value.payload is not None]
            if found and stored:
                back.new[index] = document.splice(stored, [(*value.span, entry.old) for value, entry in found])
                back.changes[index] = [Change(entry.path, stored[slice(*value.span)], digest(entry.old)) for value, entry in found]
        return back

    return patch.object(restore, "_rewrite", by_place)


def _page_gap() -> Any:
    original = Database.page

    def page(self: Database, group: ColumnGroup, after: Key | None, through: Key | None, without: Sequence[Key] = ()) -> list[Row]:
        rows = original(self, group, after, through, without)
        return rows[:-1] if len(rows) > 1 and through is not None else rows

    return patch.object(Database, "page", page)


def _inactive_is_current() -> Any:
    def current_keys(rows: Iterable[DataKey], provider: str, system: System = System.GRAFANA) -> frozenset[str]:
        return frozenset(key_name(system, row.scope, row.name) for row in rows if row.provider == provider)

    return patch.object(run_keys, "current_keys", current_keys)


@contextmanager
def _both(*patches: Any) -> Iterator[None]:
    if not patches:
        yield
        return
    with patches[0], _both(*patches[1:]):
        yield


@dataclass(frozen=True)
class Planted:
    """`shows` are the kinds of fault by which it can be known."""

    description: str
    put: Plant
    shows: frozenset[str]


def _all() -> Iterator[tuple[str, Planted]]:
    lost, swept, counted, undone = frozenset({"lost", "overwritten"}), frozenset({"unswept"}), frozenset({"miscounted"}), frozenset({"unrestored"})
    yield "no-compare", Planted("the UPDATE does not compare the old bytes", _no_compare, lost)
    yield "stale-page", Planted("a missed swap is tried again over the row as it is now, with payloads of the row as it was", _stale_page, lost)
    yield "write-before-journal", Planted("a page goes into the undo journal after it has been written", _write_before_journal, undone)
    yield "no-journal", Planted("the first row of each page is left out of the undo journal", _no_journal, undone)
    yield "skip-decrypt-back", Planted("a sealer damages a payload now and then, and nobody decrypts it back", _skip_decrypt_back, lost)
    yield "count-twice", Planted("two deliveries of one chunk at the same time are both counted", _count_twice, counted)
    yield "no-settle", Planted("the sweep does not wait until Grafana's caches have expired", _no_settle, swept)
    yield "closed-end", Planted("the last chunk of a table ends at the last row that there was when the run was planned", _closed_end, swept)
    yield "restore-without-compare", Planted("a restore knows a value by its place, and not by what the run wrote there", _restore_without_compare, lost)
    yield "page-gap", Planted("the last row of a page is passed over", _page_gap, counted)
    yield "inactive-is-current", Planted("values under a deactivated key of the provider are taken for current", _inactive_is_current, swept)


PLANTS: Mapping[str, Planted] = dict(_all())
