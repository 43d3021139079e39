"""Put a run's old data keys back from its undo journal: rows that it wrapped anew, and rows that it removed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime

from reencrypt.database.database import Database
from reencrypt.errors import PayloadError, Reason, ValueRefused
from reencrypt.grafana import data_keys
from reencrypt.grafana.data_keys import DataKey
from reencrypt.grafana.secret_columns import System
from reencrypt.operations import key_journal
from reencrypt.operations.keys import Unwrapper, key_name
from reencrypt.operations.outcomes import Outcome, Tally
from reencrypt.operations.plan_chunks import KEY_CHUNKS
from reencrypt.operations.safeguards import Safeguards
from reencrypt.storage.journal import Entry, Journal, digest

_Verdict = tuple[Outcome, Reason | None]


def restore_keys(system: System, database: Database, unwrap: Unwrapper, source: Journal, safeguards: Safeguards, now: datetime, tally: Tally) -> None:
    """Puts the rows back, newest changes first. In `tally` each key counts once, as a value of its table's `encrypted_data`.

    A row that was wrapped anew gets its old wrapping back if that still opens, to the same 16 bytes; one that was removed is added again, inactive, since
    it protects no value that is written from now on. Safe to repeat. Raises DatabaseError, LeaseHeld, ProviderThrottled.
    """
    chunk = KEY_CHUNKS[system]
    column, verdicts = f"{chunk['table']}.encrypted_data", dict[str, _Verdict]()
    for page in source.pages(int(chunk["id"])):
        safeguards.judge(0)
        for name, verdict in _page(system, list(source.read(page)), database, unwrap, safeguards, now):
            if name not in verdicts or verdict[0] is Outcome.RE_ENCRYPTED:
                verdicts[name] = verdict
    tally.rows += len(verdicts)
    for name, (outcome, reason) in verdicts.items():
        if reason is None:
            tally.add(column, outcome)
        else:
            place = {"table": chunk["table"], "column": "encrypted_data", "primary_key": {"id": name}, "path": None}
            tally.add_unreadable(column, place, reason)


def put_back_removed(system: System, database: Database, source: Journal) -> None:
    """Adds the rows that the run removed, where they are missing. Safe to repeat, and side by side. Raises DatabaseError."""
    pages = source.pages(int(KEY_CHUNKS[system]["id"]))
    removed = [data_keys.from_text(entry.old) for page in pages for entry in source.read(page) if not entry.new]
    if not removed:
        return
    there = {(row.scope, row.name) for row in database.data_keys(system)}
    for key in removed:
        if (key.scope, key.name) not in there:
            _add(database, system, key)


def _add(database: Database, system: System, key: DataKey) -> None:
    try:
        database.insert_data_key(_inactive(key), system)
    except ValueRefused:  # another worker was first
        if all((row.scope, row.name) != (key.scope, key.name) for row in database.data_keys(system)):
            raise


def _page(system: System, entries: list[Entry], database: Database, unwrap: Unwrapper, safeguards: Safeguards, now: datetime) -> Iterator[tuple[str, _Verdict]]:
    """What becomes of the rows of one page, each of which stands there once. What is written over is in the journal of this run first."""
    rows = {(row.scope, row.name): row for row in database.data_keys(system)}
    changes: list[tuple[DataKey, DataKey]] = []
    for entry in entries:
        old = data_keys.from_text(entry.old)
        name, standing = key_name(system, old.scope, old.name), rows.get((old.scope, old.name))
        if standing is None and not entry.new:  # removed
            _add(database, system, old)
            yield name, (Outcome.RE_ENCRYPTED, None)
        elif standing is None:  # wrapped anew, and deleted since
            yield name, (Outcome.CHANGED_BY_GRAFANA, None)
        elif standing.encrypted_data == old.encrypted_data:  # removed, and put back by a worker that needed it; or never wrapped anew
            yield name, (Outcome.ALREADY_CURRENT if entry.new else Outcome.RE_ENCRYPTED, None)
        elif digest(standing.encrypted_data) != entry.new:
            yield name, (Outcome.CHANGED_BY_GRAFANA, None)
        elif (reason := _unfit(system, old, standing, unwrap)) is not None:
            yield name, (Outcome.UNREADABLE, reason)
        else:
            changes.append((standing, old))
    key_journal.record(safeguards.journal, system, changes)
    for standing, old in changes:
        written = database.replace_data_key(standing, old, now, system)
        yield key_name(system, old.scope, old.name), (Outcome.RE_ENCRYPTED if written else Outcome.CHANGED_BY_GRAFANA, None)


def _unfit(system: System, old: DataKey, standing: DataKey, unwrap: Unwrapper) -> Reason | None:
    """Why the old wrapping must not be put back in place of `standing`; None where it may: it opens, and to the same 16 bytes."""
    name = key_name(system, old.scope, old.name)
    try:
        opened = Unwrapper([old], unwrap.providers, system=system)(name)
    except PayloadError as error:
        return error.reason
    try:
        same = Unwrapper([standing], unwrap.providers, system=system)(name) == opened
    except PayloadError:
        return None  # the new wrapping is lost, which is what a restore is for
    return None if same else Reason.IMPLAUSIBLE_PLAINTEXT


def _inactive(key: DataKey) -> DataKey:
    # Grafana 8.3 to 8.5, whose table has no labels, does not decrypt with an inactive one.
    return replace(key, active=key.active and key.label is None)
