"""The key ring: from a payload to its plaintext, and from a plaintext to a payload under one data key.

Holds `secret_key` and the unwrapped data keys, in this process's memory only. Data keys are unwrapped when first needed, and a failure is
remembered as the reason that its values are unreadable.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from reencrypt.errors import PayloadError, Reason
from reencrypt.grafana import cipher
from reencrypt.grafana import payload as payloads
from reencrypt.grafana.cipher import DeriveKey
from reencrypt.grafana.payload import CFB_PREFIX, Payload

SECRET_KEY = "secret_key"  # noqa: S105  (the name of the key in a census, not a key)

Unwrap = Callable[[str], bytes]


class KeyRing:
    """Decrypts any payload of one database. `repr` shows nothing."""

    def __init__(self, secret_key: bytes, unwrap: Unwrap, distrusted: Collection[str] = (), derive: DeriveKey | None = None) -> None:
        """`unwrap` gives the 16 bytes of a data key id, or raises PayloadError with the reason.

        `distrusted` are ids (or SECRET_KEY) whose sample was garbage: nothing under them is read.
        """
        self._secret_key = secret_key
        self._unwrap = unwrap
        self._known: dict[str, bytes | Reason] = dict.fromkeys(distrusted, Reason.DATA_KEY_UNREADABLE)
        self.derive = derive or cipher.caching_derivation()

    def __repr__(self) -> str:
        return f"<KeyRing of {len(self._known)} data keys>"

    def data_key(self, key_id: str) -> bytes:
        """The 16 bytes of the data key. Raises PayloadError: UNKNOWN_DATA_KEY, DATA_KEY_UNREADABLE, PROVIDER_UNAVAILABLE."""
        known = self._known.get(key_id)
        if known is None:
            try:
                known = self._unwrap(key_id)
            except PayloadError as error:
                known = error.reason
            self._known[key_id] = known
        if isinstance(known, Reason):
            raise PayloadError(known)
        return known

    def decrypt(self, payload: Payload) -> bytes:
        """The plaintext of `payload`. Raises PayloadError; under CFB a wrong key yields garbage, so judge what comes back."""
        password = self._direct() if payload.key_id is None else self.data_key(payload.key_id)
        return payloads.decrypt(payload, password, self.derive)

    def _direct(self) -> bytes:
        """`secret_key`, for payloads without a data key. Raises PayloadError(DATA_KEY_UNREADABLE) where its sample was garbage."""
        if SECRET_KEY in self._known:
            raise PayloadError(Reason.DATA_KEY_UNREADABLE)
        return self._secret_key

    def sealer(self, key_id: str) -> Sealer:
        """Encrypts under the data key `key_id`, with one fresh salt."""
        return Sealer(key_id, self.data_key(key_id), self.derive)


class Sealer:
    """Builds modern envelopes under one data key with one salt, so that the key derivation is paid once for all of them.

    The IV is random for each value. The data key is 16 random bytes already, so the salt adds no strength: see docs/security.md.
    """

    def __init__(self, key_id: str, data_key: bytes, derive: DeriveKey) -> None:
        self.key_id = key_id
        self._salt = cipher.new_salt()
        self._key = derive(data_key, self._salt)
        self._head = payloads.envelope(key_id, CFB_PREFIX)

    def __repr__(self) -> str:
        return f"<Sealer {self.key_id}>"

    def seal(self, plaintext: bytes) -> bytes:
        """`#<id>#*YWVzLWNmYg*<salt><iv><ciphertext>` of `plaintext`."""
        return self._head + cipher.encrypt_cfb(plaintext, self._key, self._salt)
