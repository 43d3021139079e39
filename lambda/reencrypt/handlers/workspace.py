"""From the function's environment to the workspace of an operation; settings are read once a process.

Nothing secret is in an environment variable: `configuration.py` reads what they name.
"""

from __future__ import annotations

import functools
import json
import os
import time
from collections.abc import Mapping
from datetime import UTC, datetime

from reencrypt.database.database import Database
from reencrypt.grafana import cipher
from reencrypt.grafana.settings import GrafanaSettings, SecretKeyCandidate
from reencrypt.handlers.configuration import database_login, grafana_settings
from reencrypt.operations.safeguards import CountingPulse, LeasePulse
from reencrypt.operations.workspace import Workspace
from reencrypt.providers import Provider
from reencrypt.providers.awskms import KmsOptions
from reencrypt.providers.registry import manager_providers_for, old_manager_providers_for, providers_for
from reencrypt.storage.bucket import S3Bucket
from reencrypt.storage.journal import Journal
from reencrypt.storage.lease import Lease
from reencrypt.storage.objects import RunStore

_PROVIDERS_SECONDS = 1800  # an assumed role's credentials live an hour, a process may live longer
# For the life of the process: values that this product wrote share salts, so chunk after chunk profits.
derive_key = cipher.caching_derivation()


def workspace(run: str, execution: str | None = None) -> Workspace:
    """The workspace of `run`; a function that writes names its `execution`, which holds the lease. Raises ConfigurationError, InvalidIni."""
    settings = _settings()
    return Workspace(
        settings=settings,
        providers=_providers,
        open_database=lambda read_only: _open_database(settings, read_only),
        store=run_store(run),
        now=lambda: datetime.now(UTC),
        journal=_journal(run),
        pulse=CountingPulse if execution is None else lambda: LeasePulse(lease(), execution),
        manager_providers=lambda: _manager_providers_of(_age()),
        old_manager_providers=lambda: old_manager_providers_for(settings),
    )


def run_store(run: str) -> RunStore:
    """The run's part of the bucket."""
    return RunStore(S3Bucket(os.environ["RUN_BUCKET"]), run)


def _journal(run: str) -> Journal | None:
    name = os.environ.get("JOURNAL_BUCKET")
    return Journal(S3Bucket(name), run) if name else None


def lease() -> Lease:
    """The lease that lets one writing run go on at a time."""
    return Lease(os.environ["LEASE_TABLE"])


def max_concurrency() -> int:
    """The deployment's limit of workers at the same time."""
    return int(os.environ["MAX_CONCURRENCY"])


@functools.cache
def _settings() -> GrafanaSettings:
    return grafana_settings()


def _open_database(settings: GrafanaSettings, read_only: bool) -> Database:
    return Database(settings.database, read_only=read_only, login=database_login(settings.database))


def _providers(candidate: SecretKeyCandidate) -> Mapping[str, Provider]:
    return _providers_of(candidate, _age())


def _age() -> int:
    return int(time.time() // _PROVIDERS_SECONDS)


@functools.lru_cache(maxsize=4)
def _providers_of(candidate: SecretKeyCandidate, _age: int) -> Mapping[str, Provider]:
    return providers_for(_settings(), candidate, _kms_options())


@functools.lru_cache(maxsize=2)
def _manager_providers_of(_age: int) -> Mapping[str, Provider]:
    return manager_providers_for(_settings(), _kms_options())


def _kms_options() -> KmsOptions:
    return KmsOptions(
        credentials="role" if os.environ.get("KMS_CREDENTIALS") == "role" else "configured-first",
        role_to_assume=os.environ.get("KMS_ROLE_TO_ASSUME") or None,
        encryption_context=json.loads(os.environ.get("KMS_ENCRYPTION_CONTEXT") or "{}"),
    )
