"""The run's data key: the newest active one of the target provider, or a new one, committed before anything is encrypted under it."""

from __future__ import annotations

import os
from typing import Any

from reencrypt.errors import DataKeyUnwrapFailed
from reencrypt.grafana.data_keys import DATA_KEY_BYTES, DataKey, new_data_key, normalise_provider
from reencrypt.operations.keys import Unwrapper, entry_of
from reencrypt.operations.preflight import PREFLIGHT
from reencrypt.operations.run_input import RunInput
from reencrypt.operations.workspace import Workspace
from reencrypt.providers import Provider

DATA_KEY = "data_key.json"


def choose_data_key(request: RunInput, workspace: Workspace) -> dict[str, Any]:
    """Returns {"data_key": id, "created": bool} and leaves it in the store. Safe to repeat: a key that an earlier try made is found again.

    Raises ProviderError when KMS refuses to wrap or unwrap, DatabaseError.
    """
    name = workspace.target_provider(request)
    facts = workspace.store.get_json(PREFLIGHT)
    providers = workspace.providers(workspace.secret_key(facts["secret_key_source"]))
    database = workspace.open_database(False)
    try:
        rows = database.data_keys()
        unwrap = Unwrapper(rows, providers)
        usable = [
            row
            for row in rows
            if row.active and normalise_provider(row.provider) == name and row.name not in facts["distrusted"] and unwrap.opens(row.name)
        ]
        created = not usable
        if created:
            usable = [_new(providers[name], workspace)]
            database.insert_data_key(usable[0])
            # Read it back as Grafana will: a server that altered the bytes would make every value unreadable.
            stored = Unwrapper(database.data_keys(), providers)
            if not stored.opens(usable[0].name):
                stored.raise_problem(usable[0].name)
    finally:
        database.close()
    key = usable[-1]
    answer = {"data_key": key.name, "created": created}
    workspace.store.put_json(DATA_KEY, {**answer, "entry": entry_of(key, readable=True)})
    return answer


def _new(provider: Provider, workspace: Workspace) -> DataKey:
    secret = os.urandom(DATA_KEY_BYTES)
    wrapped = provider.wrap(secret)
    if provider.unwrap(wrapped) != secret:
        raise DataKeyUnwrapFailed(f"{provider.name} does not unwrap what it has wrapped; nothing was written")
    return new_data_key(provider.name, wrapped, workspace.now())
