"""The preflight: everything that can be known before a run starts, so that it starts safely or not at all.

Reads only. Leaves `preflight.json` in the run's store: what the workers and the report need to know, nothing secret.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from reencrypt.database.database import Database
from reencrypt.errors import ConfigurationError, InvalidInput, ProviderNotReady, SafetyError
from reencrypt.grafana.data_keys import MAXIMUM_PROVIDER_LENGTH, DataKey, normalise_provider
from reencrypt.grafana.key_ring import SECRET_KEY
from reencrypt.grafana.secret_columns import secret_columns
from reencrypt.operations import samples
from reencrypt.operations.keys import Unwrapper, entry_of, open_ring
from reencrypt.operations.plan_chunks import MANIFEST
from reencrypt.operations.run_input import MAXIMUM_SETTLE_SECONDS, Mode, OnUnreadable, RunInput
from reencrypt.operations.workspace import Workspace

PREFLIGHT = "preflight.json"
SETTLE_MARGIN_SECONDS = 60  # clocks that differ, and requests that were under way
SECRET_KEY_PROVIDER = "secretKey.v1"  # noqa: S105  (a provider's name)
_PUBLIC_SECRET_KEY = "SW2YcwTIb9zpOOhoPsMm"  # noqa: S105  (conf/defaults.ini, [security] secret_key)


def preflight(request: RunInput, workspace: Workspace) -> dict[str, Any]:
    """Checks configuration, database, data keys and a sample of every secret column; returns the summary that the console shows.

    Raises ConfigurationError, DatabaseUnavailable, WrongSecretKey, ProviderNotReady, KeyAccessDenied, KeyUnusable, SafetyError.
    """
    provider = workspace.target_provider(request)
    database = workspace.open_database(True)
    try:
        groups = database.groups()
        if not groups:
            raise ConfigurationError("the database has none of Grafana's tables with secrets; see [database] name or path")
        rows = database.data_keys()
        sampled = samples.take(database, groups)
        under_secret_key = frozenset(row.name for row in rows if normalise_provider(row.provider) == SECRET_KEY_PROVIDER)
        trust = samples.judge(
            sampled,
            workspace.settings.secret_keys,
            lambda candidate: open_ring(candidate, Unwrapper(rows, workspace.providers(candidate))),
            under_secret_key,
        )
        unwrap = Unwrapper(rows, workspace.providers(trust.secret_key))
        keys = _data_keys(rows, unwrap, trust.distrusted)
        notes = [*workspace.settings.warnings, *_notes(request, workspace, rows, unwrap, trust, provider)]
        if request.mode.encrypts:
            _check_writable(request, database, rows, provider, unwrap)
        if request.run is not None:
            _check_restorable(request.run, workspace)
        declared = database.schema(column.table for column in secret_columns())
        facts = {
            "engine": database.version(),
            "provider": provider,
            "secret_key_source": trust.secret_key.source,
            "distrusted": sorted(trust.distrusted),
            "sampled_values": trust.sampled,
            "data_keys": keys,
            "present": {column.id: declared.has(column) for column in secret_columns()},
            "tables": list(request.tables),
            "settle_seconds": _settle_seconds(request, workspace),
            "journal": workspace.journal is not None,
            "provider_ready": _is_ready(request, rows, provider),
            "notes": notes,
        }
    finally:
        database.close()
    workspace.store.put_json(PREFLIGHT, facts)
    return {
        "mode": request.mode.value,
        "writes": request.mode.writes,
        "encrypts": request.mode.encrypts,
        "engine": facts["engine"],
        "provider": provider,
        "data_keys": len(keys),
        "unreadable_data_keys": sum(not key["readable"] for key in keys),
        "sampled_values": trust.sampled,
        "secret_key_source": trust.secret_key.source,
    }


def _settle_seconds(request: RunInput, workspace: Workspace) -> int:
    """How long to wait after the first pass: until every data key that a replica had in its cache has left it.

    Source: Grafana pkg/services/secrets/manager/cache.go (an entry lives for data_keys_cache_ttl after it was loaded).
    """
    if not request.mode.encrypts:
        return 0
    if request.settle_seconds is not None:
        return request.settle_seconds
    return min(MAXIMUM_SETTLE_SECONDS, int(workspace.settings.data_keys_cache_ttl.total_seconds()) + SETTLE_MARGIN_SECONDS)


def _check_restorable(run: str, workspace: Workspace) -> None:
    if workspace.journal is None:
        raise ConfigurationError("this deployment keeps no undo journal (journal_days = 0), so there is nothing to restore from")
    if not workspace.store.of_run(run).exists(MANIFEST):
        raise InvalidInput(f"run: there is no run {run} in this deployment's bucket; take the name from its report or from the console")
    if not workspace.journal.of_run(run).chunks():
        raise InvalidInput(f"run: the undo journal of {run} is empty: that run wrote nothing, or its journal has expired (journal_days)")


def _data_keys(rows: Sequence[DataKey], unwrap: Unwrapper, distrusted: frozenset[str]) -> list[dict[str, Any]]:
    return [entry_of(row, readable=row.name not in distrusted and unwrap.opens(row.name)) for row in rows]


def _notes(
    request: RunInput, workspace: Workspace, rows: Sequence[DataKey], unwrap: Unwrapper, trust: samples.Trust, provider: str
) -> list[str]:
    notes = [f"data key {key_id} cannot be unwrapped: {problem}" for key_id, problem in unwrap.problems.items()]
    notes += [
        f"{'secret_key' if key_id == SECRET_KEY else f'data key {key_id}'} decrypts its sampled values to garbage: they were encrypted under another "
        "secret_key, or they are damaged; values under it are left alone"
        for key_id in sorted(trust.distrusted)
    ]
    if trust.secret_key is not workspace.settings.secret_keys[0]:
        notes.append(f"the values are encrypted under {trust.secret_key.source}, not under {workspace.settings.secret_keys[0].source}")
    if trust.secret_key.value == _PUBLIC_SECRET_KEY:
        notes.append("secret_key is Grafana's public default, which anyone can read in its source: values and data keys under it are not protected")
    if request.mode is Mode.PLAN and not _is_ready(request, rows, provider):
        notes.append(_not_ready(provider))
    return notes


def _is_ready(request: RunInput, rows: Sequence[DataKey], provider: str) -> bool:
    """Whether the running Grafana can unwrap keys of `provider`: every Grafana has secretKey.v1; for KMS, a key that Grafana made is proof."""
    made = any(row.active and row.made_by_grafana and normalise_provider(row.provider) == provider for row in rows)
    return provider == SECRET_KEY_PROVIDER or request.provider_ready or made


def _not_ready(provider: str) -> str:
    return (
        f"there is no proof that the running Grafana has the provider {provider}: data_keys holds no active key of it that Grafana itself made. "
        f"Configure {provider} in Grafana Enterprise, restart every replica and save any secret there, or state it with "
        '"providerReady": true; a Grafana without that provider could not read a single value afterwards'
    )


def _check_writable(request: RunInput, database: Database, rows: Sequence[DataKey], provider: str, unwrap: Unwrapper) -> None:
    if not database.has_data_keys():
        raise SafetyError(
            "the database has no table data_keys: it was last started by Grafana 8.2 or older, which reads no data keys. Upgrade Grafana first"
        )
    if not database.has_labels():
        raise SafetyError(
            "data_keys has no column label: the database was last started by Grafana 8.3 to 8.5, which does not understand the payloads that "
            "this run would write. Upgrade Grafana to 9.0 or later and start it once, then run again"
        )
    if len(provider) > MAXIMUM_PROVIDER_LENGTH:
        raise ConfigurationError(
            f"the provider id {provider} is longer than {MAXIMUM_PROVIDER_LENGTH} characters, which data_keys.provider cannot hold"
        )
    if not _is_ready(request, rows, provider):
        raise ProviderNotReady(_not_ready(provider))
    if request.on_unreadable is OnUnreadable.FAIL:
        unwrap.raise_refusal()
