"""May this run write, and will the running Grafana read what it writes? Asked before anything is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from reencrypt.database.database import Database
from reencrypt.errors import ConfigurationError, ProviderNotReady, SafetyError
from reencrypt.grafana.data_keys import MAXIMUM_PROVIDER_LENGTH, SECRET_KEY_PROVIDER, DataKey
from reencrypt.grafana.manager_settings import DEFAULT_PROVIDER
from reencrypt.grafana.secret_columns import System
from reencrypt.operations.keys import Unwrapper, provider_of
from reencrypt.operations.run_input import Mode, OnUnreadable, RunInput
from reencrypt.operations.workspace import Workspace

# What every Grafana has configured, whatever its configuration says.
_ALWAYS = {System.GRAFANA: SECRET_KEY_PROVIDER, System.MANAGER: DEFAULT_PROVIDER}
Rows = Mapping[System, Sequence[DataKey]]


def is_ready(request: RunInput, rows: Sequence[DataKey], provider: str, system: System = System.GRAFANA) -> bool:
    """Whether the running Grafana can unwrap keys of `provider`: some it always has; for others, a key that Grafana itself made is proof.

    One that is not active any more is proof only beside an active one, ours: then a rotation has deactivated it, and not someone who left the provider.
    """
    theirs = [row for row in rows if provider_of(row, system) == provider]
    proof = any(row.made_by_grafana for row in theirs) and any(row.active for row in theirs)
    return provider == _ALWAYS[system] or request.provider_ready or proof


def not_ready(provider: str, system: System = System.GRAFANA) -> str:
    """Why a run does not start whose provider is not ready."""
    table = "data_keys" if system is System.GRAFANA else "secret_data_key"
    return (
        f"there is no proof that the running Grafana has the provider {provider}: {table} holds no active key of it that Grafana itself made. "
        f"Configure {provider} in Grafana{' Enterprise' if 'kms' in provider else ''}, restart every replica and save any secret there, or state it with "
        '"providerReady": true; a Grafana without that provider could not read a single value afterwards'
    )


def check(request: RunInput, workspace: Workspace, database: Database, rows: Rows, provider: str, unwrap: Mapping[System, Unwrapper]) -> None:
    """Raises SafetyError, ConfigurationError, ProviderNotReady or what a provider refused, naming what stands against the run."""
    steps = request.mode.steps
    if steps.data_key or request.mode is Mode.REWRAP_DATA_KEYS:
        if reason := too_old(database):
            raise SafetyError(reason)
        _check_provider(request, rows[System.GRAFANA], provider, System.GRAFANA)
        if rows[System.MANAGER]:
            if problem := workspace.settings.manager.problem:
                raise ConfigurationError(problem)
            wanted = workspace.target_manager_provider(request)
            if wanted not in (known := workspace.manager_providers()):
                raise ConfigurationError(f"the secrets manager's provider {wanted} is not configured; configured: {', '.join(sorted(known))}")
            _check_provider(request, rows[System.MANAGER], wanted, System.MANAGER)
    if request.mode is Mode.ROLLBACK:
        _check_rollback(request, database)
    if steps.removes:
        _check_retirable(request, database)
    if steps.secret_keys:
        _check_stopped(request, workspace)
    if steps.rewrites and request.on_unreadable is OnUnreadable.FAIL:
        for each in unwrap.values():
            each.raise_refusal()


def too_old(database: Database) -> str | None:
    """Why no Grafana that has run on this database would read what a re-encrypt writes; None where it would."""
    if not database.has_data_keys():
        return "the database has no table data_keys: it was last started by Grafana 8.2 or older, which reads no data keys. Upgrade Grafana first"
    if not database.has_labels():
        return (
            "data_keys has no column label: the database was last started by Grafana 8.3 to 8.5, which reads neither the payloads that this run would "
            "write nor values under a deactivated data key. Upgrade Grafana to 9.0 or later and start it once, then run again"
        )
    return None


def _check_provider(request: RunInput, rows: Sequence[DataKey], provider: str, system: System) -> None:
    if len(provider) > MAXIMUM_PROVIDER_LENGTH:
        raise ConfigurationError(f"the provider id {provider} is longer than {MAXIMUM_PROVIDER_LENGTH} characters, which the column provider cannot hold")
    if not is_ready(request, rows, provider, system):
        raise ProviderNotReady(not_ready(provider, system))


def _check_rollback(request: RunInput, database: Database) -> None:
    if not database.has_labels() and request.for_version is None:
        raise SafetyError('the database was last started by Grafana 8.x, which does not read payloads that name their algorithm: roll back with "for": "8.x"')


def _check_stopped(request: RunInput, workspace: Workspace) -> None:
    """AES-CFB does not authenticate: a Grafana with the old key opens what is under the new one to garbage, and writes under that, or writes it back."""
    if workspace.settings.old_secret_keys and request.settle_seconds != 0:
        raise SafetyError(
            "a Grafana that runs with the old secret_key would read garbage from what this run writes, and could save it: stop every replica, say so with "
            '"settleSeconds": 0, and start them with the new secret_key when the run has ended'
        )


def _check_retirable(request: RunInput, database: Database) -> None:
    """Raises SafetyError for a Grafana that runs and whose data keys cannot be retired before they go."""
    if database.has_data_keys() and not database.has_labels() and request.settle_seconds != 0:
        raise SafetyError(
            "data_keys has no column label: Grafana 8.3 to 8.5 encrypts under its data keys as long as it runs, and cannot decrypt with one that is "
            'deactivated. Stop it, and say so with "settleSeconds": 0'
        )
