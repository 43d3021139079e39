"""Two `secret_key`s at once: which of them a payload is under, and how it goes under the new one.

AES-CFB does not authenticate, so a payload does not say which key it is under. Three things do:

- its salt: what a rotation writes carries the salt that `rotation_salt` makes of the new key, which nobody else draws;
- its plaintext: under the other key it is random bytes, which are hardly ever what belongs into the column;
- for what is too short to tell (`x` decrypts to some other letter as well), the preflight: as long as nothing but our own writing was ever seen under
  the new key, what does not carry our salt is under the old one. Where Grafana has written under the new key too, such a value is left alone.

The same goes for the data keys that `secretKey.v1` wraps, whose "plaintext" is what they make of the values that they protect.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from reencrypt.errors import DataKeyUnwrapFailed, PayloadError, Reason
from reencrypt.grafana import payload as payloads
from reencrypt.grafana import plausibility
from reencrypt.grafana.cipher import SALT_BYTES, DeriveKey
from reencrypt.grafana.data_keys import DATA_KEY_BYTES, SECRET_KEY_PROVIDER, DataKey
from reencrypt.grafana.key_ring import SecretKeySealer, rotation_salt
from reencrypt.grafana.payload import Payload
from reencrypt.grafana.secret_columns import SecretColumn, System
from reencrypt.operations.aims import Reading
from reencrypt.operations.keys import Unwrapper, provider_of


class Side(StrEnum):
    """Which `secret_key`."""

    OLD = "old"
    NEW = "new"


@dataclass(frozen=True)
class SecretKeys:
    """The old and the new `secret_key`, and what carries the mark of a rotation to the new one."""

    old: bytes = field(repr=False)
    new: bytes = field(repr=False)

    @property
    def mark(self) -> bytes:
        """The salt of everything that a rotation to the new key writes."""
        return rotation_salt(self.new)

    def of(self, side: Side) -> bytes:
        """The key itself."""
        return self.old if side is Side.OLD else self.new

    def sealer(self, derive: DeriveKey, *, named: bool = True) -> SecretKeySealer:
        """Encrypts under the new key, with its mark."""
        return SecretKeySealer(self.new, derive, self.mark, named)


class TwoKeyRing:
    """Reads payloads of a database whose `secret_key` is being changed.

    `unwrap` opens the data keys that other providers wrap, and holds the rows of all. `new_in_use`: Grafana has written under the new key.
    """

    def __init__(self, keys: SecretKeys, unwrap: Unwrapper, derive: DeriveKey, *, new_in_use: bool) -> None:
        self.keys, self.derive, self._unwrap = keys, derive, unwrap
        self._new_in_use = new_in_use
        self._mark = keys.mark
        self._sides: dict[str, Side] = {}
        self._opened: dict[str, Mapping[Side, bytes] | Reason] = {}

    def __repr__(self) -> str:
        return f"<TwoKeyRing of {len(self._opened)} data keys>"

    def read(self, column: SecretColumn, payload: Payload) -> tuple[bytes, Side | None]:
        """The plaintext of `payload`, and which `secret_key` it, or its data key, is under; None where neither is. Raises PayloadError."""
        passwords = self._passwords(payload)
        if isinstance(passwords, bytes):
            return self._judged(column, payload, passwords), None
        fitting: dict[Side, bytes] = {}
        refusal = Reason.IMPLAUSIBLE_PLAINTEXT
        for side, password in passwords.items():
            try:
                fitting[side] = self._judged(column, payload, password)
            except PayloadError as error:
                refusal = error.reason
        if not fitting:
            raise PayloadError(refusal)
        side = self._decide(column, fitting)
        convincing = plausibility.is_convincing(column.plaintext, fitting[side])
        if payload.key_id is None and side is Side.NEW and len(passwords) > 1 and not self._new_in_use and not convincing:
            raise PayloadError(refusal)  # damaged: nothing is under the new key but what carries its mark
        if payload.key_id is not None and convincing and len(fitting) == 1:
            self._sides.setdefault(payload.key_id, side)
        return fitting[side], side

    def is_marked(self, payload: Payload, row: DataKey | None) -> bool:
        """Whether a rotation wrote `payload`, or the data key of `row` that protects it."""
        return payload.body[:SALT_BYTES] == self._mark if row is None else self._is_marked(row.encrypted_data)

    def side_of(self, row: DataKey) -> Side | None:
        """Which `secret_key` wraps the data key, as far as its mark or the values that were read under it tell."""
        if self._is_marked(row.encrypted_data):
            return Side.NEW
        return self._sides.get(row.name)

    def unwrapped(self, row: DataKey) -> Mapping[Side, bytes]:
        """The 16 bytes of a data key of `secretKey.v1` under each `secret_key` that yields 16 bytes. Raises PayloadError where none does."""
        found: dict[Side, bytes] = {}
        for side in (Side.NEW,) if self._is_marked(row.encrypted_data) else Side:
            try:
                opened = payloads.decrypt_with_password(self.keys.of(side), row.encrypted_data)
            except PayloadError:
                continue
            if len(opened) == DATA_KEY_BYTES:
                found[side] = opened
        if not found:
            raise PayloadError(Reason.DATA_KEY_UNREADABLE)
        return found

    def _passwords(self, payload: Payload) -> bytes | Mapping[Side, bytes]:
        if payload.key_id is None:
            if payload.body[:SALT_BYTES] == self._mark:
                return {Side.NEW: self.keys.new}
            return {side: self.keys.of(side) for side in Side}
        row = self._unwrap.row(payload.key_id)
        if provider_of(row, System.GRAFANA) != SECRET_KEY_PROVIDER:
            return self._once(payload.key_id, lambda: {Side.OLD: self._unwrap(row.name)})[Side.OLD]
        opened = self._once(payload.key_id, lambda: self.unwrapped(row))
        side = self._sides.get(payload.key_id)
        return opened if side is None or side not in opened else {side: opened[side]}

    def _once(self, key_id: str, open_key: Callable[[], Mapping[Side, bytes]]) -> Mapping[Side, bytes]:
        if key_id not in self._opened:
            try:
                self._opened[key_id] = open_key()
            except PayloadError as error:
                self._opened[key_id] = error.reason
        opened = self._opened[key_id]
        if isinstance(opened, Reason):
            raise PayloadError(opened)
        return opened

    def _judged(self, column: SecretColumn, payload: Payload, password: bytes) -> bytes:
        plaintext = payloads.decrypt(payload, password, self.derive)
        if not plausibility.is_plausible(column.plaintext, plaintext):
            raise PayloadError(Reason.IMPLAUSIBLE_PLAINTEXT)
        return plaintext

    def _decide(self, column: SecretColumn, fitting: Mapping[Side, bytes]) -> Side:
        """Which of the keys that fit it is."""
        if len(fitting) == 1:
            return next(iter(fitting))
        if fitting[Side.OLD] == fitting[Side.NEW]:  # the empty text
            return Side.OLD
        if not self._new_in_use:
            return Side.OLD
        convincing = [side for side, plaintext in fitting.items() if plausibility.is_convincing(column.plaintext, plaintext)]
        if len(convincing) != 1:
            raise PayloadError(Reason.AMBIGUOUS_KEY)
        return convincing[0]

    def _is_marked(self, wrapped: bytes) -> bool:
        try:
            return payloads.parse(wrapped).body[:SALT_BYTES] == self._mark
        except PayloadError:
            return False


class UnderNewSecretKey:
    """The aim of a rotation: what is directly under the old `secret_key` goes under the new one, in the form that it had; the rest stays.

    With `verifying`, a value whose data key still is under the old one is not as it should be either.
    """

    def __init__(self, ring: TwoKeyRing, derive: DeriveKey, *, verifying: bool = False) -> None:
        self.ring, self._verifying = ring, verifying
        self._sealers = {named: ring.keys.sealer(derive, named=named) for named in (True, False)}

    def read(self, column: SecretColumn, payload: Payload) -> Reading:
        plaintext, side = self.ring.read(column, payload)
        return Reading(plaintext, side is not Side.OLD or (payload.key_id is not None and not self._verifying))

    def seal(self, payload: Payload, plaintext: bytes) -> bytes | None:
        return self._sealers[payload.named].seal(plaintext)

    def open(self, payload: Payload) -> bytes:
        return payloads.decrypt(payload, self.ring.keys.new, self.ring.derive)


def rewrapped(keys: SecretKeys, derive: DeriveKey, data_key: bytes, *, named: bool) -> bytes:
    """The 16 bytes wrapped by `secretKey.v1` under the new `secret_key`, with the mark of a rotation; `named` False: as Grafana 8.x reads it.

    Raises DataKeyUnwrapFailed, a bug.
    """
    wrapped = keys.sealer(derive, named=named).seal(data_key)
    if payloads.decrypt_with_password(keys.new, wrapped) != data_key:
        raise DataKeyUnwrapFailed("secretKey.v1 does not unwrap what it has wrapped; nothing was written")
    return wrapped
