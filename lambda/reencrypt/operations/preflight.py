"""The preflight: everything that can be known before a run starts, so that it starts safely or not at all.

Reads only. Leaves `preflight.json` in the run's store: what the workers and the report need to know, nothing secret.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reencrypt.database.database import Database
from reencrypt.database.schema import Schema
from reencrypt.errors import ConfigurationError, InvalidInput, WrongSecretKey
from reencrypt.grafana.data_keys import SECRET_KEY_PROVIDER, DataKey
from reencrypt.grafana.key_ring import SECRET_KEY
from reencrypt.grafana.provider_settings import DEFAULT_SECRET_KEY
from reencrypt.grafana.secret_columns import ALL_SYSTEMS, System, built_in, secret_columns
from reencrypt.grafana.settings import SecretKeyCandidate
from reencrypt.operations import readiness, samples, two_keys
from reencrypt.operations.keys import Unwrapper, entry_of, key_name, open_ring, provider_of
from reencrypt.operations.manager_providers import manager_providers
from reencrypt.operations.plan_chunks import MANIFEST
from reencrypt.operations.run_input import MAXIMUM_SETTLE_SECONDS, Mode, RunInput
from reencrypt.operations.workspace import Workspace
from reencrypt.providers import Provider
from reencrypt.providers.awskms import configured_key

PREFLIGHT = "preflight.json"
SETTLE_MARGIN_SECONDS = 60  # clocks that differ, and requests that were under way


@dataclass(frozen=True)
class _Found:
    """What the preflight has found out about the keys."""

    rows: dict[System, list[DataKey]]
    unwrap: dict[System, Unwrapper]
    trust: samples.Trust


def preflight(request: RunInput, workspace: Workspace) -> dict[str, Any]:
    """Checks configuration, database, data keys and a sample of every secret column; returns the summary that the console shows.

    Raises ConfigurationError, DatabaseUnavailable, WrongSecretKey, ProviderNotReady, KeyAccessDenied, KeyUnusable, SafetyError.
    """
    provider = SECRET_KEY_PROVIDER if request.mode in (Mode.ROLLBACK, Mode.ROTATE_SECRET_KEY) else workspace.target_provider(request)
    database = workspace.open_database(True)
    try:
        groups = [group for group in database.groups() if group.columns[0].system is System.GRAFANA]
        if not groups:
            raise ConfigurationError("the database has none of Grafana's tables with secrets; see [database] name or path")
        rows = {system: database.data_keys(system) for system in System}
        trust, old_source, new_in_use = _trust(request, workspace, samples.take(database, groups), rows[System.GRAFANA])
        providers = {System.GRAFANA: workspace.providers(trust.secret_key), System.MANAGER: manager_providers(workspace, either=request.mode.steps.secret_keys)}
        found = _Found(rows, {system: Unwrapper(rows[system], providers[system], system=system) for system in System}, trust)
        keys = _data_keys(request, found)
        readiness.check(request, workspace, database, rows, provider, found.unwrap)
        if request.run is not None:
            _check_restorable(request.run, workspace)
        cache_seconds = _cache_seconds(request, workspace, rows[System.MANAGER])
        declared = database.schema(column.table for column in secret_columns(*ALL_SYSTEMS))
        facts = {
            "mode": request.mode.value,
            "engine": database.version(),
            "provider": provider,
            "provider_in_grafana": workspace.settings.encryption_provider,
            "manager_provider": workspace.target_manager_provider(request),
            "kms_keys": _kms_keys(keys, {**providers[System.GRAFANA], **providers[System.MANAGER]}),
            "secret_key_source": trust.secret_key.source,
            "old_secret_key_source": old_source,
            "new_secret_key_in_use": new_in_use,
            "distrusted": sorted(trust.distrusted),
            "sampled_values": trust.sampled,
            "data_keys": keys,
            "present": {column.id: declared.has(column) for column in secret_columns(*ALL_SYSTEMS)},
            "tables": list(request.tables),
            "settle_seconds": _settle_seconds(request, cache_seconds),
            "cache_seconds": cache_seconds,
            "keeps_keys_active": database.has_data_keys() and not database.has_labels(),
            "journal": workspace.journal is not None,
            "provider_ready": readiness.is_ready(request, rows[System.GRAFANA], provider),
            "too_old": readiness.too_old(database) is not None,
            "notes": [*workspace.settings.warnings, *_notes(request, workspace, found, provider), *_schema_notes(request, database, declared)],
        }
    finally:
        database.close()
    workspace.store.put_json(PREFLIGHT, facts)
    return {
        "mode": request.mode.value,
        "writes": request.mode.writes,
        "encrypts": request.mode.encrypts,
        "surveys": request.mode.steps.surveys,
        "removes": request.mode.steps.removes,
        "engine": facts["engine"],
        "provider": provider,
        "data_keys": len(keys),
        "unreadable_data_keys": sum(not key["readable"] for key in keys),
        "sampled_values": trust.sampled,
        "secret_key_source": trust.secret_key.source,
    }


def _trust(request: RunInput, workspace: Workspace, sampled: list[samples.Sample], rows: Sequence[DataKey]) -> tuple[samples.Trust, str | None, bool]:
    """The `secret_key` in use, and in a rotation of it the old one's source and whether Grafana has written under the new one.

    Raises WrongSecretKey, ConfigurationError.
    """
    if request.mode.steps.secret_keys:
        judged = two_keys.judge(workspace.settings, sampled, rows)
        return judged.trust, judged.old_source, judged.new_in_use
    under_secret_key = frozenset(row.name for row in rows if provider_of(row, System.GRAFANA) == SECRET_KEY_PROVIDER)

    def judge(candidates: Sequence[SecretKeyCandidate]) -> samples.Trust:
        return samples.judge(sampled, candidates, lambda candidate: open_ring(candidate, Unwrapper(rows, workspace.providers(candidate))), under_secret_key)

    try:
        return judge(workspace.settings.secret_keys), None, False
    except WrongSecretKey:
        old_keys = workspace.settings.old_secret_keys
        if not old_keys:
            raise
        old = judge(old_keys).secret_key  # raises the same where this one does not fit either
        raise WrongSecretKey(
            f"the database is still encrypted under {old.source}: rotate it to the new secret_key first, with mode rotate-secret-key"
        ) from None


def _cache_seconds(request: RunInput, workspace: Workspace, managed: Sequence[DataKey]) -> int:
    """How long a replica may use what it has in its cache of data keys, with a margin. That of the secrets manager counts where its keys are to change.

    Source: Grafana pkg/services/secrets/manager/cache.go (an entry lives for data_keys_cache_ttl after it was loaded).
    """
    ttl = workspace.settings.data_keys_cache_ttl
    elsewhere = any(row.active and row.provider != workspace.target_manager_provider(request) for row in managed)
    if managed and (request.mode.steps.retires or elsewhere):
        ttl = max(ttl, workspace.settings.manager.data_keys_cache_ttl)
    return min(MAXIMUM_SETTLE_SECONDS, int(ttl.total_seconds()) + SETTLE_MARGIN_SECONDS)


def _settle_seconds(request: RunInput, cache_seconds: int) -> int:
    """How long to wait until every data key that a replica had in its cache has left it; 0 where the run has nothing to wait for."""
    if not (request.mode.steps.sweeps or request.mode.steps.removes):
        return 0
    return cache_seconds if request.settle_seconds is None else request.settle_seconds


def _check_restorable(run: str, workspace: Workspace) -> None:
    if workspace.journal is None:
        raise ConfigurationError("this deployment keeps no undo journal (journal_days = 0), so there is nothing to restore from")
    source = workspace.store.of_run(run)
    if not source.exists(MANIFEST):
        raise InvalidInput(f"run: there is no run {run} in this deployment's bucket; take the name from its report or from the console")
    if not workspace.journal.of_run(run).chunks():
        raise InvalidInput(f"run: the undo journal of {run} is empty: that run wrote nothing, or its journal has expired (journal_days)")
    if source.get_json(PREFLIGHT).get("mode") == Mode.ROTATE_SECRET_KEY:
        raise InvalidInput(
            f"run: {run} changed secret_key; to undo it, exchange secret_key and old_secret_key in the configuration and run rotate-secret-key again"
        )


def _data_keys(request: RunInput, found: _Found) -> list[dict[str, Any]]:
    """Every data key, as the report lists it. In a rotation of secret_key those that it wraps are judged by their values, not here."""
    entries = []
    for system, rows in found.rows.items():
        for row in rows:
            by_values = request.mode.steps.secret_keys and provider_of(row, system) == SECRET_KEY_PROVIDER
            opens = by_values or found.unwrap[system].opens(key_name(system, row.scope, row.name))
            kms_key = found.unwrap[system].kms_key(row)
            entries.append(entry_of(row, readable=opens and row.name not in found.trust.distrusted, system=system, kms_key=kms_key))
    return entries


def _kms_keys(keys: Sequence[Mapping[str, Any]], providers: Mapping[str, Provider]) -> dict[str, list[str]]:
    """Every KMS key that a data key is wrapped by, or that is configured, with the providers that it belongs to."""
    found: dict[str, set[str]] = {}
    for entry in keys:
        if entry["kms_key"] is not None:
            found.setdefault(entry["kms_key"], set())
    for name, provider in providers.items():
        if (configured := configured_key(provider)) is not None:
            found.setdefault(configured, set()).add(name)
    return {key: sorted(names) for key, names in found.items()}


def _schema_notes(request: RunInput, database: Database, declared: Schema) -> list[str]:
    notes = []
    absent = [column.id for column in secret_columns(*ALL_SYSTEMS) if column not in built_in() and not declared.has(column)]
    if absent:
        notes.append(f"declared in the deployment's settings, but not in this database: {', '.join(absent)}; are table and column spelt as they are there?")
    if request.mode is Mode.PLAN and (reason := readiness.too_old(database)):
        notes.append(reason)
    return notes


def _notes(request: RunInput, workspace: Workspace, found: _Found, provider: str) -> list[str]:
    settings, trust = workspace.settings, found.trust
    notes = [f"data key {name} cannot be unwrapped: {problem}" for unwrap in found.unwrap.values() for name, problem in unwrap.problems.items()]
    notes += [
        f"{'secret_key' if key_id == SECRET_KEY else f'data key {key_id}'} decrypts its sampled values to garbage: they were encrypted under another "
        "secret_key, or they are damaged; values under it are left alone"
        for key_id in sorted(trust.distrusted)
    ]
    if trust.secret_key.source != settings.secret_keys[0].source:
        notes.append(f"the values are encrypted under {trust.secret_key.source}, not under {settings.secret_keys[0].source}")
    if trust.secret_key.value == DEFAULT_SECRET_KEY:
        notes.append("secret_key is Grafana's public default, which anyone can read in its source: values and data keys under it are not protected")
    public = {provider_of(row, System.MANAGER) for row in found.rows[System.MANAGER]} & set(settings.manager.on_public_default)
    if public:
        notes.append(
            f"the secrets manager's provider {', '.join(sorted(public))} runs on Grafana's public default secret_key, which anyone can read in its source: set "
            f"[secrets_manager.encryption.{min(public)}] secret_key, with the default as old_secret_key, and run rotate-secret-key"
        )
    if found.rows[System.MANAGER] and settings.manager.problem:
        notes.append(settings.manager.problem)
    if request.mode is Mode.PLAN and not readiness.is_ready(request, found.rows[System.GRAFANA], provider):
        notes.append(readiness.not_ready(provider))
    return notes
