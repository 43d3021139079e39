"""A write transaction holds as many rows as the server writes within the target time: fewer after a slow one, slowly more again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reencrypt.database.dialects import Engine
from reencrypt.database.pace import MOST_ROWS, Pace

TARGET = 0.1


@pytest.mark.parametrize("engine", list(Engine))
def test_a_worker_begins_with_full_batches_on_every_engine(engine: Engine) -> None:
    assert Pace.of(engine).rows == MOST_ROWS


def test_sqlite_is_held_more_briefly_than_a_server_since_nobody_can_read_meanwhile() -> None:
    assert Pace.of(Engine.SQLITE).target_seconds < 0.05 < Pace.of(Engine.MYSQL).target_seconds


def test_a_batch_that_took_too_long_is_followed_by_half_as_many_rows() -> None:
    pace = Pace(TARGET)
    sizes = []
    for _ in range(6):
        pace.took(TARGET * 2, pace.rows)
        sizes.append(pace.rows)
    assert sizes == [100, 50, 25, 12, 10, 10]


def test_a_small_batch_that_took_too_long_counts_by_its_own_size() -> None:
    pace = Pace(TARGET)
    pace.took(TARGET * 2, 60)
    assert pace.rows == 30


def test_fast_batches_grow_slowly_and_never_beyond_the_most() -> None:
    pace = Pace(TARGET, 10)
    sizes = []
    for _ in range(20):
        pace.took(TARGET / 10, pace.rows)
        sizes.append(pace.rows)
    assert sizes[:4] == [13, 17, 22, 28]
    assert sizes[-1] == MOST_ROWS
    assert sizes == sorted(sizes)


@pytest.mark.parametrize(("seconds", "rows"), [(TARGET * 0.7, 50), (TARGET, 50), (TARGET / 10, 49)], ids=["near the target", "on it", "not a full batch"])
def test_what_says_nothing_about_more_rows_changes_nothing(seconds: float, rows: int) -> None:
    pace = Pace(TARGET, 50)
    pace.took(seconds, rows)
    assert pace.rows == 50


@given(st.lists(st.tuples(st.floats(0, 100), st.integers(1, MOST_ROWS))))
def test_whatever_the_server_does_a_batch_has_rows_and_not_too_many(batches: list[tuple[float, int]]) -> None:
    pace = Pace(TARGET)
    for seconds, rows in batches:
        pace.took(seconds, min(rows, pace.rows))
        assert 10 <= pace.rows <= MOST_ROWS


def test_a_batch_that_met_a_lock_is_followed_by_half_as_many_rows() -> None:
    pace = Pace(TARGET, 30)
    sizes = []
    for _ in range(3):
        pace.collided()
        sizes.append(pace.rows)
    assert sizes == [15, 10, 10]
