"""Payloads of the secrets manager: Grafana's own vectors (grafana-format.md, section 10), what its reader takes and refuses, and any bytes whatever."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reencrypt.errors import PayloadError, Reason
from reencrypt.grafana import cipher, manager_payload
from reencrypt.grafana.cipher import Algorithm
from tests.support import decryptor

D4 = bytes.fromhex("2a5957567a4c57646a62512a2a2300ff80616263000102030405060708090a0ba459b0090a22e1f2a9ee571889d58eebfebea9b5611243")
D5 = bytes.fromhex("2a5957567a4c57646a62512a4162436445663132000102030405060708090a0bf974558a3b5efa9ccae608710da364952b47772ad683b8589c84e19f0a213f04")
G5 = b"*YWVzLWdjbQ*" + bytes.fromhex("61626364656667683132333435363738393031328123655291d1f5eebe34c54ba55900f68a2700818a8fda9e2921190b67271d97ce")
DEFAULT_SECRET_KEY = b"SW2YcwTIb9zpOOhoPsMm"
DATA_KEY = bytes(range(0xF0, 0x100))
VECTORS = [("D4", D4, DATA_KEY, b"hunter2"), ("D5", D5, DEFAULT_SECRET_KEY, DATA_KEY), ("G5", G5, b"secret here", b"grafana unit test")]


def no_data_key(key_id: str) -> bytes:
    raise AssertionError(f"{key_id} stands in a payload that names no data key")


def reason_of(payload: bytes, password: bytes = DATA_KEY) -> Reason:
    with pytest.raises(PayloadError) as caught:
        manager_payload.decrypt(password, payload)
    return caught.value.reason


@pytest.mark.parametrize(("name", "payload", "password", "plaintext"), VECTORS, ids=[vector[0] for vector in VECTORS])
def test_a_vector_decrypts(name: str, payload: bytes, password: bytes, plaintext: bytes) -> None:
    assert manager_payload.decrypt(password, payload) == plaintext


def test_a_salt_that_holds_both_marks_is_read_whole() -> None:
    parsed = manager_payload.parse(D4, "uid1", "org-2")
    assert (parsed.key_id, parsed.scope, parsed.algorithm, parsed.named) == ("uid1", "org-2", Algorithm.GCM, True)
    assert parsed.body[:8] == b"*#\x00\xff\x80abc"
    assert parsed.could_be_grafanas


@pytest.mark.parametrize("name", [b"", b"YWVzLWNmYg", b"bm90IGEgY2lwaGVy"])
def test_a_payload_is_gcm_whatever_cipher_its_name_says(name: bytes) -> None:
    assert manager_payload.decrypt(DATA_KEY, b"*" + name + b"*" + D4[12:]) == b"hunter2"


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", Reason.EMPTY_PAYLOAD),
        (b"*", Reason.UNKNOWN_ALGORITHM),
        (b"*YWVzLWdjbQ", Reason.UNKNOWN_ALGORITHM),
        (b"*%%*" + D4[12:], Reason.UNKNOWN_ALGORITHM),
        (D4[1:], Reason.UNKNOWN_ALGORITHM),
        (b"#dWlk#" + D4, Reason.UNKNOWN_ALGORITHM),
        (b"*YWVzLWdjbQ*", Reason.TOO_SHORT),
        (b"*YWVzLWdjbQ*" + bytes(35), Reason.TOO_SHORT),
        (b"*YWVzLWdjbQ*" + bytes(36), Reason.AUTHENTICATION_FAILED),
        (D4[:-2], Reason.AUTHENTICATION_FAILED),
    ],
)
def test_what_grafana_does_not_read_is_refused_with_its_reason(payload: bytes, reason: Reason) -> None:
    assert reason_of(payload) is reason


def test_a_wrong_password_is_told() -> None:
    assert reason_of(G5, b"should have been 'secret here'") is Reason.AUTHENTICATION_FAILED


@settings(deadline=None)
@given(st.binary(max_size=200), st.binary(min_size=1, max_size=40))
def test_what_is_encrypted_is_read_by_an_independent_decryptor_and_by_us(plaintext: bytes, password: bytes) -> None:
    payload = manager_payload.encrypt(password, plaintext)
    assert payload.startswith(b"*YWVzLWdjbQ*")
    assert len(payload) == 12 + 8 + 12 + len(plaintext) + 16
    assert decryptor.decrypt(payload, password, no_data_key).plaintext == plaintext
    assert manager_payload.decrypt(password, payload) == plaintext


def test_a_wrapped_data_key_has_the_64_bytes_that_grafana_writes() -> None:
    assert len(manager_payload.encrypt(DEFAULT_SECRET_KEY, DATA_KEY)) == len(D5) == 64


def test_no_two_payloads_share_a_salt_or_a_nonce() -> None:
    bodies = [manager_payload.parse(manager_payload.encrypt(b"password", b"same")).body for _ in range(20)]
    assert len({body[:8] for body in bodies}) == len({body[8:20] for body in bodies}) == 20


def test_a_gcm_body_is_salt_nonce_ciphertext_and_tag_without_associated_data() -> None:
    salt, key = b"\x00*#\xff1234", bytes(range(32))
    first, second = cipher.encrypt_gcm(b"plain", key, salt), cipher.encrypt_gcm(b"plain", key, salt)
    assert first[:8] == second[:8] == salt
    assert first[8:20] != second[8:20]
    assert cipher.decrypt_body(Algorithm.GCM, first, b"", lambda _password, given: key if given == salt else b"") == b"plain"


@given(
    st.binary(max_size=120)
    | st.builds(lambda head, tail: head + tail, st.sampled_from([b"*", b"**", b"*YQ*", b"*YWVzLWdjbQ*", b"#YQ#*"]), st.binary(max_size=80))
)
def test_no_bytes_whatever_raise_anything_but_a_payload_error(payload: bytes) -> None:
    """Random bytes do not authenticate, so each ends in a PayloadError; anything else would fail this test by itself."""
    with pytest.raises(PayloadError):
        manager_payload.decrypt(b"password", payload, lambda password, salt: bytes(32))


@given(st.binary(min_size=36, max_size=80), st.sampled_from([b"", b"aes-gcm", b"aes-cfb", b"\xff"]))
def test_every_body_is_found_behind_the_first_mark_that_closes(body: bytes, name: bytes) -> None:
    payload = b"*" + base64.b64encode(name).rstrip(b"=") + b"*" + body
    assert manager_payload.parse(payload).body == body
