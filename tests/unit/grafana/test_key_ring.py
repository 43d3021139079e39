"""Key rings and sealers: what they seal is read by an independent decryptor, and neither tells anybody a key."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reencrypt.errors import PayloadError, Reason
from reencrypt.grafana import cipher, key_ring, manager_payload, sealers, split_form
from reencrypt.grafana import payload as payloads
from reencrypt.grafana.cipher import derive_key
from reencrypt.grafana.key_ring import KeyRing, ManagerKeyRing, ManagerSealer
from reencrypt.grafana.payload import Payload
from reencrypt.grafana.sealers import SecretKeySealer, rotation_salt
from tests.support import decryptor

KEYS = {("default", "uid1"): b"d" * 16, ("org-2", "uid1"): b"o" * 16}


def unwrap(scope: str, uid: str) -> bytes:
    if (scope, uid) not in KEYS:
        raise PayloadError(Reason.UNKNOWN_DATA_KEY)
    return KEYS[scope, uid]


def parsed(joined: bytes, scope: str) -> Payload:
    payload, uid = split_form.split(joined)
    return manager_payload.parse(payload, uid.decode(), scope)


def reason_of(ring: ManagerKeyRing, payload: Payload) -> Reason:
    with pytest.raises(PayloadError) as caught:
        ring.decrypt(payload)
    return caught.value.reason


@settings(deadline=None, max_examples=40)
@given(st.binary(max_size=300), st.text(min_size=1, max_size=40), st.binary(min_size=16, max_size=16))
def test_a_sealed_value_of_the_manager_is_read_by_an_independent_decryptor_and_by_the_ring(plaintext: bytes, uid: str, data_key: bytes) -> None:
    ring = ManagerKeyRing(lambda scope, asked: data_key if (scope, asked) == ("default", uid) else b"")
    sealer = ring.sealer("default", uid)
    first, second = sealer.seal(plaintext), sealer.seal(plaintext)
    found = decryptor.decrypt(first, b"", lambda key_id: data_key if key_id == uid else b"")
    assert (found.plaintext, found.key_id) == (plaintext, uid)
    one, two = parsed(first, "default"), parsed(second, "default")
    assert one.body[:8] == two.body[:8], "one salt for all, so that the derivation is paid once"
    assert one.body[8:20] != two.body[8:20], "a nonce of its own for each"
    assert ring.decrypt(one) == plaintext


@pytest.mark.parametrize("salt", [b"*#*#*#*#", b"#*YQ*#**", b"\x00\xff\r\n\t\"'\\"])
def test_a_binary_salt_is_no_mark(salt: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manager_payload, "new_salt", lambda: salt)
    ring = ManagerKeyRing(unwrap)
    sealed = ring.sealer("default", "uid1").seal(b"plain")
    assert parsed(sealed, "default").body[:8] == salt
    assert ring.decrypt(parsed(sealed, "default")) == b"plain"
    assert decryptor.decrypt(sealed, b"", lambda _key_id: b"d" * 16).plaintext == b"plain"


def test_the_same_id_in_another_namespace_is_another_key() -> None:
    ring = ManagerKeyRing(unwrap)
    sealed = ring.sealer("org-2", "uid1").seal(b"plain")
    assert ring.decrypt(parsed(sealed, "org-2")) == b"plain"
    assert reason_of(ring, parsed(sealed, "default")) is Reason.AUTHENTICATION_FAILED
    assert reason_of(ring, parsed(sealed, "org-3")) is Reason.UNKNOWN_DATA_KEY


def test_a_payload_of_the_manager_that_names_no_key_is_not_read() -> None:
    assert reason_of(ManagerKeyRing(unwrap), manager_payload.parse(manager_payload.encrypt(b"d" * 16, b"x"))) is Reason.BAD_KEY_ID


def test_each_data_key_is_unwrapped_once_whether_it_opens_or_not() -> None:
    asked: list[tuple[str, str]] = []

    def counting(scope: str, uid: str) -> bytes:
        asked.append((scope, uid))
        return unwrap(scope, uid)

    ring = ManagerKeyRing(counting)
    for _ in range(3):
        assert ring.data_key("default", "uid1") == b"d" * 16
        with pytest.raises(PayloadError) as caught:
            ring.data_key("default", "lost")
        assert caught.value.reason is Reason.UNKNOWN_DATA_KEY
    assert asked == [("default", "uid1"), ("default", "lost")]


def test_a_provider_that_is_worth_asking_again_is_asked_again() -> None:
    class Throttled(Exception):
        pass

    answers: list[Any] = [Throttled(), b"d" * 16]

    def throttled(_scope: str, _uid: str) -> bytes:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return bytes(answer)

    ring = ManagerKeyRing(throttled)
    with pytest.raises(Throttled):
        ring.data_key("default", "uid1")
    assert ring.data_key("default", "uid1") == b"d" * 16


@settings(deadline=None, max_examples=30)
@given(st.binary(max_size=200), st.text(min_size=1, max_size=30), st.booleans())
def test_what_is_sealed_under_secret_key_is_read_by_an_independent_decryptor_and_by_the_ring(plaintext: bytes, secret_key: str, named: bool) -> None:
    sealer = SecretKeySealer(secret_key.encode(), derive_key, named=named)
    first, second = sealer.seal(plaintext), sealer.seal(plaintext)
    assert first.startswith(b"*YWVzLWNmYg*") is named
    assert len(first) == 12 * named + 24 + len(plaintext)
    assert first[: 12 * named + 8] == second[: 12 * named + 8], "one salt for all"
    assert first != second, "an IV of its own for each"
    assert decryptor.decrypt(first, secret_key.encode(), lambda _key_id: b"").plaintext == plaintext
    payload = payloads.parse(first)
    assert (payload.key_id, payload.named, payload.could_be_grafanas) == (None, named, True)
    assert KeyRing(secret_key.encode(), lambda _key_id: b"").decrypt(payload) == plaintext


def test_a_given_salt_is_the_salt_of_every_payload() -> None:
    sealer = SecretKeySealer(b"key", derive_key, b"saltSALT", named=False)
    assert {sealer.seal(b"x")[:8] for _ in range(3)} == {b"saltSALT"}


@pytest.mark.parametrize("salt", [b"", b"short", b"*starred", b"#hashed#", b"\x00" * 8, b"ninechars"])
def test_a_salt_that_could_be_misread_is_refused(salt: bytes) -> None:
    with pytest.raises(ValueError, match="8 ASCII letters and digits"):
        SecretKeySealer(b"key", derive_key, salt)


def test_the_salt_of_a_rotation_depends_on_the_key_alone() -> None:
    keys = [b"", b"a", b"b", b"SW2YcwTIb9zpOOhoPsMm", "schlüssel".encode(), bytes(range(256))]
    salts = [rotation_salt(key) for key in keys]
    rotation_salt.cache_clear()
    assert salts == [rotation_salt(key) for key in keys]
    assert len(set(salts)) == len(keys)
    assert all(cipher.is_grafana_salt(salt) for salt in salts)


def test_the_salt_of_a_rotation_stays_the_same_in_later_releases() -> None:
    """Or a rotation that a later release finishes would not know again what this one wrote. Computed with hashlib."""
    assert rotation_salt(b"SW2YcwTIb9zpOOhoPsMm") == b"wmcYcdr3"


def test_the_salt_of_a_rotation_costs_more_to_guess_by_than_a_payload_and_is_derived_apart() -> None:
    assert sealers._ROTATION_ITERATIONS > cipher.ITERATIONS
    assert len(sealers._ROTATION_SALT) != cipher.SALT_BYTES


def test_no_representation_shows_a_key_a_salt_or_a_derived_key() -> None:
    manager = ManagerKeyRing(lambda scope, uid: b"hidden data key!")
    shown = [
        manager,
        manager.sealer("default", "uid1"),
        manager,
        SecretKeySealer(b"hidden secret key", derive_key, b"hiddensa"),
        KeyRing(b"hidden secret key", lambda key_id: b"hidden data key!"),
    ]
    for each in shown:
        assert "hidden" not in f"{each!r} {each} {[each]}"


def test_every_sealer_is_found_beside_the_rings() -> None:
    assert (key_ring.Sealer, key_ring.ManagerSealer, key_ring.SecretKeySealer) == (sealers.Sealer, ManagerSealer, SecretKeySealer)
