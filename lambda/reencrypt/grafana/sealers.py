"""Sealers: from a plaintext to a payload, under one key and one salt, so that the key derivation is paid once for all of a sealer's values.

One for each place where a payload's key comes from: a data key of `data_keys`, a data key of the secrets manager, or `secret_key` itself. IVs
and nonces are random for each value. No `repr` shows a key or a salt.
"""

from __future__ import annotations

import functools

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC

from reencrypt.grafana import cipher, manager_payload, split_form
from reencrypt.grafana import payload as payloads
from reencrypt.grafana.cipher import DeriveKey
from reencrypt.grafana.payload import CFB_PREFIX, GCM_PREFIX

# Not 8 bytes long, as the salt of every payload is: no payload's AES key is ever derived with it.
_ROTATION_SALT = b"grafana-reencrypt: the salt of a rotation of secret_key"
_ROTATION_ITERATIONS = 60 * cipher.ITERATIONS
_ALPHANUMERIC = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


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


class ManagerSealer:
    """Builds the secrets manager's values under one data key of one namespace, in the joined form (see `split_form`).

    A random nonce of 12 bytes is safe for 2**32 values under one AES key; a sealer lives for a chunk.
    """

    def __init__(self, scope: str, key_id: str, data_key: bytes, derive: DeriveKey) -> None:
        self.scope = scope
        self.key_id = key_id
        self._salt = manager_payload.new_salt()
        self._key = derive(data_key, self._salt)
        self._head = split_form.joined(GCM_PREFIX, key_id.encode())

    def __repr__(self) -> str:
        return f"<ManagerSealer {self.scope}/{self.key_id}>"

    def seal(self, plaintext: bytes) -> bytes:
        """`#<uid>#*YWVzLWdjbQ*<salt><nonce><ciphertext><tag>` of `plaintext`."""
        return self._head + cipher.encrypt_gcm(plaintext, self._key, self._salt)


class SecretKeySealer:
    """Builds payloads directly under `secret_key`, without a data key: `*YWVzLWNmYg*…`, or with `named` False the bare body that Grafana 8 reads.

    `salt` is 8 letters and digits (a bare body that began with `*` or `#` would be misread); a fresh one if none is given.
    """

    key_id = None

    def __init__(self, secret_key: bytes, derive: DeriveKey, salt: bytes | None = None, named: bool = True) -> None:
        if salt is not None and not cipher.is_grafana_salt(salt):
            raise ValueError("a salt of payloads under secret_key is 8 ASCII letters and digits")
        self._salt = salt or cipher.new_salt()
        self._key = derive(secret_key, self._salt)
        self._head = CFB_PREFIX if named else b""

    def __repr__(self) -> str:
        return "<SecretKeySealer>"

    def seal(self, plaintext: bytes) -> bytes:
        """`*YWVzLWNmYg*<salt><iv><ciphertext>` of `plaintext`, or the same without the algorithm's name."""
        return self._head + cipher.encrypt_cfb(plaintext, self._key, self._salt)


@functools.lru_cache(maxsize=8)
def rotation_salt(secret_key: bytes) -> bytes:
    """The salt of all payloads that a rotation writes under the new `secret_key`: 8 letters and digits that depend on the key alone.

    A payload under `secret_key` does not say which one, and CFB does not tell a wrong one. By this salt a rotation that is repeated knows again
    what it wrote before: a payload with the salt of the new key is under the new key, but for a chance of 1 in 62**8.

    Who sees the salt can test a guess at `secret_key`; so can everybody who sees a ciphertext, at a sixtieth of the cost, since this derivation
    takes 60 times the iterations of a payload's. What the salt does tell on its own: two databases with the same salt have the same `secret_key`.
    """
    derived = PBKDF2HMAC(algorithm=SHA256(), length=32, salt=_ROTATION_SALT, iterations=_ROTATION_ITERATIONS).derive(secret_key)
    number, letters = int.from_bytes(derived), ""
    for _ in range(cipher.SALT_BYTES):  # the bias is 62**8 in 2**256: none
        number, digit = divmod(number, len(_ALPHANUMERIC))
        letters += _ALPHANUMERIC[digit]
    return letters.encode()
