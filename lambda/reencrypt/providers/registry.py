"""The providers that a Grafana configuration has: `secretKey.v1` always, and one for each `[security.encryption.awskms.*]` section."""

from __future__ import annotations

from reencrypt.grafana.settings import GrafanaSettings, SecretKeyCandidate
from reencrypt.providers import Provider
from reencrypt.providers.awskms import AwsKmsProvider, KmsOptions
from reencrypt.providers.secret_key import SecretKeyProvider


def providers_for(settings: GrafanaSettings, secret_key: SecretKeyCandidate, options: KmsOptions) -> dict[str, Provider]:
    """By provider id. Raises ConfigurationError for a section that cannot be used, KeyAccessDenied where a role may not be assumed."""
    providers: dict[str, Provider] = {SecretKeyProvider.name: SecretKeyProvider(secret_key.value)}
    for name, section in settings.kms.items():
        providers[name] = AwsKmsProvider(section, options)
    return providers
