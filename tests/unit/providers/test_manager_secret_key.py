"""The secrets manager's `secret_key.*` reads what Grafana wrote with it, and writes what Grafana reads."""

from __future__ import annotations

import pytest

from reencrypt.errors import DataKeyUnwrapFailed
from reencrypt.grafana import manager_payload
from reencrypt.providers.manager_secret_key import ManagerSecretKeyProvider

NAME = "secret_key.v1"
SECRET_KEY = "SW2YcwTIb9zpOOhoPsMm"
DATA_KEY = bytes(range(0xF0, 0x100))
# grafana-format.md, section 10, D5: made from the layout with another library.
GRAFANAS = bytes.fromhex("2a5957567a4c57646a62512a4162436445663132000102030405060708090a0bf974558a3b5efa9ccae608710da364952b47772ad683b8589c84e19f0a213f04")
CFB = bytes.fromhex("2a5957567a4c574e6d59672a4162436445663132000102030405060708090a0b0c0d0e0f4887a76316c6f35032fad0c7ce2ce65a")


def test_what_grafana_wrapped_unwraps_whatever_the_algorithm_is_called() -> None:
    assert ManagerSecretKeyProvider(NAME, SECRET_KEY).unwrap(GRAFANAS) == DATA_KEY
    assert ManagerSecretKeyProvider(NAME, SECRET_KEY).unwrap(b"*anything*" + GRAFANAS[12:]) == DATA_KEY


@pytest.mark.parametrize("secret_key", [SECRET_KEY, "ключ 🔑", "x" * 500])
def test_what_is_wrapped_has_grafanas_form_and_unwraps_and_is_never_the_same(secret_key: str) -> None:
    provider = ManagerSecretKeyProvider(NAME, secret_key)
    wrapped = provider.wrap(DATA_KEY)
    assert (wrapped[:12], len(wrapped)) == (b"*YWVzLWdjbQ*", 64)
    assert provider.unwrap(wrapped) == DATA_KEY
    assert provider.wrap(DATA_KEY)[12:20] != wrapped[12:20], "the salt is new"


def _of(size: int) -> bytes:
    return manager_payload.encrypt(SECRET_KEY.encode(), b"x" * size)


DAMAGED = {
    "empty": b"", "star": b"*", "no second star": b"*YWVzLWdjbQ" + b"x" * 60, "no prefix": GRAFANAS[12:], "cut": GRAFANAS[:30], "one byte less": GRAFANAS[:-1],
    "one byte more": GRAFANAS + b"x", "the other store's": CFB, "15 bytes": _of(15), "17 bytes": _of(17), "none": _of(0),
}  # fmt: skip


@pytest.mark.parametrize("wrapped", DAMAGED.values(), ids=DAMAGED.keys())
def test_anything_else_is_refused_without_a_byte_of_it_in_the_message(wrapped: bytes) -> None:
    with pytest.raises(DataKeyUnwrapFailed, match=r"secret_key\.v1") as failure:
        ManagerSecretKeyProvider(NAME, SECRET_KEY).unwrap(wrapped)
    message = repr(failure.value)
    assert SECRET_KEY not in message
    assert not wrapped[12:] or repr(wrapped[12:])[2:-1] not in message


def test_a_wrong_secret_key_is_told() -> None:
    with pytest.raises(DataKeyUnwrapFailed, match=r"authentication-failed.*another secret_key"):
        ManagerSecretKeyProvider(NAME, "another").unwrap(GRAFANAS)


def test_the_secret_key_is_not_shown() -> None:
    provider = ManagerSecretKeyProvider(NAME, SECRET_KEY)
    assert f"{provider!r} {provider}" == "<secret_key.v1> <secret_key.v1>"
