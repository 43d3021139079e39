"""A run's keys: unwrap the database's data keys with the configured providers, and remember why one could not be."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, NoReturn

from reencrypt.errors import ConfigurationError, DataKeyUnwrapFailed, PayloadError, ProviderError, ProviderThrottled, Reason, ReencryptError
from reencrypt.grafana.cipher import DeriveKey
from reencrypt.grafana.data_keys import DataKey, normalise_provider
from reencrypt.grafana.key_ring import SECRET_KEY, KeyRing
from reencrypt.grafana.payload import Payload
from reencrypt.grafana.secret_columns import System
from reencrypt.grafana.settings import SecretKeyCandidate
from reencrypt.providers import Provider
from reencrypt.providers.awskms import key_of

_SECTION = {System.GRAFANA: "security.encryption", System.MANAGER: "secrets_manager.encryption"}


class Unwrapper:
    """Unwraps the data keys of one store, at each call anew: a key ring asks for each once. Keys go by their `key_name`.

    `reread` reads the table again, for a key that is not among `rows`: a running Grafana makes one at midnight, and whenever its provider is new.
    """

    def __init__(
        self, rows: Iterable[DataKey], providers: Mapping[str, Provider], reread: Callable[[], Iterable[DataKey]] = lambda: (),
        system: System = System.GRAFANA,
    ) -> None:  # fmt: skip
        self.system = system
        self.rows = {key_name(system, row.scope, row.name): row for row in rows}
        self.providers = providers
        self._reread = reread
        self.problems: dict[str, str] = {}
        self._refusal: ReencryptError | None = None

    def row(self, name: str) -> DataKey:
        """The row of a data key. Raises PayloadError(UNKNOWN_DATA_KEY)."""
        if name not in self.rows:
            self.rows |= {key_name(self.system, row.scope, row.name): row for row in self._reread()}
        row = self.rows.get(name)
        if row is None:
            raise PayloadError(Reason.UNKNOWN_DATA_KEY)
        return row

    def __call__(self, name: str) -> bytes:
        """The 16 bytes of a data key. Raises PayloadError, or ProviderThrottled when it is worth trying again."""
        row = self.row(name)
        provider_name = provider_of(row, self.system)
        provider = self.providers.get(provider_name)
        if provider is None:
            self.problems[name] = f"provider {provider_name} is not configured: grafana.ini has no [{_SECTION[self.system]}.{provider_name}]"
            raise PayloadError(Reason.PROVIDER_UNAVAILABLE)
        try:
            return provider.unwrap(row.encrypted_data)
        except ProviderThrottled:
            raise
        except (ProviderError, ConfigurationError) as error:  # expired credentials of an old section make its keys unreadable, no more
            self.problems[name] = str(error)
            if not isinstance(error, DataKeyUnwrapFailed):
                self._refusal = error
            raise PayloadError(Reason.DATA_KEY_UNREADABLE if isinstance(error, DataKeyUnwrapFailed) else Reason.PROVIDER_UNAVAILABLE) from None

    def kms_key(self, row: DataKey) -> str | None:
        """The ARN of the KMS key that wraps `row`, as KMS gave it when the row was unwrapped; None for other providers."""
        provider = self.providers.get(provider_of(row, self.system))
        return None if provider is None else key_of(provider, row.encrypted_data)

    def scoped(self, scope: str, uid: str) -> bytes:
        """As a call, for the secrets manager's key ring."""
        return self(key_name(System.MANAGER, scope, uid))

    def opens(self, name: str) -> bool:
        """Whether the data key unwraps to 16 bytes; why it does not is in `problems`."""
        try:
            self(name)
        except PayloadError:
            return False
        return True

    def raise_problem(self, name: str) -> NoReturn:
        """Raises why the data key, which the run cannot do without, did not open: the provider's own error, else DataKeyUnwrapFailed."""
        self.raise_refusal()
        raise DataKeyUnwrapFailed(f"the run's data key {name} cannot be used: {self.problems.get(name, 'its row is not there any more')}")

    def raise_refusal(self) -> None:
        """Raises the KeyAccessDenied, KeyUnusable or ConfigurationError that a provider answered with: something that a person can put right."""
        if self._refusal is not None:
            raise self._refusal


def open_ring(secret_key: SecretKeyCandidate, unwrap: Unwrapper, distrusted: Collection[str] = (), derive: DeriveKey | None = None) -> KeyRing:
    """The key ring of one database under `secret_key`."""
    return KeyRing(secret_key.value.encode(), unwrap, distrusted, derive)


def key_name(system: System, scope: str, key_id: str) -> str:
    """How a run calls a data key: its id, and in the secrets manager, whose keys belong to a namespace, `<namespace>/<uid>`."""
    return key_id if system is System.GRAFANA else f"{scope}/{key_id}"


def name_of(system: System, payload: Payload) -> str:
    """The key that protects `payload`, as a census calls it: `key_name`, or SECRET_KEY."""
    return SECRET_KEY if payload.key_id is None else key_name(system, payload.scope, payload.key_id)


def provider_of(row: DataKey, system: System) -> str:
    """The provider's id as it is configured."""
    return normalise_provider(row.provider) if system is System.GRAFANA else row.provider


def entry_of(row: DataKey, *, readable: bool, system: System = System.GRAFANA, kms_key: str | None = None) -> dict[str, Any]:
    """A data key as a report lists it; `kms_key` is the ARN of the KMS key that wraps it, where that is known."""
    return {
        "id": row.name, "system": system.value, "namespace": row.scope if system is System.MANAGER else None, "provider": provider_of(row, system),
        "active": row.active, "label": row.label or row.name, "readable": readable, "kms_key": kms_key,
    }  # fmt: skip


def listed_name(entry: Mapping[str, Any]) -> str:
    """The `key_name` of an entry of a report's `data_keys`."""
    return key_name(System(entry["system"]), entry["namespace"] or "", entry["id"])


def current_keys(rows: Iterable[DataKey], provider: str, system: System = System.GRAFANA) -> frozenset[str]:
    """The names of the active data keys of `provider`: values under these are current."""
    return frozenset(key_name(system, row.scope, row.name) for row in rows if row.active and provider_of(row, system) == provider)
