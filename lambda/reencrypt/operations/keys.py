"""A run's keys: unwrap the database's data keys with the configured providers, and remember why one could not be."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, NoReturn

from reencrypt.errors import ConfigurationError, DataKeyUnwrapFailed, PayloadError, ProviderError, ProviderThrottled, Reason, ReencryptError
from reencrypt.grafana import plausibility
from reencrypt.grafana.cipher import DeriveKey
from reencrypt.grafana.data_keys import DataKey, normalise_provider
from reencrypt.grafana.key_ring import KeyRing
from reencrypt.grafana.payload import Payload
from reencrypt.grafana.secret_columns import SecretColumn
from reencrypt.grafana.settings import SecretKeyCandidate
from reencrypt.providers import Provider


class Unwrapper:
    """Unwraps the data keys of one database, at each call anew: a key ring asks for each once.

    `reread` reads the table again, for a key that is not among `rows`: a running Grafana makes one at midnight, and whenever its provider is new.
    """

    def __init__(
        self, rows: Iterable[DataKey], providers: Mapping[str, Provider], reread: Callable[[], Iterable[DataKey]] = lambda: ()
    ) -> None:
        self.rows = {row.name: row for row in rows}
        self._providers = providers
        self._reread = reread
        self.problems: dict[str, str] = {}
        self._refusal: ReencryptError | None = None

    def __call__(self, key_id: str) -> bytes:
        """The 16 bytes of the data key `key_id`. Raises PayloadError, or ProviderThrottled when it is worth trying again."""
        if key_id not in self.rows:
            self.rows |= {row.name: row for row in self._reread()}
        row = self.rows.get(key_id)
        if row is None:
            raise PayloadError(Reason.UNKNOWN_DATA_KEY)
        name = normalise_provider(row.provider)
        provider = self._providers.get(name)
        if provider is None:
            self.problems[key_id] = f"provider {name} is not configured: grafana.ini has no [security.encryption.{name}]"
            raise PayloadError(Reason.PROVIDER_UNAVAILABLE)
        try:
            return provider.unwrap(row.encrypted_data)
        except ProviderThrottled:
            raise
        except (ProviderError, ConfigurationError) as error:  # expired credentials of an old section make its keys unreadable, no more
            self.problems[key_id] = str(error)
            if not isinstance(error, DataKeyUnwrapFailed):
                self._refusal = error
            raise PayloadError(
                Reason.DATA_KEY_UNREADABLE if isinstance(error, DataKeyUnwrapFailed) else Reason.PROVIDER_UNAVAILABLE
            ) from None

    def opens(self, key_id: str) -> bool:
        """Whether the data key unwraps to 16 bytes; why it does not is in `problems`."""
        try:
            self(key_id)
        except PayloadError:
            return False
        return True

    def raise_problem(self, key_id: str) -> NoReturn:
        """Raises why the data key `key_id`, which the run cannot do without, did not open: the provider's own error, else DataKeyUnwrapFailed."""
        self.raise_refusal()
        raise DataKeyUnwrapFailed(f"the run's data key {key_id} cannot be used: {self.problems.get(key_id, 'it is not in data_keys any more')}")

    def raise_refusal(self) -> None:
        """Raises the KeyAccessDenied, KeyUnusable or ConfigurationError that a provider answered with: something that a person can put right."""
        if self._refusal is not None:
            raise self._refusal


def open_ring(
    secret_key: SecretKeyCandidate, unwrap: Unwrapper, distrusted: Collection[str] = (), derive: DeriveKey | None = None
) -> KeyRing:
    """The key ring of one database under `secret_key`."""
    return KeyRing(secret_key.value.encode(), unwrap, distrusted, derive)


def read(ring: KeyRing, column: SecretColumn, payload: Payload) -> bytes:
    """The plaintext of `payload`, judged by what belongs into `column`: under CFB a wrong key yields garbage. Raises PayloadError."""
    plaintext = ring.decrypt(payload)
    if not plausibility.is_plausible(column.plaintext, plaintext):
        raise PayloadError(Reason.IMPLAUSIBLE_PLAINTEXT)
    return plaintext


def entry_of(row: DataKey, *, readable: bool) -> dict[str, Any]:
    """A data key as a report lists it."""
    return {
        "id": row.name, "provider": normalise_provider(row.provider), "active": row.active, "label": row.label or row.name, "readable": readable,
    }  # fmt: skip


def current_keys(rows: Iterable[DataKey], provider: str) -> frozenset[str]:
    """The ids of the active data keys of `provider`: values under these are current."""
    return frozenset(row.name for row in rows if row.active and normalise_provider(row.provider) == provider)
