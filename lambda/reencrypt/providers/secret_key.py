"""`secretKey.v1`: data keys wrapped directly by `secret_key`. Source: Grafana pkg/services/kmsproviders/defaultprovider/grafana_provider.go."""

from __future__ import annotations

from reencrypt.errors import DataKeyUnwrapFailed, PayloadError
from reencrypt.grafana import payload as payloads
from reencrypt.grafana.data_keys import SECRET_KEY_PROVIDER
from reencrypt.providers import sixteen_bytes


class SecretKeyProvider:
    """The provider that every Grafana has. A wrong `secret_key` unwraps to 16 bytes of garbage: the preflight's samples tell."""

    name = SECRET_KEY_PROVIDER

    def __init__(self, secret_key: str) -> None:
        self._password = secret_key.encode()

    def __repr__(self) -> str:
        return f"<{self.name}>"

    def wrap(self, data_key: bytes) -> bytes:
        """52 bytes: `*YWVzLWNmYg*`, salt, IV and 16 bytes of ciphertext."""
        return payloads.encrypt_with_password(self._password, data_key)

    def unwrap(self, wrapped: bytes) -> bytes:
        """The 16 bytes of a prefixed, unprefixed or GCM payload. Raises DataKeyUnwrapFailed."""
        try:
            unwrapped = payloads.decrypt_with_password(self._password, wrapped)
        except PayloadError as error:
            raise DataKeyUnwrapFailed(f"{self.name} cannot unwrap the data key: its encrypted_data is {error.reason.value}") from None
        return sixteen_bytes(self.name, unwrapped)
