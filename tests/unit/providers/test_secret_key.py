"""`secretKey.v1` reads what every Grafana wrote with it, and Grafana reads what it writes."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from reencrypt.errors import DataKeyUnwrapFailed
from reencrypt.grafana import cipher
from reencrypt.grafana import payload as payloads
from reencrypt.providers.secret_key import SecretKeyProvider

SECRET_KEY = "SW2YcwTIb9zpOOhoPsMm"
DATA_KEY = bytes(range(0xF0, 0x100))
# grafana-format.md, section 10: D1 (CFB, prefixed) and D5 (GCM), both of DATA_KEY under SECRET_KEY.
CFB = bytes.fromhex("2a5957567a4c574e6d59672a4162436445663132000102030405060708090a0b0c0d0e0f4887a76316c6f35032fad0c7ce2ce65a")
GCM = bytes.fromhex("2a5957567a4c57646a62512a4162436445663132000102030405060708090a0bf974558a3b5efa9ccae608710da364952b47772ad683b8589c84e19f0a213f04")


@pytest.mark.parametrize("wrapped", [CFB, CFB[12:], GCM], ids=["CFB, 52 bytes", "CFB of 8.x, 40 bytes", "GCM, 64 bytes"])
def test_each_form_that_grafana_wrote_unwraps(wrapped: bytes) -> None:
    assert len(wrapped) in (52, 40, 64)
    assert SecretKeyProvider(SECRET_KEY).unwrap(wrapped) == DATA_KEY


@pytest.mark.parametrize("secret_key", [SECRET_KEY, "", "ключ 🔑", "x" * 500])
def test_what_is_wrapped_is_grafanas_form_and_unwraps(secret_key: str) -> None:
    provider = SecretKeyProvider(secret_key)
    wrapped = provider.wrap(DATA_KEY)
    assert wrapped.startswith(b"*YWVzLWNmYg*")
    assert len(wrapped) == 52
    assert provider.unwrap(wrapped) == DATA_KEY
    assert provider.wrap(DATA_KEY) != wrapped


def _gcm_of(plaintext: bytes) -> bytes:
    salt, nonce = b"AbCdEf12", bytes(12)
    return payloads.GCM_PREFIX + salt + nonce + AESGCM(cipher.derive_key(SECRET_KEY.encode(), salt)).encrypt(nonce, plaintext, None)


DAMAGED = {
    "empty": b"", "star": b"*", "hash": b"#", "cut": CFB[:20], "15 bytes": CFB[:-1], "17 bytes": CFB + b"x", "0 bytes": CFB[:-16], "cut GCM": GCM[:-1],
    "unknown algorithm": b"*bm9uc2Vuc2U*" + bytes(60), "an envelope": b"#a2V5#" + CFB, "15 bytes in GCM": _gcm_of(b"x" * 15), "32 in GCM": _gcm_of(b"x" * 32),
}  # fmt: skip


@pytest.mark.parametrize("wrapped", DAMAGED.values(), ids=DAMAGED.keys())
def test_anything_else_is_refused_without_a_byte_of_it_in_the_message(wrapped: bytes) -> None:
    with pytest.raises(DataKeyUnwrapFailed, match=r"secretKey\.v1") as failure:
        SecretKeyProvider(SECRET_KEY).unwrap(wrapped)
    message = repr(failure.value)
    assert SECRET_KEY not in message
    assert not wrapped[12:] or repr(wrapped[12:])[2:-1] not in message


def test_a_wrong_secret_key_is_told_by_gcm() -> None:
    with pytest.raises(DataKeyUnwrapFailed, match="authentication-failed"):
        SecretKeyProvider("another").unwrap(GCM)


def test_the_secret_key_is_not_shown() -> None:
    provider = SecretKeyProvider(SECRET_KEY)
    assert f"{provider!r} {provider}" == "<secretKey.v1> <secretKey.v1>"
