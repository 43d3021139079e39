"""The life of a database's keys, one mode after the other: after each step the independent decryptor reads every value, and nothing else has changed."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path
from typing import Any

import pytest

from tests.integration.test_interrupted_key_steps import Guillotine, Killed, small
from tests.support import decryptor
from tests.support.golden import GoldenDatabase
from tests.support.lifecycle import KMS_A, KMS_B, SECRET_KEY, Life, arn, nothing_changed, only_secrets_changed

STOPPED: dict[str, Any] = {"settleSeconds": 0}
NEW_KEY, NEW_MANAGER_KEY = "a new secret_key, ä 12", "a new key of the secrets manager"
TWELVE = pytest.mark.parametrize("golden_database", ["12.4.0-sqlite", "12.4.0-mysql", "12.4.0-postgres"], indirect=True)
SQLITE = pytest.mark.parametrize("golden_database", ["12.4.0-sqlite"], indirect=True)


def verified(life: Life, **options: Any) -> dict[str, Any]:
    """A verify that finds nothing to do."""
    report = life.do("verify", **options)
    assert report["totals"]["re_encrypted"] == 0
    return report


def safe(report: dict[str, Any]) -> dict[str, bool]:
    """KMS key → whether it may be disabled."""
    return {key["kms_key"]: key["safe_to_disable"] for key in report["kms_keys"]}


def test_the_whole_life_of_keys(golden_database: GoldenDatabase, tmp_path: Path) -> None:
    """secretKey.v1 → KMS A → KMS B → rotate → another secret_key → rollback → KMS B again → prune."""
    life = Life(golden_database, tmp_path)
    before = life.snapshot()
    grafanas = set(life.keys())

    life.provider = KMS_A
    report = life.do("re-encrypt", providerReady=True)
    life.assert_under(KMS_A)
    assert safe(report) == {arn(KMS_A): False, arn(KMS_B): True}
    verified(life)

    life.provider = KMS_B
    names = life.keys()
    report = life.do("rewrap-data-keys", providerReady=True)
    assert life.keys() == {name: (KMS_B, active) for name, (_, active) in names.items()}
    theirs = len({(entry["pk"]["namespace"], entry["key_id"]) for entry in life.values if entry["form"] == "split-gcm"})
    assert report["rewrapped"]["rewrapped"] == {"kms:ReEncrypt": 1, "unwrap and wrap": len(grafanas) + theirs}
    assert safe(report) == {arn(KMS_A): True, arn(KMS_B): False}
    life.assert_under(KMS_B)
    verified(life)

    report = life.do("rotate", providerReady=True)
    assert {name for name, (_, active) in life.keys().items() if active} == {report["data_key"]}
    assert report["data_key"] not in names
    life.assert_under(KMS_B)
    verified(life)

    life.change_secret_key(NEW_KEY, NEW_MANAGER_KEY if any(entry["form"] == "split-gcm" for entry in life.values) else None)
    report = life.do("rotate-secret-key", **STOPPED)
    life.forget_old_keys()
    life.assert_under(KMS_B)
    verified(life)

    report = life.do("rollback")
    assert (life.keys(), report["removed"]["kept"]) == ({}, [])
    assert safe(report) == {arn(KMS_A): True, arn(KMS_B): False}, "the second still is Grafana's encryption_provider"
    life.assert_under(None)

    life.do("re-encrypt", providerReady=True)
    life.assert_under(KMS_B)
    verified(life)

    life.clock.advance(2 * 86_400)
    life.do("rotate", providerReady=True)
    life.clock.advance(2 * 86_400)
    report = life.do("prune-data-keys")
    assert [entry["why"] for entry in report["removed"]["kept"] if entry["system"] == "grafana"] == ["referenced"]
    assert len(life.keys()) == 1
    life.assert_under(KMS_B)
    verified(life)
    only_secrets_changed(before, life.snapshot())


@TWELVE
def test_what_a_step_has_done_to_keys_is_undone(golden_database: GoldenDatabase, tmp_path: Path) -> None:
    life = Life(golden_database, tmp_path)
    life.provider = KMS_A
    life.do("re-encrypt", providerReady=True)
    keys = life.keys()

    life.do("rewrap-data-keys", provider=KMS_B, providerReady=True)
    undone = life.do("restore", run=f"run-{life.run_.number}")
    assert undone["totals"]["re_encrypted"] >= len(keys)
    assert life.keys() == keys
    life.assert_under(KMS_A)

    again = life.do("restore", run=undone["run"])
    assert again["totals"]["re_encrypted"] == undone["totals"]["re_encrypted"], "a restore keeps what it writes over, too"
    assert {provider for provider, _ in life.keys().values()} == {KMS_B}
    life.do("restore", run=again["run"])
    assert life.keys() == keys

    rotated = life.do("rotate", providerReady=True)
    life.do("restore", run=rotated["run"])
    life.found()
    life.do("rotate", providerReady=True)

    life.clock.advance(5 * 86_400)
    there = set(life.keys())
    pruned = life.do("prune-data-keys")
    assert {entry["id"] for entry in pruned["removed"]["removed"] if entry["system"] == "grafana"} == there - set(life.keys()) != set()
    life.do("restore", run=pruned["run"])
    assert set(life.keys()) == there
    life.assert_under(KMS_A)

    back = life.do("rollback")
    assert life.keys() == {}
    life.do("restore", run=back["run"])
    assert set(life.keys()) == there
    life.found()
    assert {row[0] for entry, _, row in life.found() if row is not None and entry["form"] != "split-gcm"} == {KMS_A}


@pytest.mark.parametrize("golden_database", ["12.4.0-sqlite", "9.4.0-pre-mysql"], indirect=True)
def test_a_rollback_for_grafana_8_leaves_payloads_that_name_no_algorithm(golden_database: GoldenDatabase, tmp_path: Path) -> None:
    life = Life(golden_database, tmp_path)
    life.do("rollback", **{"for": "8.x"})

    reader = decryptor.Reader(life.engine, life.secret_key, payload=decryptor.decrypt_as_8)
    for entry in life.values:
        if entry["form"] != "split-gcm":
            assert decryptor.matches(entry, reader.read(entry).plaintext), (entry["table"], entry["pk"], entry["path"])


@SQLITE
def test_cached_login_data_under_a_key_goes_with_the_key(golden_database: GoldenDatabase, tmp_path: Path) -> None:
    life = Life(golden_database, tmp_path)
    life.provider = KMS_A
    cached = life.rows("SELECT COUNT(*) FROM cache_data WHERE substr(data, 1, 1) = x'23'")[0][0]
    assert cached, "the golden database has some"
    life.do("re-encrypt", providerReady=True)
    life.clock.advance(5 * 86_400)
    life.do("rotate", providerReady=True)
    report = life.do("prune-data-keys")
    assert report["removed"]["disposed"] > 0
    known = "SELECT COUNT(*) FROM cache_data WHERE substr(data, 1, 1) = x'23'"
    assert life.rows(known)[0][0] == cached - report["removed"]["disposed"]


MODES = ("re-encrypt", "rotate", "rewrap-data-keys", "rotate-secret-key", "rollback", "prune-data-keys", "restore")


def _options(life: Life, rng: random.Random, mode: str, earlier: list[str]) -> dict[str, Any]:
    """What the mode needs, of all that an operator may choose; configures the database's keys for it."""
    if mode in ("re-encrypt", "rotate", "rewrap-data-keys"):
        life.provider = rng.choice([SECRET_KEY, KMS_A, KMS_B])
        return {"providerReady": True, **({"force": rng.random() < 0.3} if mode == "re-encrypt" else {})}
    if mode == "rotate-secret-key":
        life.change_secret_key(f"secret_key number {rng.random()}", f"manager's number {rng.random()}" if rng.random() < 0.5 else None)
        return STOPPED
    if mode == "rollback":
        return {**(STOPPED if rng.random() < 0.5 else {}), **({"for": "8.x"} if rng.random() < 0.3 else {})}
    return {"run": rng.choice(earlier)} if mode == "restore" else {}


@SQLITE
@pytest.mark.parametrize("seed", range(12))
def test_any_order_of_steps_loses_nothing_whichever_of_them_is_killed(golden_database: GoldenDatabase, tmp_path: Path, seed: int) -> None:
    """A third of the steps die somewhere; half of those are done again. A restore may find that what it would put back does not open any more."""
    rng = random.Random(seed)  # noqa: S311 - which steps
    life, guillotine = small(golden_database, tmp_path), Guillotine()
    before, runs = life.snapshot(), list[str]()
    with guillotine.installed():
        for _ in range(8):
            life.clock.advance(rng.choice([60, 3_600, 3 * 86_400]))
            mode = rng.choice(MODES if runs else MODES[:-1])
            options = _options(life, rng, mode, runs)
            killed = rng.random() < 0.35
            with guillotine.falls(rng.randrange(1, 150) if killed else None), contextlib.suppress(BaseException if killed else Killed):
                report = life.run(mode, **options)
                assert mode == "restore" or report["outcome"] == "succeeded", report["headline"]
            runs.append(f"run-{life.run_.number}")
            life.found()
            if killed and (mode == "rotate-secret-key" or rng.random() < 0.5):
                assert mode == "restore" or life.do(mode, **options)
                runs.append(f"run-{life.run_.number}")
            life.forget_old_keys()
            life.found()
            assert life.run("verify")["unreadable"] == []
    only_secrets_changed(before, life.snapshot())


@SQLITE
def test_a_step_that_has_nothing_to_do_changes_nothing(golden_database: GoldenDatabase, tmp_path: Path) -> None:
    life = Life(golden_database, tmp_path)
    life.do("rollback")
    before = life.snapshot()
    assert life.do("rollback")["totals"]["re_encrypted"] == 0
    nothing_changed(before, life.snapshot())
