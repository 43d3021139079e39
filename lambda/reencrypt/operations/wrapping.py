"""The ways in which a data key is wrapped anew, each proving the key before and after."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from reencrypt.errors import ConfigurationError, DataKeyUnwrapFailed, PayloadError, Reason
from reencrypt.grafana import payload as payloads
from reencrypt.grafana.cipher import DeriveKey
from reencrypt.grafana.data_keys import SECRET_KEY_PROVIDER, DataKey
from reencrypt.grafana.secret_columns import System
from reencrypt.operations.keys import Unwrapper, key_name, provider_of
from reencrypt.operations.run_keys import RunKeys, two_key_ring
from reencrypt.operations.secret_key_rotation import Side, rewrapped
from reencrypt.operations.witness import Witness
from reencrypt.operations.workspace import Workspace
from reencrypt.providers import Provider
from reencrypt.providers.rewrap import How
from reencrypt.providers.rewrap import rewrap as by_provider


@dataclass(frozen=True)
class Wrapped:
    """How a data key is wrapped now, by which provider, and how it got there."""

    provider: str
    blob: bytes = field(repr=False)
    how: str


class Way(Protocol):
    """One way of wrapping data keys anew. `needs_proof`: what it takes for the key depends on a value that the key protects."""

    @property
    def needs_proof(self) -> bool: ...

    def wrap_anew(self, row: DataKey, witness: Witness | None) -> Wrapped | None:
        """The new wrapping, proven; None where the row is as it should be already. Raises PayloadError, ProviderError, ConfigurationError."""


@dataclass(frozen=True)
class ByProvider:
    """By the provider `target`, whichever wraps the key now."""

    unwrap: Unwrapper
    target: str
    derive: DeriveKey
    needs_proof: bool = False

    def wrap_anew(self, row: DataKey, witness: Witness | None) -> Wrapped | None:
        system, target = self.unwrap.system, self.unwrap.providers[self.target]
        name = key_name(system, row.scope, row.name)
        try:
            key = self.unwrap(name)
        except PayloadError as error:
            if name in self.unwrap.problems:
                raise DataKeyUnwrapFailed(self.unwrap.problems[name]) from None
            raise PayloadError(error.reason) from None
        plaintext = None if witness is None else witness.opened(key, self.derive)
        anew = by_provider(self.unwrap.providers[provider_of(row, system)], target, row.encrypted_data)
        _prove(target, anew.wrapped, key, witness, plaintext, self.derive)
        return Wrapped(target.name, anew.wrapped, anew.how.value)


class UnderNewSecretKeys:
    """Keys of `secretKey.v1` under the new `secret_key`; those of other providers do not depend on it."""

    needs_proof = True

    def __init__(self, workspace: Workspace, facts: Mapping[str, Any], keys: RunKeys) -> None:
        self._ring = two_key_ring(workspace, facts, keys.unwrap[System.GRAFANA], keys.derive)
        self._derive, self._new_in_use = keys.derive, bool(facts["new_secret_key_in_use"])

    def wrap_anew(self, row: DataKey, witness: Witness | None) -> Wrapped | None:
        if provider_of(row, System.GRAFANA) != SECRET_KEY_PROVIDER:
            return None
        if witness is not None:
            self._ring.read(witness.column, witness.payload)  # which `secret_key` the key is under
        opened = self._ring.unwrapped(row)
        side = self._ring.side_of(row)
        if side is None:
            if self._new_in_use and len(opened) > 1:  # nothing tells, and guessing wrong would destroy it
                raise PayloadError(Reason.AMBIGUOUS_KEY)
            side = Side.OLD
        if side is Side.NEW:
            return None
        if side not in opened:
            raise PayloadError(Reason.DATA_KEY_UNREADABLE)
        key = opened[side]
        plaintext = None if witness is None else witness.opened(key, self._derive)
        blob = rewrapped(self._ring.keys, self._derive, key, named=payloads.parse(row.encrypted_data).named)
        if witness is not None and witness.opened(payloads.decrypt_with_password(self._ring.keys.new, blob), self._derive) != plaintext:
            raise DataKeyUnwrapFailed(f"the data key {row.name} does not open its values once it is wrapped anew; this is a bug, nothing was written")
        return Wrapped(row.provider, blob, How.UNWRAP_AND_WRAP.value)


@dataclass(frozen=True)
class UnderNewManagerKeys:
    """Keys of the secrets manager's `secret_key.*` providers under the new key of their section. GCM tells which key a row is under."""

    old: Mapping[str, Provider]
    new: Mapping[str, Provider]
    derive: DeriveKey
    needs_proof: bool = False

    def wrap_anew(self, row: DataKey, witness: Witness | None) -> Wrapped | None:
        if row.provider not in self.old:
            return None
        if row.provider not in self.new:
            raise ConfigurationError(f"[secrets_manager.encryption.{row.provider}] has an old_secret_key and no secret_key: the new one is missing")
        old, new = self.old[row.provider], self.new[row.provider]
        try:
            key = old.unwrap(row.encrypted_data)
        except DataKeyUnwrapFailed:
            new.unwrap(row.encrypted_data)  # raises where it is under neither
            return None
        plaintext = None if witness is None else witness.opened(key, self.derive)
        blob = new.wrap(key)
        _prove(new, blob, key, witness, plaintext, self.derive)
        return Wrapped(row.provider, blob, How.UNWRAP_AND_WRAP.value)


def _prove(provider: Provider, blob: bytes, key: bytes, witness: Witness | None, plaintext: bytes | None, derive: DeriveKey) -> None:
    """Raises DataKeyUnwrapFailed where `blob` does not unwrap to the same key, or that does not open its witness."""
    again = provider.unwrap(blob)
    if again != key or (witness is not None and witness.opened(again, derive) != plaintext):
        raise DataKeyUnwrapFailed(f"{provider.name} does not unwrap to the data key what it has wrapped; nothing was written")
