"""The payloads of Grafana's secrets manager: always AES-GCM, always with an algorithm's name in front, with a salt of any bytes.

    *<base64(algorithm)>*<salt 8><nonce 12><ciphertext><tag 16>

The same bytes protect its secrets (under a data key) and its data keys (under the `secret_key` of a provider). Unlike the payloads of
`payload.py` they name no data key (see `split_form`), the salt is binary, and the reader decodes the name but goes by GCM whatever it says.
Source: Grafana pkg/registry/apis/secret/encryption/cipher/service/service.go, cipher/provider/cipher_aesgcm.go (12.4).
"""

from __future__ import annotations

import os

from reencrypt.errors import PayloadError, Reason
from reencrypt.grafana import base64_text, cipher
from reencrypt.grafana.cipher import Algorithm, DeriveKey
from reencrypt.grafana.payload import GCM_PREFIX, Payload


def parse(payload: bytes, key_id: str | None = None, scope: str = "") -> Payload:
    """`payload` (without `#…#`) as one under the data key `key_id` of the namespace `scope`, or directly under a `secret_key`.

    Raises PayloadError: EMPTY_PAYLOAD, UNKNOWN_ALGORITHM (no `*` in front, none that closes, where Grafana panics, or a name that is no
    base64), TOO_SHORT.
    """
    if not payload:
        raise PayloadError(Reason.EMPTY_PAYLOAD)
    end = payload.find(b"*", 1)
    if payload[:1] != b"*" or end < 0:
        raise PayloadError(Reason.UNKNOWN_ALGORITHM)
    try:
        base64_text.decode(payload[1:end])
    except PayloadError:
        raise PayloadError(Reason.UNKNOWN_ALGORITHM) from None
    body = payload[end + 1 :]
    if len(body) < cipher.MINIMUM_BYTES[Algorithm.GCM]:
        raise PayloadError(Reason.TOO_SHORT)
    return Payload(key_id, Algorithm.GCM, True, body, scope)


def encrypt(password: bytes, plaintext: bytes) -> bytes:
    """A payload of `plaintext` directly under `password`, with a fresh salt: as a `secret_key.*` provider wraps a data key."""
    salt = new_salt()
    return GCM_PREFIX + cipher.encrypt_gcm(plaintext, cipher.derive_key(password, salt), salt)


def decrypt(password: bytes, payload: bytes, derive: DeriveKey = cipher.derive_key) -> bytes:
    """The plaintext of `payload`. Raises PayloadError: those of `parse`, and AUTHENTICATION_FAILED under a wrong `password`."""
    return cipher.decrypt_body(Algorithm.GCM, parse(payload).body, password, derive)


def new_salt() -> bytes:
    """8 random bytes, any: no form of these payloads lets a salt be misread."""
    return os.urandom(cipher.SALT_BYTES)
