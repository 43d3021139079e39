"""Wrap data keys anew: by another provider, or under a new `secret_key`. The values that they protect stay as they are.

Each key is proven before and after: by opening a value that it protects, or where it protects none by its 16 bytes. Its row is replaced only if it is
as it was read, and only after the old one is in the undo journal. Unlike Grafana's own command, a key that could not be wrapped anew fails the run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from reencrypt.database.database import Database
from reencrypt.errors import ConfigurationError, DataKeyUnwrapFailed, PayloadError, ProviderError, ProviderThrottled, Reason
from reencrypt.grafana import data_keys
from reencrypt.grafana.cipher import DeriveKey
from reencrypt.grafana.data_keys import DataKey
from reencrypt.grafana.secret_columns import System
from reencrypt.operations import key_journal, keys_after, witness
from reencrypt.operations.keys import key_name, provider_of
from reencrypt.operations.passes import Pass, collect
from reencrypt.operations.preflight import PREFLIGHT
from reencrypt.operations.run_input import Mode, RunInput
from reencrypt.operations.run_keys import RunKeys, open_keys
from reencrypt.operations.work import Phase
from reencrypt.operations.workspace import Workspace
from reencrypt.operations.wrapping import ByProvider, UnderNewManagerKeys, UnderNewSecretKeys, Way
from reencrypt.storage.journal import digest
from reencrypt.storage.objects import RunStore

BATCH = 25
_PROGRESS = "rewrap/"


@dataclass
class _Tally:
    """What became of a batch of data keys: `names` are all of them, `done` counts by the way they went, `left` what is as it should be already."""

    names: list[str] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)
    left: int = 0
    failed: list[dict[str, Any]] = field(default_factory=list)

    def fail(self, system: System, row: DataKey, reason: Reason, why: str) -> None:
        name = key_name(system, row.scope, row.name)
        self.failed.append({"id": row.name, "name": name, "system": system.value, "reason": reason.value, "why": why})


def rewrap(request: RunInput, workspace: Workspace, out_of_time: Callable[[], bool], derive: DeriveKey) -> dict[str, Any]:
    """Wraps data keys anew until all are done or time runs out; returns {"done", "rewrapped", "failed"}.

    Safe to repeat: a key that an attempt wrapped before it died is proven and wrapped once more. Raises DatabaseError, ProviderThrottled, LeaseHeld.
    """
    facts = workspace.store.get_json(PREFLIGHT)
    read = collect(workspace.store, Phase.PROCESS)
    pulse = workspace.pulse()
    database = workspace.open_database(False)
    try:
        keys = open_keys(workspace, database, facts, derive)
        done = True
        for system, way in _ways(request, workspace, keys, facts).items():
            seen = {name for entry in _progress(workspace.store, system) for name in entry["names"]}
            rows = [row for row in keys.rows[system] if key_name(system, row.scope, row.name) not in seen]
            for start in range(0, len(rows), BATCH):
                if out_of_time():
                    done = False
                    break
                pulse.beat(_PROGRESS, 0)
                tally = _batch(system, rows[start : start + BATCH], way, database, workspace, read)
                name = f"{_PROGRESS}{system.value}-{digest('/'.join(tally.names).encode())[:16]}.json"
                workspace.store.put_json(name, {"names": tally.names, "rewrapped": dict(tally.done), "left": tally.left, "failed": tally.failed})
        found = results(workspace.store)
        keys_after.keep(workspace.store, database, keys.unwrap, changed=found["names"], unreadable={entry["name"] for entry in found["failed"]})
    finally:
        database.close()
    return {"done": done, "rewrapped": sum(found["rewrapped"].values()), "failed": len(found["failed"])}


def results(store: RunStore) -> dict[str, Any]:
    """What became of the data keys: {"names", "rewrapped": {way: n}, "left": n (as they should be already), "failed": [{"id", …, "reason", "why"}]}."""
    ways: Counter[str] = Counter()
    names: list[str] = []
    left, failed = 0, []
    for system in System:
        for entry in _progress(store, system):
            names += entry["names"]
            ways.update(entry["rewrapped"])
            left += entry["left"]
            failed += entry["failed"]
    return {"names": names, "rewrapped": dict(ways), "left": left, "failed": failed}


def _progress(store: RunStore, system: System) -> list[dict[str, Any]]:
    return [entry for key in list(store.keys(f"{_PROGRESS}{system.value}-")) if (entry := store.find_json(key)) is not None]


def _ways(request: RunInput, workspace: Workspace, keys: RunKeys, facts: Mapping[str, Any]) -> dict[System, Way]:
    """How the data keys of each store are wrapped anew in this run."""
    ways: dict[System, Way] = {}
    if request.mode is Mode.REWRAP_DATA_KEYS:
        targets = {System.GRAFANA: facts["provider"], System.MANAGER: facts["manager_provider"]}
        return {system: ByProvider(keys.unwrap[system], targets[system], keys.derive) for system in System if keys.rows[system]}
    if workspace.settings.old_secret_keys:
        ways[System.GRAFANA] = UnderNewSecretKeys(workspace, facts, keys)
    if keys.rows[System.MANAGER]:
        ways[System.MANAGER] = UnderNewManagerKeys(workspace.old_manager_providers(), workspace.manager_providers(), keys.derive)
    return ways


def _batch(system: System, rows: list[DataKey], way: Way, database: Database, workspace: Workspace, read: Pass) -> _Tally:
    tally = _Tally([key_name(system, row.scope, row.name) for row in rows])
    changes: list[tuple[DataKey, DataKey, str]] = []
    for row, name in zip(rows, tally.names, strict=True):
        proof = witness.find(database, name, read.witnesses.get(name))
        try:
            wrapped = way.wrap_anew(row, proof)
        except ProviderThrottled:
            raise
        except PayloadError as error:
            tally.fail(system, row, error.reason, "it does not open, or not to a key that its values open with")
        except DataKeyUnwrapFailed as error:
            tally.fail(system, row, Reason.DATA_KEY_UNREADABLE, str(error))
        except (ProviderError, ConfigurationError) as error:
            tally.fail(system, row, Reason.PROVIDER_UNAVAILABLE, str(error))
        else:
            if wrapped is None:
                tally.left += 1
            elif read.keys[name] and name not in read.witnesses:  # what it unwraps to is garbage, which must not take the place of the key itself
                tally.fail(system, row, Reason.DATA_KEY_UNREADABLE, f"it protects {read.keys[name]} values and opens none of them")
            elif proof is None and name in read.witnesses and way.needs_proof:
                tally.fail(system, row, Reason.AMBIGUOUS_KEY, "the value that proves it has changed meanwhile: stop Grafana, then run again")
            else:
                changes.append((row, _anew(system, row, wrapped.provider, wrapped.blob, workspace), wrapped.how))
    key_journal.record(workspace.journal, system, ((old, new) for old, new, _ in changes))
    for old, new, how in changes:
        if database.replace_data_key(old, new, workspace.now(), system):
            tally.done[how] += 1
        else:
            tally.fail(system, old, Reason.WRITE_REFUSED, "its row was changed or deleted while it was wrapped anew: run again")
    return tally


def _anew(system: System, row: DataKey, provider: str, blob: bytes, workspace: Workspace) -> DataKey:
    """The row with its new wrapping. Grafana's own command gives it today's label of the new provider; under the same provider it keeps its own."""
    label = row.label
    if label is not None and provider != provider_of(row, system):
        label = data_keys.label(system, provider, row.scope, workspace.now())
    return replace(row, provider=provider, encrypted_data=blob, label=label)
