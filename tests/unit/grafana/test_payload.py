"""Grafana's own vectors (grafana-format.md, section 10), each form of a payload, and any bytes whatever."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reencrypt.errors import PayloadError, Reason
from reencrypt.grafana import cipher
from reencrypt.grafana import payload as payloads
from reencrypt.grafana.cipher import Algorithm
from reencrypt.grafana.key_ring import KeyRing

G1 = "4554557841526b5890bc6de55b585571dc23b2bed0b6d15bfc778a85c60801"
G2 = "306337323330534214632fee3d2c817d0e25a2e62f1f684690df1a33b4114c34245d11cb639edb664aad4a"
G5 = "61626364656667683132333435363738393031328123655291d1f5eebe34c54ba55900f68a2700818a8fda9e2921190b67271d97ce"
G6 = "616263646566676831323334353637383930313234353637f1114227cb6af678cad6ee35f67f25f40b"
G7 = "2a5957567a4c574e6d59672a7a35645764376b38779ada7a1a2442225f3d2e0fd2ad53a669615ae19cc3da1380dc3e8749bfe72dc18f482645e81be751"
D1 = "2a5957567a4c574e6d59672a4162436445663132000102030405060708090a0b0c0d0e0f4887a76316c6f35032fad0c7ce2ce65a"
D2 = "23526d3557616d4e695a315a36232a5957567a4c574e6d59672a5a79587756753938101112131415161718191a1b1c1d1e1f63d681467c1476"
D4 = "2a5957567a4c57646a62512a2a2300ff80616263000102030405060708090a0ba459b0090a22e1f2a9ee571889d58eebfebea9b5611243"
D5 = "2a5957567a4c57646a62512a4162436445663132000102030405060708090a0bf974558a3b5efa9ccae608710da364952b47772ad683b8589c84e19f0a213f04"
DEFAULT_SECRET_KEY = b"SW2YcwTIb9zpOOhoPsMm"
DATA_KEY = bytes(range(0xF0, 0x100))

BODIES = [
    ("G1", Algorithm.CFB, G1, b"1234", b"grafana"),
    ("G2", Algorithm.GCM, G2, b"1234", b"grafana"),
    ("G5", Algorithm.GCM, G5, b"secret here", b"grafana unit test"),
    ("G6", Algorithm.CFB, G6, b"secret here", b"grafana unit test"),
]
PAYLOADS = [
    ("G3", "2a5957567a4c57646a62512a" + G2, b"1234", b"grafana"),
    ("G4", "49473239796e5a6d7317ed0d82bc9776626750d14f8f167a2c28662988101b", b"1234", b"grafana"),
    ("G7", G7, b"1234", b"my very secret secret key"),
    ("D1", D1, DEFAULT_SECRET_KEY, DATA_KEY),
    ("D3 prefixed", base64.b64decode("KllXVnpMV05tWWcqWnlYd1Z1OTgQERITFBUWFxgZGhscHR4fau67IFhhRA==").hex(), DEFAULT_SECRET_KEY, b"hunter2"),
    ("D3 unprefixed", base64.b64decode("WnlYd1Z1OTgQERITFBUWFxgZGhscHR4fau67IFhhRA==").hex(), DEFAULT_SECRET_KEY, b"hunter2"),
    ("D4", D4, DATA_KEY, b"hunter2"),
    ("D5", D5, DEFAULT_SECRET_KEY, DATA_KEY),
    ("empty name", "2a2a" + G1, b"1234", b"grafana"),
    ("a single star", "2a" + G1, b"1234", b"grafana"),
]


@pytest.mark.parametrize(("name", "algorithm", "body", "password", "plaintext"), BODIES, ids=[vector[0] for vector in BODIES])
def test_a_body_of_grafanas_tests_decrypts(name: str, algorithm: Algorithm, body: str, password: bytes, plaintext: bytes) -> None:
    assert cipher.decrypt_body(algorithm, bytes.fromhex(body), password) == plaintext


@pytest.mark.parametrize(("name", "payload", "password", "plaintext"), PAYLOADS, ids=[vector[0] for vector in PAYLOADS])
def test_a_payload_that_names_no_data_key_decrypts(name: str, payload: str, password: bytes, plaintext: bytes) -> None:
    assert payloads.decrypt_with_password(password, bytes.fromhex(payload)) == plaintext


def test_an_envelope_names_its_data_key_and_decrypts_under_it() -> None:
    parsed = payloads.parse(bytes.fromhex(D2))
    assert (parsed.key_id, parsed.algorithm, parsed.named) == ("FnVjcbgVz", Algorithm.CFB, True)
    assert payloads.decrypt(parsed, DATA_KEY) == b"hunter2"


@pytest.mark.parametrize(
    ("password", "salt", "key"),
    [
        (b"secret here", b"abcdefgh", "0a89f34e81dedf0c304bc005d956d9b179ec296f2260baff14bfe9ac5cb0b763"),
        (b"secret", b"salt", "2d4df0b3b309b13fa67d356df946489f9ab497d6f73857cbc774c141f0b137ce"),
    ],
)
def test_the_key_derivation_is_grafanas(password: bytes, salt: bytes, key: str) -> None:
    assert cipher.derive_key(password, salt).hex() == key


@pytest.mark.parametrize(
    ("body", "password", "reason"),
    [
        (bytes.fromhex(G5)[:-2], b"secret here", Reason.AUTHENTICATION_FAILED),
        (bytes.fromhex(G5), b"should have been 'secret here'", Reason.AUTHENTICATION_FAILED),
        (bytes.fromhex("01020304"), b"", Reason.TOO_SHORT),
        (bytes.fromhex("0102030405060708090a"), b"", Reason.TOO_SHORT),
    ],
)
def test_a_gcm_body_that_grafana_refuses_is_refused(body: bytes, password: bytes, reason: Reason) -> None:
    with pytest.raises(PayloadError) as caught:
        cipher.decrypt_body(Algorithm.GCM, body, password)
    assert caught.value.reason is reason


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", Reason.EMPTY_PAYLOAD),
        (b"#", Reason.BAD_KEY_ID),
        (b"#abc", Reason.BAD_KEY_ID),
        (b"#a b#" + bytes(40), Reason.BAD_KEY_ID),
        (b"#" + base64.b64encode(b"\xff\xfe\xfd") + b"#" + bytes(40), Reason.BAD_KEY_ID),
        (b"#YWJj#", Reason.EMPTY_PAYLOAD),
        (b"#YWJj#*YWVzLWNmYg*", Reason.TOO_SHORT),
        (b"*YWVzLWNmYg*" + bytes(23), Reason.TOO_SHORT),
        (b"*YWVzLWdjbQ*" + bytes(35), Reason.TOO_SHORT),
        (b"*YWVz*" + bytes(40), Reason.UNKNOWN_ALGORITHM),
        (b"*%%*" + bytes(40), Reason.UNKNOWN_ALGORITHM),
        (bytes(23), Reason.TOO_SHORT),
    ],
)
def test_a_damaged_payload_has_its_reason(payload: bytes, reason: Reason) -> None:
    with pytest.raises(PayloadError) as caught:
        payloads.parse(payload)
    assert caught.value.reason is reason


def test_a_binary_body_is_split_on_the_first_marks_only() -> None:
    body = b"saltSALT" + b"#*" * 8 + b"*#*#"
    parsed = payloads.parse(b"#YWJj#*YWVzLWNmYg*" + body)
    assert (parsed.key_id, parsed.body) == ("abc", body)


@settings(deadline=None)
@given(st.binary(max_size=200), st.binary(min_size=1, max_size=40))
def test_what_is_encrypted_with_a_password_is_decrypted_with_it(plaintext: bytes, password: bytes) -> None:
    payload = payloads.encrypt_with_password(password, plaintext)
    assert payload.startswith(b"*YWVzLWNmYg*")
    assert len(payload) == 12 + 8 + 16 + len(plaintext)
    assert payloads.decrypt_with_password(password, payload) == plaintext


@settings(deadline=None)
@given(st.binary(max_size=300), st.text("abcdefghijklmnopqrstuvwxyz0123456789-_/@.", min_size=1, max_size=40))
def test_a_sealed_value_is_read_back_under_its_data_key(plaintext: bytes, key_id: str) -> None:
    ring = KeyRing(b"unused", {key_id: DATA_KEY}.__getitem__)
    sealer = ring.sealer(key_id)
    first, second = sealer.seal(plaintext), sealer.seal(plaintext)
    assert first != second, "each value has an IV of its own"
    parsed = payloads.parse(first)
    assert parsed.key_id == key_id
    assert cipher.is_grafana_salt(parsed.body[:8])
    assert ring.decrypt(parsed) == plaintext


@given(
    st.binary(max_size=120)
    | st.builds(lambda head, tail: head + tail, st.sampled_from([b"#", b"*", b"**", b"#YQ#", b"#YQ#*", b"*YWVzLWdjbQ*"]), st.binary(max_size=80))
)
def test_no_bytes_whatever_raise_anything_but_a_payload_error(payload: bytes) -> None:
    """Anything else than a PayloadError would fail this test by itself."""
    try:
        payloads.decrypt(payloads.parse(payload), b"password", lambda password, salt: bytes(32))
    except PayloadError:
        return


def test_a_representation_shows_no_key_and_no_ciphertext() -> None:
    ring = KeyRing(b"the secret key", lambda key_id: DATA_KEY)
    shown = f"{ring!r} {ring.sealer('abc')!r} {payloads.parse(bytes.fromhex(D2))!r}"
    for hidden in ("the secret key", repr(DATA_KEY), DATA_KEY.hex(), "ZyXwVu98", "\\x10"):
        assert hidden not in shown


def test_a_derived_key_is_computed_once_for_each_password_and_salt() -> None:
    derive = cipher.caching_derivation()
    assert derive(b"a", b"12345678") is derive(b"a", b"12345678")
    assert derive(b"a", b"12345678") != derive(b"b", b"12345678") != derive(b"a", b"12345679")
