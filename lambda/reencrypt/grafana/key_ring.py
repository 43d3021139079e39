"""The key rings: from a payload to its plaintext, and to the sealer of one data key. One for each of Grafana's two stores of secrets.

They hold `secret_key` and the unwrapped data keys, in this process's memory only. Data keys are unwrapped when first needed, and a failure is
remembered as the reason that its values are unreadable.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from reencrypt.errors import PayloadError, Reason
from reencrypt.grafana import cipher
from reencrypt.grafana import payload as payloads
from reencrypt.grafana.cipher import DeriveKey
from reencrypt.grafana.payload import Payload
from reencrypt.grafana.sealers import ManagerSealer, Sealer, SecretKeySealer, rotation_salt

__all__ = ["SECRET_KEY", "KeyRing", "ManagerKeyRing", "ManagerSealer", "ManagerUnwrap", "Sealer", "SecretKeySealer", "Unwrap", "rotation_salt"]

SECRET_KEY = "secret_key"  # noqa: S105  (the name of the key in a census, not a key)

Unwrap = Callable[[str], bytes]
ManagerUnwrap = Callable[[str, str], bytes]


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
            known = self._known[key_id] = _outcome(lambda: self._unwrap(key_id))
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


class ManagerKeyRing:
    """Decrypts the values of the secrets manager, whose data keys belong to a namespace each. `repr` shows nothing.

    The same id in another namespace is another key: Grafana looks keys up by both. All of it is GCM, so a wrong key fails and never yields garbage.
    """

    def __init__(self, unwrap: ManagerUnwrap, derive: DeriveKey | None = None) -> None:
        """`unwrap` gives the 16 bytes of a (namespace, uid), or raises PayloadError with the reason."""
        self._unwrap = unwrap
        self._known: dict[tuple[str, str], bytes | Reason] = {}
        self.derive = derive or cipher.caching_derivation()

    def __repr__(self) -> str:
        return f"<ManagerKeyRing of {len(self._known)} data keys>"

    def data_key(self, scope: str, uid: str) -> bytes:
        """The 16 bytes of the data key. Raises PayloadError: UNKNOWN_DATA_KEY, DATA_KEY_UNREADABLE, PROVIDER_UNAVAILABLE."""
        known = self._known.get((scope, uid))
        if known is None:
            known = self._known[scope, uid] = _outcome(lambda: self._unwrap(scope, uid))
        if isinstance(known, Reason):
            raise PayloadError(known)
        return known

    def decrypt(self, payload: Payload) -> bytes:
        """The plaintext of `payload`, which names its data key and its namespace. Raises PayloadError: those of `data_key`, AUTHENTICATION_FAILED."""
        if payload.key_id is None:
            raise PayloadError(Reason.BAD_KEY_ID)
        return payloads.decrypt(payload, self.data_key(payload.scope, payload.key_id), self.derive)

    def sealer(self, scope: str, uid: str) -> ManagerSealer:
        """Encrypts under the data key `uid` of the namespace `scope`, with one fresh salt, into the joined form."""
        return ManagerSealer(scope, uid, self.data_key(scope, uid), self.derive)


def _outcome(unwrap: Callable[[], bytes]) -> bytes | Reason:
    """The data key, or why there is none; both are remembered."""
    try:
        return unwrap()
    except PayloadError as error:
        return error.reason
