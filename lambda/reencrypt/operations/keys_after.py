"""The data keys as a step that changed them has left them, for the report."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from reencrypt.database.database import Database
from reencrypt.grafana.secret_columns import System
from reencrypt.operations.keys import Unwrapper, entry_of, key_name, listed_name
from reencrypt.operations.preflight import PREFLIGHT
from reencrypt.storage.objects import RunStore

_KEYS_AFTER = "keys_after.json"


def keep(
    store: RunStore, database: Database, unwrap: Mapping[System, Unwrapper] | None = None, *,
    changed: Collection[str] = (), unreadable: Collection[str] = (), known: Iterable[Mapping[str, Any]] = (),
) -> None:  # fmt: skip
    """Lists every data key anew; what this step has not `changed` is as the preflight found it. `unreadable` are those that it could not open.

    `unwrap` knows the KMS keys of those that it has opened; `known` are keys that this step has made.
    """
    found = {listed_name(entry): entry for entry in (*store.get_json(PREFLIGHT)["data_keys"], *known)}
    entries = []
    for system in System:
        for row in database.data_keys(system):
            name = key_name(system, row.scope, row.name)
            before = found.get(name, {"readable": True, "kms_key": None})
            kms_key = None if unwrap is None else unwrap[system].kms_key(row)
            if kms_key is None and name not in changed:
                kms_key = before["kms_key"]
            entries.append(entry_of(row, readable=before["readable"] and name not in unreadable, system=system, kms_key=kms_key))
    store.put_json(_KEYS_AFTER, entries)


def find(store: RunStore) -> list[dict[str, Any]] | None:
    """The list, if a step has left one."""
    found: list[dict[str, Any]] | None = store.find_json(_KEYS_AFTER)
    return found
