"""Values of the secrets manager in their two stored forms: joined and split again without loss, whatever bytes stand there."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reencrypt.errors import PayloadError, Reason
from reencrypt.grafana.split_form import joined, split

PAYLOAD = b"*YWVzLWdjbQ*" + b"#*#*#*#*" + bytes(range(40))


def reason_of(value: bytes) -> Reason:
    with pytest.raises(PayloadError) as caught:
        split(value)
    return caught.value.reason


def test_the_joined_form_is_the_one_that_grafana_wrote_before_it_had_the_column() -> None:
    assert joined(PAYLOAD, b"fg5b0mql1w0lcf") == b"#Zmc1YjBtcWwxdzBsY2Y#" + PAYLOAD
    assert split(b"#Zmc1YjBtcWwxdzBsY2Y#" + PAYLOAD) == (PAYLOAD, b"fg5b0mql1w0lcf")


@pytest.mark.parametrize("no_id", [None, b""])
@pytest.mark.parametrize("stored", [b"", b"#dWlk#" + PAYLOAD, PAYLOAD, b"#no end"])
def test_without_an_id_beside_it_the_stored_bytes_are_the_value(stored: bytes, no_id: bytes | None) -> None:
    assert joined(stored, no_id) == stored


def test_a_row_that_holds_an_id_twice_keeps_both() -> None:
    """What stands behind the first id is then no payload: it begins with `#` and not with `*`."""
    twice = joined(b"#b2xk#" + PAYLOAD, b"uid")
    assert split(twice) == (b"#b2xk#" + PAYLOAD, b"uid")


@pytest.mark.parametrize(
    "value",
    [
        PAYLOAD,
        b"#",
        b"#dWlk",
        b"##" + PAYLOAD,
        b"#d#" + PAYLOAD,
        b"#a b#" + PAYLOAD,
        b"#" + base64.b64encode(b"\xff\xfe\xfd") + b"#" + PAYLOAD,
        joined(PAYLOAD, b"\xff"),
    ],
)
def test_a_value_without_a_readable_id_is_refused(value: bytes) -> None:
    assert reason_of(value) is Reason.BAD_KEY_ID


def test_nothing_is_no_value() -> None:
    assert reason_of(b"") is Reason.EMPTY_PAYLOAD


def test_an_id_without_a_payload_is_split_and_left_to_the_payloads_reader() -> None:
    assert split(joined(b"", b"uid")) == (b"", b"uid")


@given(st.binary(max_size=80), st.text(min_size=1, max_size=100))
def test_both_columns_come_back_from_the_joined_form(encrypted_data: bytes, uid: str) -> None:
    assert split(joined(encrypted_data, uid.encode())) == (encrypted_data, uid.encode())


@given(st.binary(max_size=80) | st.builds(lambda uid, rest: b"#" + uid + b"#" + rest, st.binary(max_size=20), st.binary(max_size=40)))
def test_any_bytes_are_split_or_refused_with_a_reason(value: bytes) -> None:
    try:
        payload, uid = split(value)
    except PayloadError as error:
        reason = error.reason
    else:
        assert value.endswith(b"#" + payload)
        assert split(joined(payload, uid)) == (payload, uid)
        return
    assert reason is (Reason.BAD_KEY_ID if value else Reason.EMPTY_PAYLOAD)
