"""The soak, in short: live Grafana replicas beside a full run on real servers, and the proof that a soak notices when a promise is broken.

The long form is `python -m bench.soak` (bench/README.md).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from bench.simulation.truth import Place, Truth
from bench.soak import Options, soak
from bench.soaking import stock
from bench.soaking.checks import Findings, Phase, Soak, broken_promises, inspect
from bench.soaking.forced import force
from bench.soaking.replica import Tally
from bench.soaking.runner import RunOrder
from tests.support import servers
from tests.support.local_run import FakeKms

SHORT = Options(seconds=2, writers=2, values=120, misses=40, cache_seconds=1, steps=60)
SOMEWHERE = Place("user_auth", 1, "o_auth_access_token")


@pytest.mark.parametrize("engine", ["mysql", "postgres"])
def test_beside_live_replicas_nothing_is_lost_and_no_user_gets_an_error(engine: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    with servers.new_database(request.getfixturevalue(f"{engine}_server")) as url:
        result = soak(url, tmp_path, SHORT)
    assert broken_promises(result) == []
    assert result.live.values > SHORT.values / 2
    assert all(run["totals"]["re_encrypted"] and run["sweeps"] for run in result.runs if run["mode"] != "prune-data-keys")
    assert sum(len(run["removed"]["removed"]) for run in result.runs if run["mode"] == "prune-data-keys"), "and data keys went, too"
    assert result.beside.tally.writes
    assert result.forced_misses > SHORT.misses / 2


def test_the_soak_finds_a_run_that_writes_without_comparing(mysql_server: sa.URL, tmp_path: Path) -> None:
    with servers.new_database(mysql_server) as url:
        assert _forced(url, tmp_path, "no-compare").overwritten


def test_the_soak_finds_a_prune_that_does_not_ask_what_refers_to_the_keys(mysql_server: sa.URL, tmp_path: Path) -> None:
    with servers.new_database(mysql_server) as url:
        result = soak(url, tmp_path, replace(SHORT, cache_seconds=20, plant="prune-blindly", misses=1))
    assert result.live.lost or result.forced.lost


@pytest.fixture
def filled(tmp_path: Path) -> Iterator[tuple[sa.Engine, FakeKms, Truth]]:
    """A database that nothing has been done to yet, and its truth."""
    (tmp_path / "grafana.db").touch()
    engine, kms = stock.grafana_engine(sa.URL.create("sqlite", database=str(tmp_path / "grafana.db"))), FakeKms()
    [truth] = stock.fill(engine, {kms.name: kms}, values=32, replicas=1, seed=1)
    yield engine, kms, truth
    engine.dispose()


def test_values_under_an_old_key_are_found(filled: tuple[sa.Engine, FakeKms, Truth]) -> None:
    _, _, truth = filled
    assert sorted(inspect(*filled).under_old_key, key=str) == sorted(truth.values, key=str)


@pytest.mark.parametrize("damage", ["UPDATE user_auth SET o_auth_access_token = 'AAAA' WHERE id = 1", "DELETE FROM user_auth WHERE id = 1"])
def test_a_lost_value_is_found(filled: tuple[sa.Engine, FakeKms, Truth], damage: str) -> None:
    with filled[0].begin() as connection:
        connection.execute(sa.text(damage))
    assert SOMEWHERE in inspect(*filled).lost


def test_an_old_value_in_the_place_of_a_new_one_is_a_lost_update(filled: tuple[sa.Engine, FakeKms, Truth]) -> None:
    filled[2].stored("user_auth", 1, {("o_auth_access_token", None): b"what the user stored last"})
    assert inspect(*filled).overwritten == [SOMEWHERE]


def test_a_deleted_row_that_is_back_is_found(filled: tuple[sa.Engine, FakeKms, Truth]) -> None:
    filled[2].removed("user_auth", 1)
    assert inspect(*filled).risen == [("user_auth", 1)]


def test_a_soak_in_which_all_went_well_breaks_no_promise() -> None:
    assert broken_promises(_good()) == []
    assert broken_promises(replace(_good(), without=_phase(100), beside=_phase(110))) == [], "errors that come and go without us are not ours"


@pytest.mark.parametrize(
    ("broken", "word"),
    [
        ({"live": Findings(lost=[SOMEWHERE])}, "lost"),
        ({"forced": Findings(lost=[SOMEWHERE])}, "lost"),
        ({"live": Findings(overwritten=[SOMEWHERE])}, "lost updates"),
        ({"forced": Findings(overwritten=[SOMEWHERE])}, "lost updates"),
        ({"live": Findings(under_old_key=[SOMEWHERE])}, "under an old key"),
        ({"live": Findings(risen=[("user_auth", 1)])}, "risen"),
        ({"forced_wrong_reads": [SOMEWHERE]}, "read something else"),
        ({"runs": [{"outcome": "failed", "error": None, "headline": "failed", "misses": 0}]}, "ended as failed"),
        ({"forced_runs": []}, "forced misses did not happen"),
    ],
)
def test_each_broken_promise_is_told(broken: dict[str, Any], word: str) -> None:
    [sentence] = broken_promises(replace(_good(), **broken))
    assert word in sentence


def test_one_error_more_than_without_the_run_breaks_the_promise() -> None:
    [sentence] = broken_promises(replace(_good(), beside=_phase(1)))
    assert "1213" in sentence


def _forced(url: sa.URL, folder: Path, plant: str) -> Findings:
    engine, kms = stock.grafana_engine(url), FakeKms()
    try:
        [truth] = stock.fill(engine, {kms.name: kms}, values=32, replicas=1, seed=1)
        force(RunOrder(url, kms, folder, 1, 1, plant), engine, truth, seed=1, saves=5)
        return inspect(engine, kms, truth)
    finally:
        engine.dispose()


def _phase(errors: int) -> Phase:
    return Phase(10.0, Tally(errors=Counter({"1213": errors}), writes=1))


def _good() -> Soak:
    run = {"outcome": "succeeded", "error": None, "headline": "", "misses": 1}
    return Soak(_phase(0), _phase(0), [run], Findings(values=1), [run], Findings(values=1), [])
