"""The whole life of keys on the deployed stack: every mode that changes keys, one after another, under enforced IAM and with real KMS calls.

After each step the independent decryptor reads every secret; what a step must refuse is refused before anything is written.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cli.sample import DEFAULT_SECRET_KEY
from tests.e2e.conftest import PROVIDER, SECOND_PROVIDER, SECOND_SECTION, Sample
from tests.e2e.test_deployed_stack import READY, engine, failed_with, read_by_the_independent_decryptor
from tests.support import snapshot

STOPPED = {"settleSeconds": 0}
NEW_SECRET_KEY = "a new secret_key of the sample"


def data_keys(sample: Sample) -> dict[str, tuple[str, bool]]:
    """Name → (provider, active)."""
    with engine(sample.path).connect() as connection:
        rows = connection.exec_driver_sql("SELECT name, provider, active FROM data_keys").all()
    return {name: (provider, bool(active)) for name, provider, active in rows}


def well(sample: Sample, request: Mapping[str, object]) -> dict[str, Any]:
    """The report of a run that ended well, with nothing left over."""
    result = sample.deployed.run(request)
    assert result.ended_well, (request, result.headline, result.report and result.report["error"])
    assert result.report is not None
    report = dict(result.report)
    assert (report["mode"], report["outcome"], report["unreadable"], report["left_under_old_keys"]) == (request["mode"], "succeeded", [], 0)
    return report


def kms_keys(report: Mapping[str, Any]) -> dict[str, bool]:
    """Provider → whether its KMS key is safe to disable."""
    return {provider: key["safe_to_disable"] for key in report["kms_keys"] for provider in key["providers"]}


def test_keys_are_rotated_moved_to_another_kms_key_pruned_rolled_back_and_made_anew(sample: Sample) -> None:
    sample.configure(more=SECOND_SECTION)
    first = well(sample, READY)["data_key"]
    before = set(data_keys(sample))

    rotated = well(sample, {"mode": "rotate", "providerReady": True})
    assert read_by_the_independent_decryptor(sample) == {rotated["data_key"]: (PROVIDER, True)}
    assert rotated["data_key"] not in before
    assert {name for name, (_, active) in data_keys(sample).items() if active} == {rotated["data_key"]}
    assert rotated["settle_seconds"] == 16 * 60

    sample.configure(provider=SECOND_PROVIDER, more=SECOND_SECTION)
    names = data_keys(sample)
    moved = well(sample, {"mode": "rewrap-data-keys", "providerReady": True})
    assert moved["rewrapped"]["rewrapped"] == {"kms:ReEncrypt": 2, "unwrap and wrap": 2}, "two keys of secretKey.v1, and two that never left KMS"
    assert data_keys(sample) == {name: (SECOND_PROVIDER, active) for name, (_, active) in names.items()}
    assert read_by_the_independent_decryptor(sample) == {rotated["data_key"]: (SECOND_PROVIDER, True)}
    assert kms_keys(moved) == {PROVIDER: True, SECOND_PROVIDER: False}

    early = well(sample, {"mode": "prune-data-keys", "settleSeconds": 30})
    assert (early["removed"]["removed"], {entry["why"] for entry in early["removed"]["kept"]}) == ([], {"cache-ttl-not-over", "referenced"})
    pruned = well(sample, {"mode": "prune-data-keys"})
    assert first in before
    assert {entry["id"] for entry in pruned["removed"]["removed"]} == before
    assert data_keys(sample) == {rotated["data_key"]: (SECOND_PROVIDER, True)}
    assert read_by_the_independent_decryptor(sample) == {rotated["data_key"]: (SECOND_PROVIDER, True)}
    assert pruned["scan"]["tables"] > 10
    assert kms_keys(pruned) == {PROVIDER: True, SECOND_PROVIDER: False}

    undone = well(sample, {"mode": "restore", "run": pruned["run"]})
    assert set(data_keys(sample)) == {*before, rotated["data_key"]}
    assert undone["totals"]["re_encrypted"] == len(before)

    back = well(sample, {"mode": "rollback"})
    assert (back["settle_seconds"], [sweep["moved"] for sweep in back["sweeps"]]) == (16 * 60, [0])
    assert {entry["id"] for entry in back["removed"]["removed"]} == {*before, rotated["data_key"]}
    assert data_keys(sample) == {}
    assert set(read_by_the_independent_decryptor(sample)) == {None}

    again = well(sample, READY)
    assert read_by_the_independent_decryptor(sample) == {again["data_key"]: (SECOND_PROVIDER, True)}


def test_a_secret_key_is_changed_with_both_keys_at_hand_and_never_with_a_wrong_one(sample: Sample) -> None:
    before = snapshot.take(engine(sample.path))
    request = {"mode": "rotate-secret-key", "settleSeconds": 0}
    old = "[security]\nold_secret_key = {}\n"
    sample.configure(secret_key=NEW_SECRET_KEY, provider="secretKey.v1", more=old.format("not the old one"))
    failed_with(sample.deployed.run(request), "WrongSecretKey")
    assert snapshot.difference(before, snapshot.take(engine(sample.path))) == []

    sample.configure(secret_key=NEW_SECRET_KEY, provider="secretKey.v1", more=old.format(DEFAULT_SECRET_KEY))
    keys = data_keys(sample)
    report = well(sample, request)
    assert report["rewrapped"]["failed"] == []
    assert sum(report["rewrapped"]["rewrapped"].values()) == len(keys)
    assert data_keys(sample) == keys
    assert set(read_by_the_independent_decryptor(sample, NEW_SECRET_KEY)) == {None, *keys}
    after = snapshot.take(engine(sample.path))
    assert well(sample, request)["totals"]["re_encrypted"] == 0
    assert snapshot.difference(after, snapshot.take(engine(sample.path))) == []


def test_a_column_that_is_in_no_list_keeps_its_data_key_and_stops_a_rollback(sample: Sample) -> None:
    report = well(sample, READY)
    key = report["data_key"]
    with engine(sample.path).begin() as connection:
        connection.exec_driver_sql("CREATE TABLE setting (id INTEGER PRIMARY KEY, value TEXT)")
        connection.exec_driver_sql("INSERT INTO setting (value) SELECT o_auth_access_token FROM user_auth WHERE o_auth_access_token IS NOT NULL LIMIT 1")
    before = snapshot.take(engine(sample.path))
    assert "setting.value" in failed_with(sample.deployed.run({"mode": "rollback", **STOPPED}), "UnknownCiphertext")["message"]
    assert snapshot.difference(before, snapshot.take(engine(sample.path))) == []

    well(sample, {"mode": "rotate", "providerReady": True, **STOPPED})
    pruned = well(sample, {"mode": "prune-data-keys", **STOPPED})
    assert [(place["table"], place["column"], list(place["data_keys"])) for place in pruned["unknown_ciphertext"]] == [("setting", "value", [key])]
    assert {entry["id"]: entry["why"] for entry in pruned["removed"]["kept"]}[key] == "referenced-by-unknown-column"
    assert key in data_keys(sample)
