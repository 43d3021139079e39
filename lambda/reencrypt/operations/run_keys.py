"""The keys of one delivery, of both of Grafana's stores, and the aim that the run's mode has for the values of each."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from reencrypt.database.database import Database
from reencrypt.errors import ConfigurationError, PayloadError
from reencrypt.grafana.cipher import DeriveKey
from reencrypt.grafana.data_keys import DataKey
from reencrypt.grafana.key_ring import KeyRing, ManagerKeyRing, Sealer, SecretKeySealer
from reencrypt.grafana.secret_columns import System
from reencrypt.operations.aims import Aim, Keep, UnderDataKey, UnderManagerKey, UnderSecretKey
from reencrypt.operations.choose_data_key import DATA_KEY
from reencrypt.operations.keys import Unwrapper, current_keys, open_ring
from reencrypt.operations.manager_providers import manager_providers
from reencrypt.operations.run_input import Mode, RunInput
from reencrypt.operations.secret_key_rotation import SecretKeys, TwoKeyRing, UnderNewSecretKey
from reencrypt.operations.workspace import Workspace


@dataclass(frozen=True)
class RunKeys:
    """The rows of both key tables as they are now, and what opens them."""

    rows: Mapping[System, list[DataKey]]
    unwrap: Mapping[System, Unwrapper]
    ring: KeyRing
    manager_ring: ManagerKeyRing
    derive: DeriveKey


def open_keys(workspace: Workspace, database: Database, facts: Mapping[str, Any], derive: DeriveKey, *, either: bool = False) -> RunKeys:
    """The keys of the database under the `secret_key` that the preflight found to be in use. Nothing is unwrapped yet.

    `either`: data keys of the secrets manager may still be under the old `secret_key` of their section.
    """
    candidate = workspace.secret_key(facts["secret_key_source"])
    providers = {System.GRAFANA: workspace.providers(candidate), System.MANAGER: manager_providers(workspace, either=either)}
    rows = {system: database.data_keys(system) for system in System}
    unwrap = {system: Unwrapper(rows[system], providers[system], functools.partial(database.data_keys, system), system) for system in System}
    ring = open_ring(candidate, unwrap[System.GRAFANA], facts["distrusted"], derive)
    return RunKeys(rows, unwrap, ring, ManagerKeyRing(unwrap[System.MANAGER].scoped, derive), derive)


def two_key_ring(workspace: Workspace, facts: Mapping[str, Any], unwrap: Unwrapper, derive: DeriveKey) -> TwoKeyRing:
    """The ring of a rotation of `secret_key`. Raises ConfigurationError where the old key is not configured."""
    old = next((key for key in workspace.settings.old_secret_keys if key.source == facts["old_secret_key_source"]), None)
    if old is None:
        raise ConfigurationError("[security] old_secret_key is missing: the secret_key that Grafana used until now")
    new = workspace.secret_key(facts["secret_key_source"])
    return TwoKeyRing(SecretKeys(old.value.encode(), new.value.encode()), unwrap, derive, new_in_use=facts["new_secret_key_in_use"])


def aims(request: RunInput, workspace: Workspace, keys: RunKeys, facts: Mapping[str, Any], *, writes: bool, force: bool, verifying: bool) -> dict[System, Aim]:
    """What the run wants of the values of each store. Raises ProviderError or ConfigurationError where the run's own data key does not open."""
    manager: Aim = Keep(keys.manager_ring)
    if request.mode is Mode.REWRAP_DATA_KEYS:
        return {System.GRAFANA: Keep(keys.ring), System.MANAGER: manager}
    if request.mode is Mode.ROLLBACK:
        named = request.for_version is None
        secret_key = workspace.secret_key(facts["secret_key_source"]).value.encode()
        return {System.GRAFANA: UnderSecretKey(keys.ring, SecretKeySealer(secret_key, keys.derive, None, named), named), System.MANAGER: manager}
    if request.mode is Mode.ROTATE_SECRET_KEY:
        if not workspace.settings.old_secret_keys:  # only the secrets manager's key is rotated
            return {System.GRAFANA: Keep(keys.ring), System.MANAGER: manager}
        ring = two_key_ring(workspace, facts, keys.unwrap[System.GRAFANA], keys.derive)
        return {System.GRAFANA: UnderNewSecretKey(ring, keys.derive, verifying=verifying), System.MANAGER: manager}
    chosen = workspace.store.get_json(DATA_KEY) if writes else {}
    sealer = _sealer(keys, chosen["data_key"]) if writes else None
    current = current_keys(keys.rows[System.GRAFANA], facts["provider"])
    manager_current = current_keys(keys.rows[System.MANAGER], facts["manager_provider"], System.MANAGER)
    return {
        System.GRAFANA: UnderDataKey(keys.ring, current, sealer, force),
        System.MANAGER: UnderManagerKey(keys.manager_ring, manager_current, chosen.get("manager", {}), force),
    }


def _sealer(keys: RunKeys, key_id: str) -> Sealer:
    """Raises ProviderError or ConfigurationError, naming what refuses: without the run's own data key there is nothing to do."""
    try:
        return keys.ring.sealer(key_id)
    except PayloadError:
        keys.unwrap[System.GRAFANA].raise_problem(key_id)
