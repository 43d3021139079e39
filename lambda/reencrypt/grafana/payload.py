"""Grafana's encrypted payloads: parse and build the bytes that stand in a secret column.

A payload names the data key that protects it, or none (then `secret_key` does), then the cipher, then salt, IV and ciphertext:

    #<base64(key id)>#*<base64(algorithm)>*<salt 8><iv 16><ciphertext>

Source: Grafana pkg/services/encryption/service/service.go, pkg/services/secrets/manager/manager.go (12.4). Knows nothing of databases or AWS.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from reencrypt.errors import PayloadError, Reason
from reencrypt.grafana import base64_text, cipher
from reencrypt.grafana.base64_text import Base64
from reencrypt.grafana.cipher import Algorithm, DeriveKey

CFB_PREFIX = b"*YWVzLWNmYg*"
GCM_PREFIX = b"*YWVzLWdjbQ*"

_BY_PREFIX = {CFB_PREFIX: Algorithm.CFB, GCM_PREFIX: Algorithm.GCM}
_PREFIX_BYTES = len(CFB_PREFIX)


@dataclass(frozen=True, slots=True)
class Payload:
    """A parsed payload.

    `key_id` is the `data_keys.name` it is encrypted under, or None for `secret_key`. `named` says whether the payload names its algorithm;
    one that does not may be something else altogether (see `could_be_grafanas`). `body` is salt, IV or nonce, and ciphertext.
    `scope` is the namespace that the data key belongs to, in the secrets manager only (see `manager_payload`).
    """

    key_id: str | None
    algorithm: Algorithm
    named: bool
    body: bytes = field(repr=False)
    scope: str = ""

    @property
    def could_be_grafanas(self) -> bool:
        """False where the bytes cannot have come from Grafana: no data key, no algorithm, and a salt that Grafana never draws.

        A plaintext token made of base64 letters decodes to bytes that CFB happily "decrypts"; a 32-letter one even to an empty string.
        """
        return self.key_id is not None or self.named or cipher.is_grafana_salt(self.body[: cipher.SALT_BYTES])


def parse(payload: bytes) -> Payload:
    """Splits `payload`; accepts each form that Grafana 12.4 reads.

    Raises PayloadError: EMPTY_PAYLOAD, BAD_KEY_ID (no closing `#`, or an id that is not base64 of UTF-8), UNKNOWN_ALGORITHM, TOO_SHORT.
    """
    if not payload:
        raise PayloadError(Reason.EMPTY_PAYLOAD)
    key_id = None
    if payload[:1] == b"#":
        end = payload.find(b"#", 1)
        if end < 0:
            raise PayloadError(Reason.BAD_KEY_ID)
        key_id = _key_id(payload[1:end])
        payload = payload[end + 1 :]
    algorithm, named, body = _algorithm_and_body(payload)
    if len(body) < cipher.MINIMUM_BYTES[algorithm]:
        raise PayloadError(Reason.TOO_SHORT)
    return Payload(key_id, algorithm, named, body)


def decrypt(payload: Payload, password: bytes, derive: DeriveKey = cipher.derive_key) -> bytes:
    """The plaintext of `payload`. Raises PayloadError(AUTHENTICATION_FAILED) for GCM; CFB yields garbage under a wrong `password`."""
    return cipher.decrypt_body(payload.algorithm, payload.body, password, derive)


def envelope(key_id: str, inner: bytes) -> bytes:
    """`inner` (a payload without `#`) as one that names the data key `key_id`."""
    return b"".join((b"#", base64_text.encode(key_id.encode(), Base64.RAWSTD), b"#", inner))


def encrypt_with_password(password: bytes, plaintext: bytes) -> bytes:
    """A modern payload of `plaintext` directly under `password`, as `secretKey.v1` wraps a data key: `*YWVzLWNmYg*` and a CFB body."""
    salt = cipher.new_salt()
    return CFB_PREFIX + cipher.encrypt_cfb(plaintext, cipher.derive_key(password, salt), salt)


def decrypt_with_password(password: bytes, payload: bytes) -> bytes:
    """The plaintext of a `payload` that names no data key. Raises PayloadError, BAD_KEY_ID where it names one."""
    parsed = parse(payload)
    if parsed.key_id is not None:
        raise PayloadError(Reason.BAD_KEY_ID)
    return decrypt(parsed, password)


def _key_id(encoded: bytes) -> str:
    try:
        return base64_text.decode(encoded).decode()
    except (PayloadError, UnicodeDecodeError):
        raise PayloadError(Reason.BAD_KEY_ID) from None


def _algorithm_and_body(payload: bytes) -> tuple[Algorithm, bool, bytes]:
    """(algorithm, whether it is named, body), decided in the order of deriveEncryptionAlgorithm() in service.go."""
    if not payload:
        raise PayloadError(Reason.EMPTY_PAYLOAD)
    known = _BY_PREFIX.get(payload[:_PREFIX_BYTES])
    if known is not None:
        return known, True, payload[_PREFIX_BYTES:]
    if payload[:1] != b"*":
        return Algorithm.CFB, False, payload
    end = payload.find(b"*", 1)
    if end < 0:
        return Algorithm.CFB, False, payload[1:]
    if end == 1:  # `**`: an empty name; such rows exist in real databases
        return Algorithm.CFB, False, payload[2:]
    try:
        return Algorithm(base64_text.decode(payload[1:end]).decode()), True, payload[end + 1 :]
    except (PayloadError, ValueError):
        raise PayloadError(Reason.UNKNOWN_ALGORITHM) from None
