"""Two secret_keys at once: each payload is known for what it is, or left alone."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reencrypt.errors import PayloadError, Reason
from reencrypt.grafana import cipher
from reencrypt.grafana import payload as payloads
from reencrypt.grafana.data_keys import DataKey
from reencrypt.grafana.payload import Payload
from reencrypt.grafana.plausibility import PlaintextKind
from reencrypt.grafana.sealers import Sealer
from reencrypt.grafana.secret_columns import SecretColumn, secret_columns
from reencrypt.operations.keys import Unwrapper
from reencrypt.operations.secret_key_rotation import SecretKeys, Side, TwoKeyRing, UnderNewSecretKey, rewrapped
from tests.support import decryptor

OLD, NEW = b"the old secret_key", b"the new secret_key"
KEYS = SecretKeys(OLD, NEW)
DATA_KEY = bytes(range(100, 116))
derive = cipher.caching_derivation(100_000)
TEXT: SecretColumn = next(column for column in secret_columns() if column.plaintext is PlaintextKind.TEXT and column.shape.value == "base64")
LONG = b"a secret that is long enough to tell"


def row(wrapped: bytes, provider: str = "secretKey.v1") -> DataKey:
    return DataKey("key1", True, "root", provider, wrapped, "2026-11-25/root@secretKey.v1")


def ring(*rows: DataKey, new_in_use: bool = False) -> TwoKeyRing:
    return TwoKeyRing(KEYS, Unwrapper(rows, {}), derive, new_in_use=new_in_use)


def under(key: bytes, plaintext: bytes) -> Payload:
    return payloads.parse(payloads.encrypt_with_password(key, plaintext))


def fitting_both(plaintext: bytes) -> Payload:
    """A payload of `plaintext` under the old key that is text under the new one too."""
    while True:
        found = under(OLD, plaintext)
        if payloads.decrypt(found, NEW, derive).isascii():
            return found


@pytest.mark.parametrize("new_in_use", [False, True])
def test_a_long_text_tells_which_key_it_is_under(new_in_use: bool) -> None:
    assert ring(new_in_use=new_in_use).read(TEXT, under(OLD, LONG)) == (LONG, Side.OLD)
    assert ring(new_in_use=new_in_use).read(TEXT, under(NEW, LONG)) == (LONG, Side.NEW)


@settings(max_examples=25, deadline=None)
@given(st.text(max_size=40).map(str.encode), st.booleans(), st.booleans())
def test_what_a_rotation_has_written_is_known_again_however_short_it_is(plaintext: bytes, named: bool, new_in_use: bool) -> None:
    written = payloads.parse(KEYS.sealer(derive, named=named).seal(plaintext))
    assert ring(new_in_use=new_in_use).read(TEXT, written) == (plaintext, Side.NEW)
    reading = UnderNewSecretKey(ring(new_in_use=new_in_use), derive).read(TEXT, written)
    assert (reading.plaintext, reading.current) == (plaintext, True)


def test_a_short_text_is_under_the_old_key_as_long_as_grafana_has_not_used_the_new_one() -> None:
    assert ring().read(TEXT, fitting_both(b"x")) == (b"x", Side.OLD)


def test_a_short_text_that_fits_both_is_left_alone_once_grafana_has() -> None:
    with pytest.raises(PayloadError) as refusal:
        ring(new_in_use=True).read(TEXT, fitting_both(b"x"))
    assert refusal.value.reason is Reason.AMBIGUOUS_KEY


def test_the_empty_text_is_the_same_under_any_key() -> None:
    assert ring(new_in_use=True).read(TEXT, under(NEW, b"")) == (b"", Side.OLD)


def test_a_damaged_short_value_that_fits_the_new_key_by_chance_is_not_taken_for_current() -> None:
    while True:
        damaged = under(b"neither", b"xy")
        old, new = (payloads.decrypt(damaged, key, derive) for key in (OLD, NEW))
        if not old.isascii() and _is_no_utf8(old) and new.isascii():
            break
    with pytest.raises(PayloadError) as refusal:
        ring().read(TEXT, damaged)
    assert refusal.value.reason is Reason.IMPLAUSIBLE_PLAINTEXT


def test_what_is_under_neither_key_is_unreadable() -> None:
    with pytest.raises(PayloadError) as refusal:
        ring(new_in_use=True).read(TEXT, under(b"neither", LONG * 3))
    assert refusal.value.reason is Reason.IMPLAUSIBLE_PLAINTEXT


@pytest.mark.parametrize(("key", "side"), [(OLD, Side.OLD), (NEW, Side.NEW)])
def test_a_value_under_a_data_key_tells_which_secret_key_wraps_that(key: bytes, side: Side) -> None:
    held = row(payloads.encrypt_with_password(key, DATA_KEY))
    found = ring(held)
    assert found.side_of(held) is None
    payload = payloads.parse(Sealer("key1", DATA_KEY, derive).seal(LONG))
    assert found.read(TEXT, payload) == (LONG, side)
    assert found.side_of(held) is side
    assert found.unwrapped(held)[side] == DATA_KEY


@pytest.mark.parametrize("named", [True, False])
def test_a_data_key_that_was_wrapped_anew_is_known_again_and_opens_for_grafana(named: bool) -> None:
    wrapped = rewrapped(KEYS, derive, DATA_KEY, named=named)
    held = row(wrapped)
    assert ring(held).side_of(held) is Side.NEW
    assert ring(held).unwrapped(held) == {Side.NEW: DATA_KEY}
    assert (len(wrapped), decryptor.decrypt(wrapped, NEW, lambda key_id: b"").plaintext) == (52 if named else 40, DATA_KEY)


def test_a_value_whose_data_key_still_is_under_the_old_key_is_not_current_at_the_end() -> None:
    held = row(payloads.encrypt_with_password(OLD, DATA_KEY))
    payload = payloads.parse(Sealer("key1", DATA_KEY, derive).seal(LONG))
    assert UnderNewSecretKey(ring(held), derive).read(TEXT, payload).current, "the value itself needs no change"
    assert not UnderNewSecretKey(ring(held), derive, verifying=True).read(TEXT, payload).current
    anew = row(rewrapped(KEYS, derive, DATA_KEY, named=True))
    assert UnderNewSecretKey(ring(anew), derive, verifying=True).read(TEXT, payload).current


@pytest.mark.parametrize("named", [True, False])
def test_a_value_keeps_its_form(named: bool) -> None:
    aim = UnderNewSecretKey(ring(), derive)
    before = payloads.parse(payloads.encrypt_with_password(OLD, LONG)[0 if named else len(payloads.CFB_PREFIX) :])
    assert (before.named, aim.read(TEXT, before).current) == (named, False)
    written = aim.seal(before, LONG)
    assert written is not None
    after = payloads.parse(written)
    assert (after.named, aim.open(after)) == (named, LONG)


def test_a_data_key_of_another_length_opens_under_neither() -> None:
    with pytest.raises(PayloadError) as refusal:
        ring().unwrapped(row(payloads.encrypt_with_password(OLD, b"fifteen bytes..")))
    assert refusal.value.reason is Reason.DATA_KEY_UNREADABLE


def _is_no_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return True
    return False
