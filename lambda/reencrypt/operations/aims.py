"""What a run wants of every value: how to read it, whether it may stay as it is, and what to put in its place.

One aim for each mode and store. `chunk` knows nothing of keys: it asks the aim.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from reencrypt.errors import PayloadError, Reason
from reencrypt.grafana import plausibility
from reencrypt.grafana.cipher import Algorithm
from reencrypt.grafana.key_ring import KeyRing, ManagerKeyRing, ManagerSealer, Sealer, SecretKeySealer
from reencrypt.grafana.payload import Payload
from reencrypt.grafana.secret_columns import SecretColumn, System
from reencrypt.operations.keys import name_of


@dataclass(frozen=True, slots=True)
class Reading:
    """A plaintext, and whether its payload is what the run wants already."""

    plaintext: bytes = field(repr=False)
    current: bool


class Aim(Protocol):
    """What a run wants of the values of one store."""

    def read(self, column: SecretColumn, payload: Payload) -> Reading:
        """The plaintext of `payload`, judged by what belongs into `column`: under CFB a wrong key yields garbage. Raises PayloadError."""

    def seal(self, payload: Payload, plaintext: bytes) -> bytes | None:
        """The payload to put in place of `payload`; None where the run has no key for it."""

    def open(self, payload: Payload) -> bytes:
        """The plaintext of a payload that `seal` has made, as Grafana will read it. Raises PayloadError."""


class _Ring(Protocol):
    def decrypt(self, payload: Payload) -> bytes: ...


def judged(ring: _Ring, column: SecretColumn, payload: Payload) -> bytes:
    """The plaintext of `payload` if it is what belongs into `column`. Raises PayloadError."""
    plaintext = ring.decrypt(payload)
    if not plausibility.is_plausible(column.plaintext, plaintext):
        raise PayloadError(Reason.IMPLAUSIBLE_PLAINTEXT)
    return plaintext


@dataclass(frozen=True)
class Keep:
    """Reads every value and wants none of them changed."""

    ring: KeyRing | ManagerKeyRing

    def read(self, column: SecretColumn, payload: Payload) -> Reading:
        return Reading(judged(self.ring, column, payload), current=True)

    def seal(self, payload: Payload, plaintext: bytes) -> bytes | None:
        return None

    def open(self, payload: Payload) -> bytes:
        return self.ring.decrypt(payload)


@dataclass(frozen=True)
class UnderDataKey:
    """Every value under a key of `current`; others, and with `force` all of them, go under the key of `sealer`.

    A column whose reader knows no data keys stays as it is.
    """

    ring: KeyRing
    current: frozenset[str]
    sealer: Sealer | None
    force: bool = False

    def read(self, column: SecretColumn, payload: Payload) -> Reading:
        return Reading(judged(self.ring, column, payload), not column.envelope or (payload.key_id in self.current and not self.force))

    def seal(self, payload: Payload, plaintext: bytes) -> bytes | None:
        return None if self.sealer is None else self.sealer.seal(plaintext)

    def open(self, payload: Payload) -> bytes:
        return self.ring.decrypt(payload)


@dataclass
class UnderManagerKey:
    """As `UnderDataKey` for the secrets manager, whose namespaces have keys of their own: `chosen` has one for each."""

    ring: ManagerKeyRing
    current: frozenset[str]
    chosen: Mapping[str, str]
    force: bool = False
    _sealers: dict[str, ManagerSealer] = field(default_factory=dict, repr=False)

    def read(self, column: SecretColumn, payload: Payload) -> Reading:
        return Reading(judged(self.ring, column, payload), name_of(System.MANAGER, payload) in self.current and not self.force)

    def seal(self, payload: Payload, plaintext: bytes) -> bytes | None:
        if payload.scope not in self.chosen:  # a namespace that Grafana has added since the run chose its keys
            return None
        if payload.scope not in self._sealers:
            self._sealers[payload.scope] = self.ring.sealer(payload.scope, self.chosen[payload.scope])
        return self._sealers[payload.scope].seal(plaintext)

    def open(self, payload: Payload) -> bytes:
        return self.ring.decrypt(payload)


@dataclass(frozen=True)
class UnderSecretKey:
    """Every value directly under `secret_key`, as Grafana's own rollback leaves it; `named` False: in the form that 8.x reads."""

    ring: KeyRing
    sealer: SecretKeySealer
    named: bool = True

    def read(self, column: SecretColumn, payload: Payload) -> Reading:
        fits = self.named or (not payload.named and payload.algorithm is Algorithm.CFB)
        return Reading(judged(self.ring, column, payload), payload.key_id is None and fits)

    def seal(self, payload: Payload, plaintext: bytes) -> bytes | None:
        return self.sealer.seal(plaintext)

    def open(self, payload: Payload) -> bytes:
        return self.ring.decrypt(payload)


AimFor = Callable[[System], Aim]
