"""Providers wrap and unwrap data keys: `secretKey.v1` with `secret_key`, `awskms.<name>` with an AWS KMS key; the secrets manager has its own two kinds.

A provider is given the 16 bytes of a data key and nothing else, so no encryption context can depend on the row.
Source: Grafana pkg/services/secrets/types.go, Provider.
"""

from __future__ import annotations

from typing import Protocol

from reencrypt.errors import DataKeyUnwrapFailed
from reencrypt.grafana.data_keys import DATA_KEY_BYTES


class Provider(Protocol):
    """One configured provider; `name` is its id in the column `provider`."""

    @property
    def name(self) -> str: ...

    def wrap(self, data_key: bytes) -> bytes:
        """The ciphertext of the 16 bytes, as the column `encrypted_data` holds it. Raises ProviderError."""

    def unwrap(self, wrapped: bytes) -> bytes:
        """The 16 bytes. Raises DataKeyUnwrapFailed for anything else, and other ProviderErrors."""


def sixteen_bytes(name: str, unwrapped: bytes) -> bytes:
    """`unwrapped`, or DataKeyUnwrapFailed: AES-CFB does not tell a damaged ciphertext, but its length does."""
    if len(unwrapped) != DATA_KEY_BYTES:
        raise DataKeyUnwrapFailed(f"{name} unwraps the data key to {len(unwrapped)} bytes; Grafana's have {DATA_KEY_BYTES}, so its row is damaged")
    return unwrapped
