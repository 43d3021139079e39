"""What the undo journal keeps of data keys: whole rows, before a run wraps them anew or removes them."""

from __future__ import annotations

from collections.abc import Iterable

from reencrypt.grafana import data_keys
from reencrypt.grafana.data_keys import DataKey
from reencrypt.grafana.secret_columns import System
from reencrypt.operations.plan_chunks import KEY_CHUNKS
from reencrypt.storage.journal import Entry, Journal, digest

Change = tuple[DataKey, DataKey | None]
"""A row as it is, and as it will be; None: removed."""


def record(journal: Journal | None, system: System, changes: Iterable[Change]) -> None:
    """Keeps the rows of `changes` as they are; when it returns they are stored. Nothing where there is no journal, or no change."""
    table = str(KEY_CHUNKS[system]["table"])
    entries = [
        Entry(table, f"{table}.encrypted_data", (old.scope, old.name), None, data_keys.as_text(old), "" if new is None else digest(new.encrypted_data))
        for old, new in changes
    ]
    if journal is not None and entries:
        journal.record(int(KEY_CHUNKS[system]["id"]), entries)
