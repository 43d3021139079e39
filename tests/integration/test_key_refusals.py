"""What the key life cycle refuses, or leaves alone: each refusal writes nothing, and names the setting, the table or the key at fault."""

from __future__ import annotations

import base64
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from reencrypt.database.database import Database
from reencrypt.errors import DatabaseUnavailable, LeaseHeld
from reencrypt.grafana import cipher, payload
from reencrypt.grafana.data_keys import DataKey
from reencrypt.grafana.secret_columns import System
from reencrypt.operations.remove_data_keys import remove_data_keys
from reencrypt.operations.run_input import RunInput
from reencrypt.operations.safeguards import CountingPulse
from reencrypt.operations.work import Phase
from reencrypt.operations.workspace import Workspace
from reencrypt.providers.secret_key import SecretKeyProvider
from tests.support import decryptor, local_run
from tests.support.golden import GoldenDatabase
from tests.support.lifecycle import KMS_A, KMS_B, SECRET_KEY, Life, nothing_changed

STOPPED: dict[str, Any] = {"settleSeconds": 0}
NEW_KEY = "another-secret-key"

pytestmark = pytest.mark.parametrize("golden_database", ["12.4.0-sqlite"], indirect=True)


@pytest.fixture
def life(golden_database: GoldenDatabase, tmp_path: Path) -> Life:
    return Life(golden_database, tmp_path)


def refused(life: Life, error: str, mode: str, **options: Any) -> str:
    """The message of a refusal that has written nothing."""
    before = life.snapshot()
    report = life.run(mode, **options)
    assert (report["outcome"], report["error"] and report["error"]["name"]) == ("failed", error), report["headline"]
    nothing_changed(before, life.snapshot())
    message: str = report["error"]["message"]
    return message


def kept(report: dict[str, Any]) -> dict[str, str]:
    """Data key → why it was kept."""
    return {entry["id"]: entry["why"] for entry in report["removed"]["kept"]}


# --- rotate-secret-key ---


def test_a_wrong_old_secret_key_writes_nothing(life: Life) -> None:
    life.old_secret_key, life.secret_key = "not the old one", NEW_KEY
    assert "fit neither [security] old_secret_key nor [security] secret_key" in refused(life, "WrongSecretKey", "rotate-secret-key", **STOPPED)


def test_two_equal_secret_keys_are_no_rotation(life: Life) -> None:
    life.old_secret_key = life.secret_key
    assert "the same key" in refused(life, "ConfigurationError", "rotate-secret-key", **STOPPED)


def test_a_rotation_needs_the_old_secret_key(life: Life) -> None:
    assert "old_secret_key" in refused(life, "ConfigurationError", "rotate-secret-key", **STOPPED)


def test_a_rotation_of_secret_key_begins_only_when_grafana_is_said_to_be_stopped(life: Life) -> None:
    life.change_secret_key(NEW_KEY)
    assert '"settleSeconds": 0' in refused(life, "SafetyError", "rotate-secret-key")


def test_samples_that_fit_both_keys_tell_nothing(life: Life) -> None:
    """One value in the whole database, `x` under the old key: nobody can say whether the configured old key is the old one."""
    life.do("rollback")
    for table in {entry["table"] for entry in life.values} - {"data_source"}:
        life.execute(f"DELETE FROM {table}")
    _write_legacy(life, b"x")
    life.change_secret_key(NEW_KEY)
    assert "too short to tell" in refused(life, "WrongSecretKey", "rotate-secret-key", **STOPPED)


def test_a_short_value_that_fits_both_keys_is_left_alone_where_grafana_has_used_the_new_one(life: Life) -> None:
    life.do("rollback")
    _write_legacy(life, b"x")
    life.execute("DELETE FROM secrets WHERE id <> (SELECT MIN(id) FROM secrets)")
    written = payload.encrypt_with_password(NEW_KEY.encode(), b'{"password":"of a Grafana that runs on the new key"}')
    life.execute("UPDATE secrets SET value = :value", value=base64.b64encode(written).rstrip(b"=").decode())
    life.change_secret_key(NEW_KEY)
    before = life.rows("SELECT secure_json_data FROM data_source")
    report = life.run("rotate-secret-key", onUnreadable="report", **STOPPED)
    assert (report["outcome"], {entry["reason"] for entry in report["unreadable"]}) == ("succeeded-with-unreadable", {"ambiguous-key"}), report["headline"]
    assert "data_source" in {entry["table"] for entry in report["unreadable"]}
    assert life.rows("SELECT secure_json_data FROM data_source") == before


def test_an_unknown_column_under_the_old_secret_key_stops_a_rotation(life: Life) -> None:
    legacy = next(entry for entry in life.values if entry["form"] == "legacy-cfb-prefixed" and entry["table"] == "user_auth")
    life.execute(f"CREATE TABLE plugin_state AS SELECT id, {legacy['column']} AS token FROM user_auth WHERE id = :id", **legacy["pk"])
    life.change_secret_key(NEW_KEY)
    message = refused(life, "UnknownCiphertext", "rotate-secret-key", **STOPPED)
    assert message.startswith("plugin_state.token hold values directly under the old secret_key")


def test_every_other_mode_waits_for_the_rotation_that_was_begun(life: Life) -> None:
    life.change_secret_key(NEW_KEY)
    for mode in ("plan", "verify", "re-encrypt"):
        assert "rotate it to the new secret_key first" in refused(life, "WrongSecretKey", mode)


# --- rewrap-data-keys ---


def test_data_keys_go_to_no_provider_that_is_not_configured_or_not_proven(life: Life) -> None:
    assert "awskms.absent" in refused(life, "ConfigurationError", "rewrap-data-keys", provider="awskms.absent")
    assert "no proof" in refused(life, "ProviderNotReady", "rewrap-data-keys", provider=KMS_A)


def test_a_data_key_that_does_not_open_fails_the_run_and_leaves_the_others_wrapped_anew(life: Life) -> None:
    gone, *_ = life.keys()
    life.execute("UPDATE data_keys SET provider = 'awskms.gone' WHERE name = :name", name=gone)
    before = life.rows("SELECT encrypted_data FROM data_keys WHERE name = :name", name=gone)
    report = life.run("rewrap-data-keys", provider=KMS_A, providerReady=True, onUnreadable="report")
    assert report["outcome"] == "failed"
    assert [entry["id"] for entry in report["rewrapped"]["failed"]] == [gone]
    assert "awskms.gone" in report["rewrapped"]["failed"][0]["why"]
    assert {provider for name, (provider, _) in life.keys().items() if name != gone} == {KMS_A}
    assert life.rows("SELECT encrypted_data FROM data_keys WHERE name = :name", name=gone) == before


def test_garbage_is_never_wrapped_anew_over_a_data_key(life: Life) -> None:
    """A key that an earlier, forgotten secret_key wraps unwraps to 16 bytes all the same: its own values tell that these are not it."""
    key = next(entry["key_id"] for entry in life.values if entry["form"] == "envelope-cfb-prefixed")
    wrapped = SecretKeyProvider("forgotten").wrap(bytes.fromhex(next(k["dek_hex"] for k in life.database.expected["data_keys"] if k["name"] == key)))
    life.execute("UPDATE data_keys SET encrypted_data = :wrapped WHERE name = :name", wrapped=wrapped, name=key)
    report = life.run("rewrap-data-keys", provider=KMS_A, providerReady=True, onUnreadable="report")
    assert (report["outcome"], [entry["id"] for entry in report["rewrapped"]["failed"]]) == ("failed", [key])
    assert life.rows("SELECT encrypted_data FROM data_keys WHERE name = :name", name=key)[0][0] == wrapped
    life.change_secret_key(NEW_KEY)
    assert life.run("rotate-secret-key", onUnreadable="report", unreadableBudget=1.0, **STOPPED)["outcome"] == "failed"
    assert life.rows("SELECT encrypted_data FROM data_keys WHERE name = :name", name=key)[0][0] == wrapped


def test_a_data_key_that_protects_nothing_is_proven_by_its_16_bytes(life: Life) -> None:
    spare = SecretKeyProvider(life.secret_key).wrap(bytes(range(16)))
    values = {"name": "aspare", "wrapped": spare, "provider": SECRET_KEY}
    statement = "INSERT INTO data_keys (name, active, scope, provider, encrypted_data, created, updated, label) VALUES (:name, 0, 'root', :provider, :wrapped"
    life.execute(f"{statement}, '2020-01-01 00:00:00', '2020-01-01 00:00:00', '2020-01-01/root@secretKey.v1')", **values)
    life.execute(
        f"{statement}, '2020-01-01 00:00:00', '2020-01-01 00:00:00', '2020-01-01/root@secretKey.v1')", **{**values, "name": "ashort", "wrapped": spare[:-1]}
    )
    report = life.run("rewrap-data-keys", provider=KMS_A, providerReady=True)
    assert [(entry["id"], entry["reason"]) for entry in report["rewrapped"]["failed"]] == [("ashort", "data-key-unreadable")]
    assert life.account.opener(life.rows("SELECT encrypted_data FROM data_keys WHERE name = 'aspare'")[0][0]) == bytes(range(16))


# --- prune-data-keys and rollback ---


def _only_under_kms(life: Life) -> set[str]:
    """Moves everything under a new data key of KMS; returns the keys that nothing needs any more."""
    old = set(life.keys())
    life.provider = KMS_A
    life.do("re-encrypt", providerReady=True)
    life.clock.advance(timedelta(days=5).total_seconds())
    return old


def test_a_data_key_that_is_referred_to_stays(life: Life) -> None:
    old = _only_under_kms(life)
    entry = next(entry for entry in life.values if entry["table"] == "data_source" and entry["form"] == "envelope-cfb-prefixed")
    value = payload.envelope(entry["key_id"], payload.CFB_PREFIX + bytes(40))
    life.execute("UPDATE plugin_setting SET secure_json_data = :text WHERE id = 1", text=f'{{"apiKey":"{base64.b64encode(value).decode()}"}}')
    report = life.do("prune-data-keys")
    assert kept(report)[entry["key_id"]] == "referenced"
    assert set(life.keys()) & old == {entry["key_id"]}


def test_a_data_key_that_an_unknown_column_names_stays_and_stops_a_rollback(life: Life) -> None:
    entry = next(entry for entry in life.values if entry["table"] == "user_auth" and entry["form"] == "envelope-cfb-prefixed")
    life.execute(f"CREATE TABLE plugin_state AS SELECT id, {entry['column']} AS token FROM user_auth WHERE id = :id", **entry["pk"])
    assert refused(life, "UnknownCiphertext", "rollback").startswith("plugin_state.token hold values under data keys")
    old = _only_under_kms(life)
    report = life.do("prune-data-keys")
    assert kept(report)[entry["key_id"]] == "referenced-by-unknown-column"
    assert report["unknown_ciphertext"] == [{"table": "plugin_state", "column": "token", "data_keys": {entry["key_id"]: 1}}]
    assert set(life.keys()) & old == {entry["key_id"]}


def test_a_wait_that_is_shorter_than_the_caches_life_removes_nothing(life: Life) -> None:
    old = _only_under_kms(life)
    report = life.do("prune-data-keys", settleSeconds=60)
    assert {kept(report)[name] for name in old} == {"cache-ttl-not-over"}
    assert old <= set(life.keys())
    assert not old & set(kept(life.do("prune-data-keys")))


def test_a_key_that_is_younger_than_a_caches_life_stays(life: Life) -> None:
    _only_under_kms(life)
    young = life.clock.now + timedelta(seconds=900)
    wrapped = SecretKeyProvider(life.secret_key).wrap(bytes(16))
    life.execute(
        "INSERT INTO data_keys (name, active, scope, provider, encrypted_data, created, updated, label) VALUES "
        "('ayoung', 0, 'root', 'secretKey.v1', :wrapped, :at, :at, '2020-01-01/root@secretKey.v1')",
        wrapped=wrapped, at=young.strftime("%Y-%m-%d %H:%M:%S"),
    )  # fmt: skip
    assert kept(life.do("prune-data-keys"))["ayoung"] == "too-young"
    life.clock.advance(7_200)
    assert "ayoung" not in kept(life.do("prune-data-keys"))


def test_a_key_that_grafana_makes_during_the_run_stays(life: Life) -> None:
    _only_under_kms(life)
    wrapped = SecretKeyProvider(life.secret_key).wrap(bytes(16))

    def settle(seconds: int) -> None:
        life.clock.advance(seconds)
        life.execute(
            "INSERT INTO data_keys (name, active, scope, provider, encrypted_data, created, updated, label) VALUES "
            "('amade', 1, 'root', 'secretKey.v1', :wrapped, '2020-01-01 00:00:00', '2020-01-01 00:00:00', '2020-01-01/root@secretKey.v1')",
            wrapped=wrapped,
        )

    life.run_.settle = settle
    assert kept(life.do("prune-data-keys"))["amade"] == "too-young"


def test_a_value_that_grafana_writes_while_a_prune_waits_keeps_its_key(life: Life) -> None:
    """Grafana has the key in its cache: it was active when the run began, and nothing referred to it."""
    _only_under_kms(life)
    spare = next(name for name in _grafanas(life) if life.keys()[name][1])
    _while_it_settles(life, spare)
    report = life.do("prune-data-keys")
    assert kept(report)[spare] == "referenced"
    assert _grafanas(life) == {spare}
    life.found()
    life.run_.settle = life.clock.advance
    life.do("re-encrypt", providerReady=True)
    life.clock.advance(3_600)
    assert spare not in kept(life.do("prune-data-keys"))
    assert _grafanas(life) == set()
    life.assert_under(KMS_A)


def test_a_value_that_grafana_writes_while_a_rollback_waits_is_rolled_back_too(life: Life) -> None:
    _while_it_settles(life, next(name for name, (_, active) in life.keys().items() if active))
    report = life.do("rollback")
    assert (report["sweeps"][0]["moved"], life.keys()) == (1, {})
    life.assert_under(None)


def test_a_value_that_grafana_writes_before_the_last_look_of_a_rollback_keeps_its_key(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a Grafana whose cache lives longer than its configuration says."""
    key = next(name for name, (_, active) in life.keys().items() if active)
    each = life.run_.over_all_chunks

    def passes(request: RunInput, workspace: Workspace, phase: Phase) -> None:
        if phase == Phase.SCAN:
            _grafana_writes(life, key)
        each(request, workspace, phase)

    monkeypatch.setattr(life.run_, "over_all_chunks", passes)
    report = life.run("rollback")
    assert (kept(report), list(life.keys())) == ({key: "referenced"}, [key])
    life.found()


@pytest.mark.parametrize("days", [0, 30])
def test_the_current_key_is_never_removed(life: Life, days: int) -> None:
    """Not even where nothing is under it yet."""
    life.do("rollback")
    life.provider = KMS_A
    life.do("re-encrypt", providerReady=True, tables=["user_auth"])
    [current] = life.keys()
    life.execute("DELETE FROM user_auth")
    life.clock.advance(days * 86_400)
    report = life.do("prune-data-keys")
    assert (kept(report)[current], list(life.keys())) == ("in-use", [current])


def test_a_key_whose_row_has_changed_since_the_last_look_stays(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    first, *_ = sorted(_only_under_kms(life))
    original = Database.delete_data_key

    def delete(database: Database, key: DataKey, system: System = System.GRAFANA) -> bool:
        if key.name == first:
            life.execute("UPDATE data_keys SET active = 1 WHERE name = :name", name=first)
        return original(database, key, system)

    monkeypatch.setattr(Database, "delete_data_key", delete)
    report = life.do("prune-data-keys")
    assert kept(report)[first] == "changed-meanwhile"
    assert life.keys()[first]


def test_what_a_dead_attempt_did_not_come_to_remove_is_not_called_removed(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    first, *_ = sorted(_only_under_kms(life))

    def dies(*_: object) -> bool:
        raise DatabaseUnavailable("gone")

    def twice(request: RunInput, workspace: Workspace) -> dict[str, Any]:
        with monkeypatch.context() as dying:
            dying.setattr(Database, "delete_data_key", dies)
            with pytest.raises(DatabaseUnavailable):
                remove_data_keys(request, workspace)
        life.execute("UPDATE data_keys SET active = 1 WHERE name = :name", name=first)
        return remove_data_keys(request, workspace)

    monkeypatch.setattr(local_run, "remove_data_keys", twice)
    report = life.do("prune-data-keys")
    assert kept(report)[first] == "in-use"
    assert first not in {entry["id"] for entry in report["removed"]["removed"]}
    assert life.keys()[first]


def test_a_worker_that_has_lost_its_lease_puts_no_removed_key_back(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    life.provider = KMS_A
    back = life.do("rollback")

    def lost(*_: object) -> int:
        raise LeaseHeld("this run has lost its lease")

    monkeypatch.setattr(CountingPulse, "beat", lost)
    refused(life, "LeaseHeld", "restore", run=back["run"])


def test_a_kms_key_is_not_called_safe_as_long_as_a_data_key_is_under_it(life: Life) -> None:
    _only_under_kms(life)
    life.provider = KMS_B
    answers = {key["providers"][0]: key for key in life.do("prune-data-keys")["kms_keys"]}
    assert (answers[KMS_A]["safe_to_disable"], answers[KMS_A]["data_keys"]) == (False, 1)
    life.do("rewrap-data-keys", providerReady=True)
    answers = {key["providers"][0]: key["safe_to_disable"] for key in life.do("prune-data-keys")["kms_keys"]}
    assert answers == {KMS_A: True, KMS_B: False}


def _grafanas(life: Life) -> set[str]:
    """The data keys that Grafana made."""
    return {name for name in set(life.keys()) if not name.startswith("reencrypt")}


def _grafana_writes(life: Life, key: str) -> None:
    """Saves a secret of a data source anew under a data key that `secret_key` wraps."""
    entry = next(entry for entry in life.values if entry["table"] == "data_source" and entry["form"] == "legacy-cfb-prefixed" and "plaintext" in entry)
    [row] = life.rows("SELECT encrypted_data FROM data_keys WHERE name = :name", name=key)
    opened = decryptor.decrypt(row[0], life.secret_key.encode(), lambda key_id: b"").plaintext
    written = payload.envelope(key, payload.encrypt_with_password(opened, entry["plaintext"].encode()))
    [stored] = life.rows("SELECT secure_json_data FROM data_source WHERE id = :id", **entry["pk"])
    text = json.dumps({**json.loads(stored[0]), entry["path"][0]: base64.b64encode(written).decode()})
    life.execute("UPDATE data_source SET secure_json_data = :text WHERE id = :id", text=text, **entry["pk"])


def _while_it_settles(life: Life, key: str) -> None:
    def settle(seconds: int) -> None:
        _grafana_writes(life, key)
        life.clock.advance(seconds)

    life.run_.settle = settle


def _write_legacy(life: Life, plaintext: bytes) -> None:
    """Leaves one value in data_source: `plaintext` directly under secret_key. It fits another key too."""
    while True:
        written = payload.encrypt_with_password(life.secret_key.encode(), plaintext)
        body = payload.parse(written).body
        if cipher.decrypt_body(cipher.Algorithm.CFB, body, NEW_KEY.encode()).isascii():
            break
    text = f'{{"password":"{base64.b64encode(written).decode()}"}}'
    life.execute("DELETE FROM data_source WHERE id <> (SELECT MIN(id) FROM data_source)")
    life.execute("UPDATE data_source SET secure_json_data = :text", text=text)
    assert decryptor.decrypt(written, life.secret_key.encode(), lambda key_id: b"").plaintext == plaintext
