"""`secret_key.*`: data keys of the secrets manager, wrapped by the `secret_key` of the provider's own section.

The bytes are a payload of that system (AES-GCM, a binary salt), so that a wrong secret_key is told at once.
Source: Grafana pkg/registry/apis/secret/encryption/kmsproviders/secretkey (12.4).
"""

from __future__ import annotations

from reencrypt.errors import DataKeyUnwrapFailed, PayloadError, Reason
from reencrypt.grafana import manager_payload
from reencrypt.grafana.ini import shown
from reencrypt.providers import sixteen_bytes


class ManagerSecretKeyProvider:
    """One `[secrets_manager.encryption.secret_key.<name>]` section."""

    def __init__(self, name: str, secret_key: str) -> None:
        self.name = name
        self._password = secret_key.encode()

    def __repr__(self) -> str:
        return f"<{shown(self.name)}>"

    def wrap(self, data_key: bytes) -> bytes:
        """64 bytes: `*YWVzLWdjbQ*`, salt, nonce, 16 bytes of ciphertext and the tag."""
        return manager_payload.encrypt(self._password, data_key)

    def unwrap(self, wrapped: bytes) -> bytes:
        """The 16 bytes. Raises DataKeyUnwrapFailed."""
        try:
            unwrapped = manager_payload.decrypt(self._password, wrapped)
        except PayloadError as error:
            why = " (another secret_key wrapped it, or its row is damaged)" if error.reason is Reason.AUTHENTICATION_FAILED else ""
            raise DataKeyUnwrapFailed(f"{shown(self.name)} cannot unwrap the data key: its encrypted_data is {error.reason.value}{why}") from None
        return sixteen_bytes(shown(self.name), unwrapped)
