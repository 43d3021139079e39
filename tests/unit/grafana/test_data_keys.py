"""Rows of data keys are made as Grafana makes them, and pass through the undo journal unchanged."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reencrypt.grafana.data_keys import BACKDATED, MAXIMUM_PROVIDER_LENGTH, DataKey, as_text, from_text, label, new_data_key
from reencrypt.grafana.secret_columns import System

NOW = datetime(2026, 11, 24, 22, 10, 5, tzinfo=UTC)

_TEXTS = st.text(st.characters(), max_size=30)
_MOMENTS = st.datetimes(timezones=st.sampled_from([UTC]))
KEYS = st.builds(
    DataKey,
    name=_TEXTS, active=st.booleans(), scope=_TEXTS, provider=_TEXTS, encrypted_data=st.binary(max_size=300),
    label=st.none() | _TEXTS, created=st.none() | _MOMENTS,
)  # fmt: skip


@given(KEYS)
def test_a_row_comes_back_from_its_text_as_it_was(key: DataKey) -> None:
    text = as_text(key)
    assert from_text(text) == key
    assert b"\n" not in text, "one line of a journal"
    json.loads(text.decode("ascii"))


@pytest.mark.parametrize(
    ("system", "scope", "expected"),
    [
        (System.GRAFANA, "root", "2026-11-24/root@awskms.x"),
        (System.MANAGER, "default", "2026-11-24@awskms.x"),
        (System.MANAGER, "org-2", "2026-11-24@awskms.x"),
    ],
)
def test_a_label_is_what_grafana_looks_the_current_key_up_by(system: System, scope: str, expected: str) -> None:
    assert label(system, "awskms.x", scope, NOW) == expected
    key = new_data_key("awskms.x", b"wrapped", NOW, system, scope)
    assert (key.label, key.scope, key.provider, key.active, key.encrypted_data) == (expected, scope, "awskms.x", True, b"wrapped")
    assert not key.made_by_grafana


def test_a_new_key_is_dated_back_where_grafana_would_not_cache_a_young_one() -> None:
    assert NOW - (new_data_key("awskms.x", b"", NOW).created or NOW) == BACKDATED
    assert new_data_key("aws_kms.x", b"", NOW, System.MANAGER, "default").created == NOW


@given(st.integers(0, 10_000))
def test_a_label_fits_its_column_on_every_day_and_with_every_provider_that_fits(days: int) -> None:
    made = label(System.GRAFANA, "p" * MAXIMUM_PROVIDER_LENGTH, "root", NOW + timedelta(days=days))
    assert len(made) <= 100


@pytest.mark.parametrize("system", list(System))
def test_ids_are_such_as_grafana_accepts_and_never_the_same(system: System) -> None:
    ids = [new_data_key("p", b"", NOW, system).name for _ in range(200)]
    assert len(set(ids)) == len(ids)
    for name in ids:
        assert 14 <= len(name) <= 26
        assert name.isalnum()
        assert name == name.lower()
        assert name[0].isalpha()


def test_the_ciphertext_is_not_shown() -> None:
    assert "ciphertext" not in repr(from_text(as_text(new_data_key("p", b"ciphertext", NOW))))
