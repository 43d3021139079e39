"""The two ciphers of Grafana's encryption service, and the key derivation in front of both.

    aes-cfb   salt[8] | iv[16]    | ciphertext            CFB-128, no padding, no integrity: a wrong key "succeeds" with garbage
    aes-gcm   salt[8] | nonce[12] | ciphertext | tag[16]  no associated data

The AES-256 key is PBKDF2-HMAC-SHA256(password, salt, 10 000 iterations); the password is the 16 raw bytes of a data key or the UTF-8
bytes of `secret_key`, never decoded. Source: Grafana pkg/services/encryption/provider/cipher_aes.go, decipher_aes.go, pkg/util/encryption.go.
"""

from __future__ import annotations

import functools
import os
import secrets
from collections.abc import Callable
from enum import StrEnum

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.decrepit.ciphers.modes import CFB
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC

from reencrypt.errors import PayloadError, Reason

ITERATIONS = 10_000
SALT_BYTES = 8
IV_BYTES = 16
NONCE_BYTES = 12
TAG_BYTES = 16

_SALT_ALPHABET = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

DeriveKey = Callable[[bytes, bytes], bytes]


class Algorithm(StrEnum):
    """Names as they stand, base64-encoded, between the two `*` of a payload."""

    CFB = "aes-cfb"
    GCM = "aes-gcm"


MINIMUM_BYTES = {Algorithm.CFB: SALT_BYTES + IV_BYTES, Algorithm.GCM: SALT_BYTES + NONCE_BYTES + TAG_BYTES}


def derive_key(password: bytes, salt: bytes) -> bytes:
    """The 32-byte AES key of `password` and the 8-byte `salt`. Costs about a millisecond: see `caching_derivation`."""
    return PBKDF2HMAC(algorithm=SHA256(), length=32, salt=salt, iterations=ITERATIONS).derive(password)


def caching_derivation(entries: int = 4096) -> DeriveKey:
    """A `derive_key` that remembers its last `entries` results, in this process's memory only.

    Values that this product wrote share one salt per chunk, so a database that it has re-encrypted is read at database speed.
    """
    return functools.lru_cache(maxsize=entries)(derive_key)


def new_salt() -> bytes:
    """8 random characters of `[0-9A-Za-z]`, as Grafana's util.GetRandomString makes them.

    Alphanumeric because an unprefixed payload that began with `*` or `#` would be misread.
    """
    return bytes(secrets.choice(_SALT_ALPHABET) for _ in range(SALT_BYTES))


def is_grafana_salt(salt: bytes) -> bool:
    """Whether `salt` could have been written by Grafana's encryption service: 8 ASCII letters and digits."""
    return len(salt) == SALT_BYTES and salt.isalnum()


def decrypt_body(algorithm: Algorithm, body: bytes, password: bytes, derive: DeriveKey = derive_key) -> bytes:
    """The plaintext of `body` (salt, IV or nonce, ciphertext).

    Raises PayloadError: TOO_SHORT, or AUTHENTICATION_FAILED (GCM only: CFB cannot tell a wrong key).
    """
    if len(body) < MINIMUM_BYTES[algorithm]:
        raise PayloadError(Reason.TOO_SHORT)
    key = derive(password, body[:SALT_BYTES])
    view = memoryview(body)
    if algorithm is Algorithm.GCM:
        nonce = body[SALT_BYTES : SALT_BYTES + NONCE_BYTES]
        try:
            return AESGCM(key).decrypt(nonce, view[SALT_BYTES + NONCE_BYTES :], None)
        except InvalidTag:
            raise PayloadError(Reason.AUTHENTICATION_FAILED) from None
    decryptor = Cipher(AES(key), CFB(body[SALT_BYTES : SALT_BYTES + IV_BYTES])).decryptor()
    return decryptor.update(view[SALT_BYTES + IV_BYTES :]) + decryptor.finalize()


def encrypt_cfb(plaintext: bytes, key: bytes, salt: bytes) -> bytes:
    """An `aes-cfb` body of `plaintext` under the derived `key` of `salt`, with a fresh random IV."""
    iv = os.urandom(IV_BYTES)
    encryptor = Cipher(AES(key), CFB(iv)).encryptor()
    return b"".join((salt, iv, encryptor.update(plaintext), encryptor.finalize()))


def encrypt_gcm(plaintext: bytes, key: bytes, salt: bytes) -> bytes:
    """An `aes-gcm` body of `plaintext` under the derived `key` of `salt`, with a fresh random nonce and no associated data."""
    nonce = os.urandom(NONCE_BYTES)
    return b"".join((salt, nonce, AESGCM(key).encrypt(nonce, plaintext, None)))
