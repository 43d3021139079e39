"""Put a run's old data keys back from its undo journal: rows that it wrapped anew, and rows that it removed."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from reencrypt.database.database import Database
from reencrypt.errors import PayloadError, Reason, ValueRefused
from reencrypt.grafana import data_keys
from reencrypt.grafana.data_keys import DataKey
from reencrypt.grafana.secret_columns import System
from reencrypt.operations.keys import Unwrapper, key_name
from reencrypt.operations.outcomes import Outcome, Tally
from reencrypt.operations.plan_chunks import KEY_CHUNKS
from reencrypt.operations.safeguards import Safeguards
from reencrypt.storage.journal import Entry, Journal, digest


def restore_keys(
    system: System, database: Database, unwrap: Unwrapper, source: Journal, safeguards: Safeguards, now: datetime, tally: Tally
) -> None:
    """Puts the rows back, newest changes first. In `tally` each key counts once, as a value of its table's `encrypted_data`.

    A row that was wrapped anew gets its old wrapping back if that still opens, to the same 16 bytes; one that was removed is added again, inactive, since
    it protects no value that is written from now on. Safe to repeat. Raises DatabaseError, LeaseHeld, ProviderThrottled.
    """
    chunk = KEY_CHUNKS[system]
    column, verdicts = f"{chunk['table']}.encrypted_data", dict[str, tuple[Outcome, Reason | None]]()
    safeguards.judge(0)
    for page in source.pages(int(chunk["id"])):
        for entry in source.read(page):
            name = key_name(system, str(entry.key[0]), str(entry.key[1]))
            verdict = _restored(system, entry, database, unwrap, now)
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


def _restored(system: System, entry: Entry, database: Database, unwrap: Unwrapper, now: datetime) -> tuple[Outcome, Reason | None]:
    old = data_keys.from_text(entry.old)
    standing = next((row for row in database.data_keys(system) if (row.scope, row.name) == (old.scope, old.name)), None)
    if standing is None:
        if entry.new:  # it was wrapped anew, and deleted since
            return Outcome.CHANGED_BY_GRAFANA, None
        _add(database, system, old)
        return Outcome.RE_ENCRYPTED, None
    if standing.encrypted_data == old.encrypted_data:
        if not entry.new:  # a worker that needed it was first
            return Outcome.RE_ENCRYPTED, None
        return Outcome.ALREADY_CURRENT, None
    if digest(standing.encrypted_data) != entry.new:
        return Outcome.CHANGED_BY_GRAFANA, None
    try:
        theirs = Unwrapper([old], unwrap.providers, system=system)
        opened = theirs(key_name(system, old.scope, old.name))
    except PayloadError as error:
        return Outcome.UNREADABLE, error.reason
    try:
        same = Unwrapper([standing], unwrap.providers, system=system)(key_name(system, old.scope, old.name)) == opened
    except PayloadError:
        same = True  # the new wrapping is lost, which is what a restore is for
    if not same:
        return Outcome.UNREADABLE, Reason.IMPLAUSIBLE_PLAINTEXT
    written = database.replace_data_key(standing, old, now, system)
    return (Outcome.RE_ENCRYPTED if written else Outcome.CHANGED_BY_GRAFANA), None


def _inactive(key: DataKey) -> DataKey:
    # Grafana 8.3 to 8.5, whose table has no labels, does not decrypt with an inactive one.
    return replace(key, active=key.active and key.label is None)
