"""The run's data keys: the newest active one of the target provider, or a new one, committed before anything is encrypted under it.

One for Grafana's own store, and one for each namespace of the secrets manager. A rotation always makes new ones, and then deactivates every other:
from then on no Grafana takes those up to write with, and those that hold one in a cache let go of it when the run settles.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from reencrypt.database.database import Database
from reencrypt.errors import DataKeyUnwrapFailed
from reencrypt.grafana.data_keys import DATA_KEY_BYTES, SCOPE, DataKey, new_data_key
from reencrypt.grafana.secret_columns import System
from reencrypt.operations import keys_after
from reencrypt.operations.keys import Unwrapper, entry_of, key_name, provider_of
from reencrypt.operations.preflight import PREFLIGHT
from reencrypt.operations.run_input import RunInput
from reencrypt.operations.workspace import Workspace
from reencrypt.providers import Provider
from reencrypt.providers.awskms import key_of

DATA_KEY = "data_key.json"


def choose_data_key(request: RunInput, workspace: Workspace) -> dict[str, Any]:
    """Returns {"data_key": id, "created": bool, "manager": {namespace: id}, "deactivated": n} and leaves it in the store.

    Safe to repeat: a key that an earlier try made is found again. Raises ProviderError when KMS refuses to wrap or unwrap, DatabaseError.
    """
    facts = workspace.store.get_json(PREFLIGHT)
    known = workspace.store.find_json(DATA_KEY) if request.mode.steps.retires else None
    database = workspace.open_database(False)
    try:
        answer = _chosen(request, workspace, database, facts) if known is None else known
        if known is None:
            workspace.store.put_json(DATA_KEY, answer)
        retired = _retire(database, workspace, answer) if request.mode.steps.retires else 0
        keys_after.keep(workspace.store, database, known=answer["entries"])
    finally:
        database.close()
    return {"data_key": answer["data_key"], "created": answer["created"], "manager": answer["manager"], "deactivated": retired}


def _chosen(request: RunInput, workspace: Workspace, database: Database, facts: Mapping[str, Any]) -> dict[str, Any]:
    providers = workspace.providers(workspace.secret_key(facts["secret_key_source"]))
    chooser = _Chooser(database, providers, workspace, facts["distrusted"], anew=request.mode.steps.retires)
    key, created = chooser.choose(System.GRAFANA, facts["provider"], SCOPE)
    entries = [chooser.entry(key, System.GRAFANA)]
    manager: dict[str, str] = {}
    for namespace in sorted({row.scope for row in database.data_keys(System.MANAGER)}):
        theirs, _ = chooser.choose(System.MANAGER, facts["manager_provider"], namespace)
        manager[namespace] = theirs.name
        entries.append(chooser.entry(theirs, System.MANAGER))
    return {"data_key": key.name, "created": created, "manager": manager, "entries": entries}


class _Chooser:
    def __init__(self, database: Database, providers: Mapping[str, Provider], workspace: Workspace, distrusted: Sequence[str], *, anew: bool) -> None:
        self._database, self._workspace, self._distrusted, self._anew = database, workspace, distrusted, anew
        self._providers = {System.GRAFANA: providers, System.MANAGER: workspace.manager_providers()}

    def choose(self, system: System, provider: str, scope: str) -> tuple[DataKey, bool]:
        """The key of `provider` to encrypt under in `scope`, and whether it is new."""
        rows = self._database.data_keys(system)
        unwrap = Unwrapper(rows, self._providers[system], system=system)
        usable = [
            row
            for row in rows
            if row.active and provider_of(row, system) == provider and _in_scope(row, system, scope) and row.name not in self._distrusted
            and not self._anew and unwrap.opens(key_name(system, row.scope, row.name))
        ]  # fmt: skip
        if usable:
            return usable[-1], False
        key = self._new(system, provider, scope)
        self._database.insert_data_key(key, system)
        # Read it back as Grafana will: a server that altered the bytes would make every value unreadable.
        stored = Unwrapper(self._database.data_keys(system), self._providers[system], system=system)
        if not stored.opens(name := key_name(system, key.scope, key.name)):
            stored.raise_problem(name)
        return key, True

    def entry(self, key: DataKey, system: System) -> dict[str, Any]:
        """The key as a report lists it."""
        kms_key = key_of(self._providers[system][provider_of(key, system)], key.encrypted_data)
        return entry_of(key, readable=True, system=system, kms_key=kms_key)

    def _new(self, system: System, name: str, scope: str) -> DataKey:
        provider = self._providers[system][name]
        secret = os.urandom(DATA_KEY_BYTES)
        wrapped = provider.wrap(secret)
        if provider.unwrap(wrapped) != secret:
            raise DataKeyUnwrapFailed(f"{provider.name} does not unwrap what it has wrapped; nothing was written")
        return new_data_key(provider.name, wrapped, self._workspace.now(), system, scope)


def _in_scope(row: DataKey, system: System, scope: str) -> bool:
    return system is System.GRAFANA or row.scope == scope


def _retire(database: Database, workspace: Workspace, chosen: Mapping[str, Any]) -> int:
    """Deactivates every data key but the run's own."""
    own = {System.GRAFANA: {chosen["data_key"]}, System.MANAGER: set(chosen["manager"].values())}
    return sum(
        database.deactivate_data_keys([row for row in database.data_keys(system) if row.active and row.name not in own[system]], workspace.now(), system)
        for system in System
    )
