"""The main job on databases that the real Grafana wrote: every plaintext survives, under the right key, and nothing else moves."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from reencrypt.errors import ConfigurationError, KeyAccessDenied, KeyUnusable
from reencrypt.grafana.secret_columns import ALL_SYSTEMS, secret_columns
from tests.support import decryptor, snapshot
from tests.support.golden import KMS_SECTION, GoldenDatabase
from tests.support.local_run import KMS, LocalRun

SECRET_PLACES = {(column.table, column.column) for column in secret_columns(*ALL_SYSTEMS)}
# Its reader knows no data keys, so a payload under one must never be written there.
NEVER_ENVELOPED = "alert_notification"
SQLITE = pytest.mark.parametrize("golden_database", ["12.4.0-sqlite"], indirect=True)


def entries(database: GoldenDatabase) -> list[dict[str, Any]]:
    """What expected.json lists of Grafana's own store."""
    return [entry for entry in database.expected["values"] if entry["form"] != "split-gcm"]


def local_run(database: GoldenDatabase, folder: Path, more: str = KMS_SECTION) -> LocalRun:
    return LocalRun(database.settings(more), folder)


def assert_all_readable(database: GoldenDatabase, run: LocalRun, provider: str) -> None:
    """Every plaintext of expected.json, by the independent decryptor, under an active data key of `provider`."""
    reader = decryptor.Reader(database.engine, database.expected["secret_key"], {KMS: run.kms.unwrap})
    for entry in entries(database):
        found = reader.read(entry)
        assert decryptor.matches(entry, found.plaintext), (entry["table"], entry["pk"], entry["path"])
        if entry["table"] == NEVER_ENVELOPED:
            assert found.key_id is None
            continue
        assert found.key_id is not None
        found_provider, _, active = reader.rows[found.key_id]
        assert (found_provider, active) == (provider, True)


def assert_only_secrets_changed(before: snapshot.Snapshot, after: snapshot.Snapshot, new_keys: int) -> None:
    changed = snapshot.difference(before, after)
    assert [entry[2] for entry in changed if entry[0] == "data_keys"] == ["*"] * new_keys
    assert {(table, column) for table, _, column in changed if table != "data_keys"} <= SECRET_PLACES


def sums(report: dict[str, Any]) -> None:
    """`values` is the sum of the six outcomes, for each column and in all."""
    outcomes = ("re_encrypted", "already_current", "empty", "changed_by_grafana", "plaintext", "unreadable")
    for counts in [*report["columns"], report["totals"]]:
        assert counts["values"] == sum(counts[outcome] for outcome in outcomes)
    for name in ("values", *outcomes):
        assert report["totals"][name] == sum(column[name] for column in report["columns"])


def test_plan_counts_what_is_there_and_writes_nothing(golden_database: GoldenDatabase, tmp_path: Path) -> None:
    before = snapshot.take(golden_database.engine)
    report = local_run(golden_database, tmp_path).run("plan")
    assert (report["outcome"], report["error"]) == ("succeeded", None)
    sums(report)
    wanted = golden_database.expected["values"]
    counted = {(column["table"], column["column"]): column["values"] - column["empty"] for column in report["columns"] if column["present"]}
    for place in SECRET_PLACES:
        assert counted.get(place, 0) == sum((entry["table"], entry["column"]) == place for entry in wanted), place
    census: dict[str, int] = {}
    for entry in wanted:
        key = f"{entry['pk']['namespace']}/{entry['key_id']}" if entry["form"] == "split-gcm" else entry["key_id"] or "secret_key"
        census[key] = census.get(key, 0) + 1
    assert report["census"]["before"] == census
    listed = {key["id"] if key["namespace"] is None else f"{key['namespace']}/{key['id']}": key["values"] for key in report["data_keys"]}
    assert {name: values for name, values in listed.items() if "/" not in name} == {
        key["name"]: census.get(key["name"], 0) for key in golden_database.expected["data_keys"] if key.get("namespace") is None
    }
    assert {name: values for name, values in listed.items() if "/" in name and values} == {name: count for name, count in census.items() if "/" in name}
    assert (report["unknown_ciphertext"], report["scan"]["tables"] > 20) == ([], True)
    assert report["totals"]["re_encrypted"] == len(entries(golden_database)) - 1, "all but the one whose reader knows no data keys"
    assert report["next_input"] == {"mode": "re-encrypt"}
    public = golden_database.expected["secret_key"] == "SW2YcwTIb9zpOOhoPsMm"
    assert any(note.startswith("secret_key is Grafana's public default") for note in report["notes"]) is public
    assert report["estimate"]["seconds"] > 0
    assert report["estimate"]["cost_usd"] > 0
    assert snapshot.difference(before, snapshot.take(golden_database.engine)) == []


@pytest.mark.parametrize("provider", [KMS, "secretKey.v1"])
def test_re_encrypt_leaves_every_plaintext_readable_and_touches_nothing_else(golden_database: GoldenDatabase, tmp_path: Path, provider: str) -> None:
    run = local_run(golden_database, tmp_path)
    before = snapshot.take(golden_database.engine)
    report = run.run("re-encrypt", provider=provider, providerReady=True)
    assert (report["outcome"], report["error"], report["unreadable"]) == ("succeeded", None, [])
    sums(report)
    after = snapshot.take(golden_database.engine)
    assert_only_secrets_changed(before, after, new_keys=1 if provider == KMS else 0)
    assert_all_readable(golden_database, run, provider)

    verified = run.run("verify", provider=provider)
    assert verified["outcome"] == "succeeded"
    assert verified["totals"]["re_encrypted"] == 0
    assert verified["totals"]["already_current"] == len(golden_database.expected["values"])

    again = run.run("re-encrypt", provider=provider, providerReady=True)
    assert (again["outcome"], again["totals"]["re_encrypted"]) == ("succeeded", 0)
    assert snapshot.difference(after, snapshot.take(golden_database.engine)) == [], "a second run writes nothing"

    forced = run.run("re-encrypt", provider=provider, providerReady=True, force=True)
    assert forced["totals"]["re_encrypted"] == len(golden_database.expected["values"]) - 1
    assert_all_readable(golden_database, run, provider)


@SQLITE
def test_the_way_back_from_kms_to_secret_key(golden_database: GoldenDatabase, tmp_path: Path) -> None:
    run = local_run(golden_database, tmp_path)
    run.run("re-encrypt", providerReady=True)
    report = run.run("re-encrypt", provider="secretKey.v1")
    assert report["outcome"] == "succeeded"
    assert_all_readable(golden_database, run, "secretKey.v1")


def test_a_wrong_secret_key_writes_nothing(golden_database: GoldenDatabase, tmp_path: Path) -> None:
    run = local_run(golden_database, tmp_path, KMS_SECTION + "secret_key_is_in = another section\n[security]\nsecret_key = another-key\n")
    before = snapshot.take(golden_database.engine)
    for mode in ("plan", "re-encrypt", "verify"):
        report = run.run(mode, **({"providerReady": True} if mode == "re-encrypt" else {}))
        assert (report["outcome"], report["error"]["name"]) == ("failed", "WrongSecretKey")
        assert "secret_key" in report["headline"]
    assert snapshot.difference(before, snapshot.take(golden_database.engine)) == []


def test_a_grafana_without_the_provider_is_never_stranded(golden_database: GoldenDatabase, tmp_path: Path) -> None:
    run = local_run(golden_database, tmp_path)
    before = snapshot.take(golden_database.engine)
    report = run.run("re-encrypt")
    assert report["error"]["name"] == "ProviderNotReady"
    assert '"providerReady": true' in report["error"]["message"]
    assert snapshot.difference(before, snapshot.take(golden_database.engine)) == []


@SQLITE
def test_a_key_that_grafana_made_is_proof_and_one_that_we_made_is_not(golden_database: GoldenDatabase, tmp_path: Path) -> None:
    run = local_run(golden_database, tmp_path)
    run.run("re-encrypt", providerReady=True)
    assert run.run("re-encrypt")["error"]["name"] == "ProviderNotReady"
    with golden_database.engine.begin() as connection:
        connection.execute(sa.text("UPDATE data_keys SET active = 0 WHERE provider = :kms"), {"kms": KMS})
        connection.execute(
            sa.text(
                "INSERT INTO data_keys VALUES ('dg5b0zacseolcb', 1, 'root', :kms, :wrapped, '2026-11-24 00:00:00', '2026-11-24 00:00:00', '2026-11-24/root@x')"
            ),
            {"kms": KMS, "wrapped": run.kms.wrap(bytes(range(16)))},
        )
    report = run.run("re-encrypt")
    assert (report["outcome"], report["data_key"]) == ("succeeded", "dg5b0zacseolcb")
    assert report["totals"]["re_encrypted"] == len(entries(golden_database)) - 1, "values under a deactivated key are not current"


@SQLITE
@pytest.mark.parametrize(
    "error",
    [
        KeyAccessDenied("awskms.example-encryption-key: KMS says AccessDenied"),
        KeyUnusable("it is disabled"),
        ConfigurationError("awskms.example-encryption-key: the session_token is expired"),
    ],
)
def test_a_kms_key_that_is_denied_or_disabled_ends_the_run_before_it_writes(golden_database: GoldenDatabase, tmp_path: Path, error: Any) -> None:
    run = local_run(golden_database, tmp_path)
    before = snapshot.take(golden_database.engine)
    run.kms.fails = error
    report = run.run("re-encrypt", providerReady=True)
    assert report["error"] == {"name": type(error).__name__, "message": str(error)}
    assert snapshot.difference(before, snapshot.take(golden_database.engine)) == []
    run.kms.fails = None
    run.run("re-encrypt", providerReady=True)
    after = snapshot.take(golden_database.engine)
    run.kms.fails = error
    assert run.run("re-encrypt", provider="secretKey.v1")["error"]["name"] == type(error).__name__
    verified = run.run("verify")
    assert verified["outcome"] == "failed"
    assert {entry["reason"] for entry in verified["unreadable"]} == {"provider-unavailable"}
    assert any(str(error) in note for note in verified["notes"])
    assert snapshot.difference(after, snapshot.take(golden_database.engine)) == []


DAMAGE = [
    ("flipped", "secrets", "value", lambda text: _flip(text), "implausible-plaintext"),
    ("truncated", "user_auth", "o_auth_access_token", lambda text: text[:40], "too-short"),
    ("not base64", "signing_key", "private_key", lambda text: f"{text[:50]}!{text[51:]}", "bad-base64"),
    ("unknown key", "cloud_migration_session", "auth_token", lambda text: _rename_key(text), "unknown-data-key"),
    ("unknown algorithm", "user_external_session", "access_token", lambda text: _rename_algorithm(text), "unknown-algorithm"),
    ("malformed json", "plugin_setting", "secure_json_data", lambda text: text[:-1], "malformed-json"),
    ("a number", "plugin_setting", "secure_json_data", lambda text: '{"apiKey": 12}', "not-a-string"),
]


def _flip(text: str) -> str:
    """Changes a character in the middle of the ciphertext: a block becomes garbage."""
    at = len(text) - 40
    return text[:at] + ("A" if text[at] != "A" else "B") * 4 + text[at + 4 :]


def _rename_key(text: str) -> str:
    import base64

    payload = decryptor.unbase64(text)
    return base64.b64encode(b"#" + base64.b64encode(b"absent").rstrip(b"=") + b"#" + payload.split(b"#", 2)[2]).decode()


def _rename_algorithm(text: str) -> str:
    import base64

    payload = decryptor.unbase64(text)
    return base64.b64encode(payload.replace(b"*YWVzLWNmYg*", b"*YWVzLWFiYw*", 1)).decode()


@pytest.mark.parametrize("golden_database", ["12.4.0-sqlite", "12.4.0-mysql", "12.4.0-postgres"], indirect=True)
@pytest.mark.parametrize(("table", "column", "damage", "reason"), [case[1:] for case in DAMAGE], ids=[case[0] for case in DAMAGE])
def test_a_damaged_value_is_reported_left_alone_and_fails_the_run(
    golden_database: GoldenDatabase, tmp_path: Path, table: str, column: str, damage: Any, reason: str
) -> None:
    [first] = entries_of(golden_database, table, column)[:1]
    with golden_database.engine.begin() as connection:
        stored = connection.execute(sa.text(f"SELECT {column} FROM {table} WHERE id = :id"), first["pk"]).scalar_one()
        text = damage(stored.decode() if isinstance(stored, bytes) else stored)
        connection.execute(sa.text(f"UPDATE {table} SET {column} = :text WHERE id = :id"), {"text": text, **first["pk"]})
    run = local_run(golden_database, tmp_path)
    report = run.run("re-encrypt", providerReady=True)
    assert report["outcome"] == "failed"
    assert {entry["reason"] for entry in report["unreadable"]} == {reason}
    assert {(entry["table"], entry["column"], tuple(entry["primary_key"].items())) for entry in report["unreadable"]} == {
        (table, column, tuple(first["pk"].items()))
    }
    sums(report)
    with golden_database.engine.connect() as connection:
        now = connection.execute(sa.text(f"SELECT {column} FROM {table} WHERE id = :id"), first["pk"]).scalar_one()
    assert (now.decode() if isinstance(now, bytes) else now) == text
    reader = decryptor.Reader(golden_database.engine, golden_database.expected["secret_key"], {KMS: run.kms.unwrap})
    for entry in entries(golden_database):
        if (entry["table"], entry["column"], entry["pk"]) != (table, column, first["pk"]):
            assert decryptor.matches(entry, reader.read(entry).plaintext)
    accepted = run.run("re-encrypt", providerReady=True, onUnreadable="report")
    assert (accepted["outcome"], accepted["totals"]["re_encrypted"]) == ("succeeded-with-unreadable", 0)


def entries_of(database: GoldenDatabase, table: str, column: str) -> list[dict[str, Any]]:
    # An envelope that is long enough to be damaged in its middle.
    return [entry for entry in entries(database) if (entry["table"], entry["column"]) == (table, column) and (entry["key_id"] or table == "signing_key")]


@SQLITE
def test_plaintext_where_a_payload_belongs_is_listed_and_left_alone(golden_database: GoldenDatabase, tmp_path: Path) -> None:
    with golden_database.engine.begin() as connection:
        connection.execute(sa.text("UPDATE user_auth SET o_auth_access_token = 'ya29.a-plain-token' WHERE id = 1"))
    report = local_run(golden_database, tmp_path).run("re-encrypt", providerReady=True)
    assert (report["outcome"], report["totals"]["plaintext"]) == ("succeeded", 1)
    assert report["plaintext_values"] == [{"table": "user_auth", "column": "o_auth_access_token", "primary_key": {"id": 1}, "path": None}]
    with golden_database.engine.connect() as connection:
        assert connection.execute(sa.text("SELECT o_auth_access_token FROM user_auth WHERE id = 1")).scalar_one() == "ya29.a-plain-token"
    assert "ya29" not in str(report)


def test_an_absent_table_is_reported_as_absent(golden_database: GoldenDatabase, tmp_path: Path) -> None:
    with golden_database.engine.begin() as connection:
        connection.execute(sa.text("DROP TABLE plugin_setting"))
    report = local_run(golden_database, tmp_path).run("re-encrypt", providerReady=True)
    assert report["outcome"] == "succeeded"
    [column] = [column for column in report["columns"] if column["table"] == "plugin_setting"]
    assert (column["present"], column["rows"], column["values"]) == (False, 0, 0)


@SQLITE
def test_only_the_named_tables_are_touched(golden_database: GoldenDatabase, tmp_path: Path) -> None:
    before = snapshot.take(golden_database.engine)
    report = local_run(golden_database, tmp_path).run("re-encrypt", providerReady=True, tables=["data_source", "secrets"])
    changed = {table for table, _, _ in snapshot.difference(before, snapshot.take(golden_database.engine))}
    assert changed == {"data_source", "secrets", "data_keys"}
    assert {column["table"] for column in report["columns"]} == {"data_source", "secrets"}


@SQLITE
def test_a_database_without_secrets_is_a_failure(golden_database: GoldenDatabase, tmp_path: Path) -> None:
    with golden_database.engine.begin() as connection:
        for table in dict.fromkeys(column.table for column in secret_columns(*ALL_SYSTEMS)):
            connection.execute(sa.text(f"DELETE FROM {table}"))
    run = local_run(golden_database, tmp_path)
    assert run.run("plan")["outcome"] == "nothing-found"
    assert run.run("re-encrypt", providerReady=True)["outcome"] == "nothing-found"


@SQLITE
@pytest.mark.parametrize("statements", [["ALTER TABLE data_keys DROP COLUMN label"], ["DROP TABLE data_keys"]])
def test_a_database_of_grafana_8_is_refused_before_it_is_written(golden_database: GoldenDatabase, tmp_path: Path, statements: Iterable[str]) -> None:
    with golden_database.engine.begin() as connection:
        for statement in statements:
            connection.execute(sa.text(statement))
    before = snapshot.take(golden_database.engine)
    report = local_run(golden_database, tmp_path).run("re-encrypt", provider="secretKey.v1")
    assert report["error"]["name"] == "SafetyError"
    assert "Upgrade Grafana" in report["error"]["message"]
    assert snapshot.difference(before, snapshot.take(golden_database.engine)) == []


def test_a_run_in_many_small_chunks_and_stretches_counts_each_value_once(
    golden_database: GoldenDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from reencrypt.operations import chunk

    monkeypatch.setattr(chunk, "PAGE_ROWS", 2)
    run = local_run(golden_database, tmp_path)
    run.out_of_time = lambda: True
    report = run.run("re-encrypt", providerReady=True, chunkRows=3)
    assert (report["outcome"], report["totals"]["re_encrypted"]) == ("succeeded", len(entries(golden_database)) - 1)
    sums(report)
    assert_all_readable(golden_database, run, KMS)


@SQLITE
def test_a_secret_key_taken_literally_from_the_environment_is_recognised(golden_database: GoldenDatabase, tmp_path: Path) -> None:
    """Grafana 12.4 encrypts under the text `$__file{…}` itself when GF_SECURITY_SECRET_KEY holds one."""
    from reencrypt.grafana.settings import load_settings

    variables = {"GF_SECURITY_SECRET_KEY": "$__env{REAL}", "REAL": golden_database.expected["secret_key"]}
    run = LocalRun(load_settings(golden_database.ini + KMS_SECTION, variables), tmp_path)
    report = run.run("re-encrypt", providerReady=True)
    assert report["outcome"] == "succeeded"
    assert any("GF_SECURITY_SECRET_KEY, expanded" in note for note in report["notes"])
