"""The judgement between a wrong key and a write."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reencrypt.grafana.plausibility import PlaintextKind, is_convincing, is_plausible

PEM = b"-----BEGIN PRIVATE KEY-----\nMIGHAgEA\n-----END PRIVATE KEY-----\n"


@pytest.mark.parametrize(
    "text", [b"", b"hunter2", "pässwörd 🔑".encode(), b"two\nlines\r\n\tand a tab", PEM, b"{}", "\x00\x01\x7f\x95 as Grafana stored it".encode()]
)
def test_text_is_plausible(text: bytes) -> None:
    assert is_plausible(PlaintextKind.TEXT, text)


@pytest.mark.parametrize("text", [b"\xff\xfe", b"caf\xe9", b"\x80", b"\xed\xa0\x80", b"\xc0\x80"])
def test_bytes_that_are_no_text_are_implausible(text: bytes) -> None:
    assert not is_plausible(PlaintextKind.TEXT, text)


def test_json_must_parse_and_pem_must_have_armour() -> None:
    assert is_plausible(PlaintextKind.JSON, b'{"a": [1, null]}')
    assert not is_plausible(PlaintextKind.JSON, b'{"a": [1, null')
    assert not is_plausible(PlaintextKind.JSON, b"NaN")
    assert not is_plausible(PlaintextKind.JSON, b"")
    assert is_plausible(PlaintextKind.PEM, PEM)
    assert not is_plausible(PlaintextKind.PEM, PEM[:40])
    assert not is_plausible(PlaintextKind.PEM, b"text")


@pytest.mark.parametrize("size", [300 * 1024, 3 << 20])
def test_large_values_are_judged_like_small_ones(size: int) -> None:
    good = b'{"panels": "' + "é".encode() * (size // 2) + b'"}'
    assert is_plausible(PlaintextKind.JSON, good)
    assert not is_plausible(PlaintextKind.JSON, good[:-2])
    assert not is_plausible(PlaintextKind.JSON, good.replace("é".encode(), b"\xc3(", 1))
    assert is_plausible(PlaintextKind.TEXT, good)
    assert not is_plausible(PlaintextKind.TEXT, good[:-2] + b"\xff")
    assert not is_plausible(PlaintextKind.TEXT, good[: (1 << 18) - 1] + b"\xff" + good[1 << 18 :])


def test_random_bytes_hardly_ever_speak_for_their_key() -> None:
    for size in (6, 16):
        convinced = sum(is_plausible(PlaintextKind.TEXT, text) and is_convincing(PlaintextKind.TEXT, text) for text in (os.urandom(size) for _ in range(4000)))
        assert convinced < 4000 * 0.015
    assert is_convincing(PlaintextKind.TEXT, b"Bearer")
    assert not is_convincing(PlaintextKind.TEXT, b"12345")
    assert not is_convincing(PlaintextKind.TEXT, b"123456\x01")
    assert is_convincing(PlaintextKind.TEXT, "ünïcödé teXt".encode())
    assert is_convincing(PlaintextKind.JSON, b"{}")


@given(st.sampled_from(PlaintextKind), st.binary(max_size=100))
def test_any_bytes_whatever_are_judged_without_raising(kind: PlaintextKind, plaintext: bytes) -> None:
    assert is_plausible(kind, plaintext) in (True, False)
