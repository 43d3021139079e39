"""The providers that a Grafana configuration has: `secretKey.v1` always, and one for each `[security.encryption.awskms.*]` section.

The secrets manager has providers of its own, one for each `[secrets_manager.encryption.*]` section: `secret_key.*` and `aws_kms.*`.
"""

from __future__ import annotations

from reencrypt.grafana.settings import GrafanaSettings, SecretKeyCandidate
from reencrypt.providers import Provider
from reencrypt.providers.awskms import AwsKmsProvider, KmsOptions
from reencrypt.providers.manager_secret_key import ManagerSecretKeyProvider
from reencrypt.providers.secret_key import SecretKeyProvider


def providers_for(settings: GrafanaSettings, secret_key: SecretKeyCandidate, options: KmsOptions) -> dict[str, Provider]:
    """By provider id. Raises ConfigurationError for a section that cannot be used, KeyAccessDenied where a role may not be assumed."""
    providers: dict[str, Provider] = {SecretKeyProvider.name: SecretKeyProvider(secret_key.value)}
    for name, section in settings.kms.items():
        providers[name] = AwsKmsProvider(section, options)
    return providers


def manager_providers_for(settings: GrafanaSettings, options: KmsOptions) -> dict[str, Provider]:
    """The secrets manager's, by provider id. Raises as `providers_for` does, so it is only to be asked by whoever needs them."""
    providers: dict[str, Provider] = {name: ManagerSecretKeyProvider(name, key.value) for name, key in settings.manager.secret_keys.items()}
    for name, section in settings.manager.kms.items():
        providers[name] = AwsKmsProvider(section, options)
    return providers


def old_manager_providers_for(settings: GrafanaSettings) -> dict[str, Provider]:
    """Those `secret_key.*` providers that have an `old_secret_key`, with that key, by provider id."""
    return {name: ManagerSecretKeyProvider(name, key.value) for name, key in settings.manager.old_secret_keys.items()}
