"""What an operation works with: Grafana's settings, its database, the providers, and the run's own store."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from reencrypt.database.database import Database
from reencrypt.errors import ConfigurationError
from reencrypt.grafana.data_keys import normalise_provider
from reencrypt.grafana.ini import shown
from reencrypt.grafana.settings import GrafanaSettings, SecretKeyCandidate
from reencrypt.operations.run_input import RunInput
from reencrypt.operations.safeguards import CountingPulse, Pulse
from reencrypt.providers import Provider
from reencrypt.storage.journal import Journal
from reencrypt.storage.objects import RunStore


@dataclass(frozen=True)
class Workspace:
    """Everything that one step of a run needs, made by its handler (or by a test). `open_database(read_only)` connects.

    `journal` is None where the deployment keeps none. `pulse` makes what tells the other workers that this one is alive. `manager_providers` are
    those of the secrets manager, `old_manager_providers` those of them under the secret_key that they had until now.
    """

    settings: GrafanaSettings
    providers: Callable[[SecretKeyCandidate], Mapping[str, Provider]]
    open_database: Callable[[bool], Database]
    store: RunStore
    now: Callable[[], datetime]
    journal: Journal | None = None
    pulse: Callable[[], Pulse] = CountingPulse
    manager_providers: Callable[[], Mapping[str, Provider]] = dict
    old_manager_providers: Callable[[], Mapping[str, Provider]] = dict

    def secret_key(self, source: str) -> SecretKeyCandidate:
        """The candidate that the preflight found to be the one in use, by its source."""
        return next(candidate for candidate in self.settings.secret_keys if candidate.source == source)

    def target_provider(self, request: RunInput) -> str:
        """The provider that values go under. Raises ConfigurationError where it is not configured."""
        wanted = normalise_provider(request.provider or self.settings.encryption_provider)
        known = self.providers(self.settings.secret_keys[0])
        if wanted not in known:
            source = "the input's provider" if request.provider else "[security] encryption_provider"
            raise ConfigurationError(
                f"{source} is {shown(wanted)}, but grafana.ini has no [security.encryption.{shown(wanted)}]; configured: {', '.join(sorted(known))}"
            )
        return wanted

    def target_manager_provider(self, request: RunInput) -> str:
        """The provider that the secrets manager's values go under, whether or not it is configured."""
        return request.manager_provider or self.settings.manager.encryption_provider
