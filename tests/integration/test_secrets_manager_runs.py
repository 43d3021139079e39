"""The secrets manager's whole life: every mode over several namespaces, and no value ever goes under a key of another namespace.

Split and joined forms stand side by side, salts hold `*` and `#`, keys of three providers. The independent decryptor reads every value as Grafana
does: its key is looked up by namespace and uid. Sources: grafana-format.md 6; Grafana pkg/registry/apis/secret, pkg/storage/secret (12.3, 12.4).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from reencrypt.database.database import Database, Swap, Swapped
from reencrypt.grafana import cipher
from reencrypt.grafana.payload import GCM_PREFIX
from reencrypt.grafana.secret_columns import ColumnGroup
from reencrypt.grafana.settings import DEFAULT_SECRET_KEY
from tests.integration.conftest import EmptyDatabase
from tests.support import shapes
from tests.support.manager_store import KMS, LONG_AGO, SALT, V1, V2, VALUES, Manager, ManagerRun
from tests.support.shapes import DERIVE, Shape

NAMESPACES = ("default", "org-2", "stacks-12")


@pytest.fixture
def manager(request: pytest.FixtureRequest, empty_database: EmptyDatabase, tmp_path: Path) -> Manager:
    """Three namespaces, each with an old, a middle and a current key, values in every form, and snapshots; of the shape `request.param`, on each engine."""
    shaped = shapes.build(getattr(request, "param", Shape.V12_4), empty_database.engine)
    manager = Manager(shaped, empty_database.settings, ManagerRun(shapes.settings(shaped, empty_database.settings), tmp_path))
    for number, namespace in enumerate(NAMESPACES):
        for age, (name, days) in enumerate({"old": 300, "mid": 40, "now": 0}.items()):
            manager.add_key(namespace, f"{name}{number}{'abcdefghijk'}", active=age == 2, days=days)
        old, mid, now = (f"{name}{number}{'abcdefghijk'}" for name in ("old", "mid", "now"))
        manager.add(namespace, "token", old, f"ghp_{namespace}_1")
        manager.add(namespace, "token", mid, f"ghp_{namespace}_2", version=2, joined=True)
        manager.add(namespace, "webhook", now, f"hook of {namespace}")
        manager.add(namespace, "empty", old, "", joined=True)
        manager.add_snapshot("resource", namespace, old, f"Board of {namespace}")
        manager.add_snapshot("resource_history", namespace, mid, f"Old board of {namespace}")
        shapes.insert(
            empty_database.engine, "secret_secure_value", guid=f"g-{namespace}", name="token", namespace=namespace, created=LONG_AGO, updated=LONG_AGO,
            version=2, active=True, decrypters="[]",
        )  # fmt: skip
    return manager


SQLITE = pytest.mark.parametrize("empty_database", ["sqlite"], indirect=True)  # where nothing depends on the engine
EVERY_SHAPE = pytest.mark.parametrize("manager", [Shape.V12_JOINED, Shape.V12_3, Shape.V12_4], indirect=True)
OLD = frozenset(f"{name}{number}abcdefghijk" for name in ("old", "mid") for number in range(3))
NOW = frozenset(f"now{number}abcdefghijk" for number in range(3))


def own_part(report: Mapping[str, Any]) -> dict[str, int]:
    """The values of the secrets manager by their keys, which are named with their namespace."""
    return {name: count for name, count in (report["census"]["after"] or report["census"]["before"]).items() if "/" in name and "@" not in name}


@EVERY_SHAPE
def test_a_plan_and_a_verify_count_the_values_of_each_namespace_and_write_nothing(manager: Manager) -> None:
    before, under = shapes.picture(manager.shaped.engine), manager.there()
    for mode in ("plan", "verify"):
        report = manager.do(mode)
        counts: dict[str, int] = {}
        for entry, (uid, _, _) in zip(manager.values, under, strict=True):
            counts[f"{entry['namespace']}/{uid}"] = counts.get(f"{entry['namespace']}/{uid}", 0) + 1
        assert own_part(report) == counts
        listed = {(entry["namespace"], entry["id"]): entry["values"] for entry in report["data_keys"] if entry["system"] == "secrets_manager"}
        assert listed == {tuple(name.split("/")): count for name, count in counts.items()}
        assert report["unknown_ciphertext"] == []
    assert shapes.picture(manager.shaped.engine) == before


@EVERY_SHAPE
def test_values_go_under_the_key_of_their_own_namespace_in_the_split_form_and_nothing_else_of_a_row_changes(manager: Manager) -> None:
    before = {(row["namespace"], row["name"], row["version"]): row for row in manager.of_table(VALUES)}
    others = shapes.picture(manager.shaped.engine, lambda table, column: column in ("encrypted_data", "updated", "data_key_id") or table == "data_keys")
    manager.do("re-encrypt")
    assert {uid for uid, _, _ in manager.there()} == NOW
    for row in manager.of_table(VALUES):
        old = before[row["namespace"], row["name"], row["version"]]
        moved = bytes(row["encrypted_data"]) != bytes(old["encrypted_data"])
        assert moved == (row["name"] != "webhook")
        assert row["created"] == LONG_AGO
        assert (row["updated"] > LONG_AGO) == moved, "unix seconds, of rows that were written only"
        assert manager.joined == bytes(row["encrypted_data"]).startswith(b"#")
        assert manager.joined or row["data_key_id"] in NOW
    after = shapes.picture(manager.shaped.engine, lambda table, column: column in ("encrypted_data", "updated", "data_key_id") or table == "data_keys")
    for table in {"secret_secure_value", "secret_data_key", VALUES}:
        assert after[table] == others[table]
    again = manager.do("re-encrypt")
    assert again["totals"]["re_encrypted"] == 0


@EVERY_SHAPE
def test_a_rotation_makes_a_key_for_each_namespace_and_deactivates_the_others(manager: Manager) -> None:
    manager.do("rotate")
    under = manager.there()
    assert len({uid for uid, _, _ in under}) == len(NAMESPACES)
    assert not {uid for uid, _, _ in under} & (OLD | NOW)
    assert {(provider, active) for _, provider, active in under} == {(V1, True)}
    active = [row for row in manager.of_table("secret_data_key") if row["active"]]
    assert sorted(row["namespace"] for row in active) == sorted(NAMESPACES)
    assert {row["label"] for row in active} == {f"{manager.runs.clock.now:%Y-%m-%d}@{V1}"}
    run = f"run-{manager.runs.number}"
    manager.do("verify")
    manager.do("restore", run=run)
    assert {uid for uid, _, _ in manager.there()} == OLD | NOW


@pytest.mark.parametrize("target", [V2, KMS])
def test_values_and_keys_move_to_another_provider_that_grafana_has(manager: Manager, target: str) -> None:
    manager.refused("ProviderNotReady", f"has the provider {target}", "re-encrypt", managerProvider=target)
    manager.refused("ConfigurationError", "secret_key.v9", "re-encrypt", managerProvider="secret_key.v9", providerReady=True)
    manager.refused("ConfigurationError", "secret_key.v9", "rewrap-data-keys", managerProvider="secret_key.v9", providerReady=True)
    under = [uid for uid, _, _ in manager.there()]
    report = manager.do("rewrap-data-keys", managerProvider=target, providerReady=True)
    assert [uid for uid, _, _ in manager.there()] == under
    assert {provider for _, provider, _ in manager.there()} == {target}
    assert report["rewrapped"]["failed"] == []
    rows = manager.of_table("secret_data_key")
    assert {row["label"] for row in rows} == {f"{manager.runs.clock.now:%Y-%m-%d}@{target}"}
    assert {row["uid"] for row in rows if row["active"]} == NOW
    manager.do("restore", run=f"run-{manager.runs.number}")
    assert {provider for _, provider, _ in manager.there()} == {V1}
    manager.do("re-encrypt", managerProvider=target, providerReady=True)
    under_target = manager.there()
    assert {(provider, active) for _, provider, active in under_target} == {(target, True)}
    assert len({uid for uid, _, _ in under_target}) == len(NAMESPACES)
    manager.provider = target
    assert manager.do("re-encrypt", providerReady=True)["totals"]["re_encrypted"] == 0


def test_a_rotation_of_its_secret_key_wraps_its_keys_anew_and_changes_no_value(manager: Manager) -> None:
    values = manager.of_table(VALUES)
    manager.old_secret_keys[V1], manager.secret_keys[V1] = manager.secret_keys[V1], "the manager's next key"
    report = manager.do("rotate-secret-key")
    assert sum(report["rewrapped"]["rewrapped"].values()) == len(NAMESPACES) * 3
    assert manager.of_table(VALUES) == values
    manager.there()
    again = manager.do("rotate-secret-key")
    assert (again["rewrapped"]["rewrapped"], again["rewrapped"]["left"]) == ({}, len(NAMESPACES) * 3)
    manager.old_secret_keys.clear()
    manager.do("verify")


def test_every_secret_key_of_both_stores_is_rotated_at_once_whatever_provider_a_namespace_uses(manager: Manager) -> None:
    manager.do("rewrap-data-keys", managerProvider=V2, providerReady=True)
    manager.do("rotate", tables=[VALUES])
    assert {provider for _, provider, _ in manager.there()} == {V1, V2}
    manager.old_secret_keys, manager.secret_keys = manager.secret_keys, {V1: "the next first key", V2: "the next second key"}
    manager.security, manager.shaped.secret_key = (f"old_secret_key = {manager.shaped.secret_key}",), "the next secret_key of Grafana"
    report = manager.do("rotate-secret-key", settleSeconds=0)
    assert sum(report["rewrapped"]["rewrapped"].values()) == len(report["data_keys"])
    manager.there()
    manager.shaped.assert_all_there()
    manager.old_secret_keys, manager.security = {}, ()
    assert manager.do("verify")["totals"]["unreadable"] == 0


def test_keys_of_a_provider_that_is_gone_are_told_and_keep_their_rows(manager: Manager) -> None:
    manager.do("rewrap-data-keys", managerProvider=V2, providerReady=True)
    before, gone = manager.of_table("secret_data_key"), manager.secret_keys.pop(V2)
    values = manager.of_table(VALUES)
    for mode in ("re-encrypt", "rewrap-data-keys"):
        report = manager.run(mode, onUnreadable="report")
        assert {entry["reason"] for entry in report["unreadable"]} == {"provider-unavailable"}
        assert manager.of_table(VALUES) == values
        now = {row["uid"]: row for row in manager.of_table("secret_data_key")}
        assert [now[row["uid"]] for row in before] == before
    manager.do("prune-data-keys")
    manager.secret_keys[V2] = gone
    manager.there()


@SQLITE
def test_a_current_provider_without_a_section_stops_what_encrypts_and_nothing_else(manager: Manager) -> None:
    manager.provider = "secret_key.v7"
    for mode in ("re-encrypt", "rotate", "rewrap-data-keys"):
        manager.refused("ConfigurationError", "secret_key.v7", mode, providerReady=True)
    for mode in ("plan", "verify"):
        assert [note for note in manager.do(mode)["notes"] if "secret_key.v7" in note]


@SQLITE
def test_a_rotation_of_its_secret_key_with_a_wrong_old_one_fails_and_destroys_nothing(manager: Manager) -> None:
    right, keys = manager.secret_keys[V1], manager.of_table("secret_data_key")
    manager.old_secret_keys[V1], manager.secret_keys[V1] = "not the old key", "the manager's next key"
    report = manager.run("rotate-secret-key")
    assert report["outcome"] == "failed"
    assert manager.of_table("secret_data_key") == keys
    manager.secret_keys[V1] = right
    manager.there()


@SQLITE
def test_an_old_secret_key_without_a_new_one_is_told_and_writes_nothing(manager: Manager) -> None:
    manager.secret_keys.pop(V2)
    manager.old_secret_keys[V2] = "the second key"
    wrapped = GCM_PREFIX + cipher.encrypt_gcm(os.urandom(16), DERIVE(b"the second key", SALT), SALT)
    shapes.insert(
        manager.shaped.engine, "secret_data_key", uid="of-second-abcd", namespace="default", label="x", active=False, provider=V2, encrypted_data=wrapped,
        created=manager.shaped.now, updated=manager.shaped.now,
    )  # fmt: skip
    before = shapes.picture(manager.shaped.engine)
    report = manager.run("rotate-secret-key")
    assert report["outcome"] == "failed"
    assert "secret_key.v2" in str(report["error"] or report["rewrapped"]["failed"])
    assert shapes.picture(manager.shaped.engine) == before
    manager.there()


def test_a_prune_removes_what_nothing_of_its_namespace_refers_to_also_not_a_snapshot(manager: Manager) -> None:
    manager.add_key("org-2", "unused-abcdefgh", active=False, days=200)
    manager.do("prune-data-keys")
    assert {row["uid"] for row in manager.of_table("secret_data_key")} == OLD | NOW
    manager.do("re-encrypt", tables=[VALUES])
    manager.do("prune-data-keys")
    assert {row["uid"] for row in manager.of_table("secret_data_key")} == OLD | NOW, "snapshots still need them"
    manager.do("re-encrypt")
    report = manager.do("prune-data-keys")
    assert {entry["id"] for entry in report["removed"]["removed"] if entry["system"] == "secrets_manager"} == OLD
    assert {row["uid"] for row in manager.of_table("secret_data_key")} == NOW
    manager.there()
    manager.do("restore", run=f"run-{manager.runs.number}")
    assert {row["uid"] for row in manager.of_table("secret_data_key")} == OLD | NOW
    manager.there()


@SQLITE
def test_the_public_default_key_is_warned_of(manager: Manager) -> None:
    assert not [note for note in manager.do("plan")["notes"] if "public default" in note]
    manager.old_secret_keys[V1], manager.secret_keys[V1] = manager.secret_keys[V1], DEFAULT_SECRET_KEY
    manager.do("rotate-secret-key")
    manager.old_secret_keys.clear()
    [note] = [note for note in manager.do("plan")["notes"] if "public default" in note]
    assert V1 in note
    assert "rotate-secret-key" in note


# --- Grafana beside the run -------------------------------------------------------------------------------------------------------------


def meddling(manager: Manager, action: Callable[[], None]) -> None:
    """Does `action` once, between the read of a page of values and its write."""
    todo = [action]

    def wrap(ours: Database) -> Database:
        swap = ours.compare_and_swap

        def compare_and_swap(group: ColumnGroup, swaps: Sequence[Swap]) -> list[Swapped]:
            if group.table == VALUES and todo:
                todo.pop()()
            return swap(group, swaps)

        ours.compare_and_swap = compare_and_swap  # type: ignore[method-assign]  # the seam between read and write
        return ours

    manager.runs.wrap_database = wrap


@pytest.mark.parametrize("changed", ["encrypted_data", "data_key_id", "both"])
def test_whichever_column_grafana_changes_meanwhile_its_value_wins(manager: Manager, changed: str) -> None:
    entry = manager.values[0]
    manager.add_key("default", "twin0abcdefghij", active=False, days=250, key=manager.keys["old0abcdefghijk"])
    if changed != "data_key_id":
        entry["plaintext"] = "what Grafana has written meanwhile"
    news: dict[str, dict[str, Any]] = {
        "encrypted_data": {"encrypted_data": manager.sealed("old0abcdefghijk", entry["plaintext"])},
        "data_key_id": {"data_key_id": "twin0abcdefghij"},
        "both": {"encrypted_data": manager.sealed("mid0abcdefghijk", entry["plaintext"]), "data_key_id": "mid0abcdefghijk"},
    }
    new = news[changed]

    def write() -> None:
        where = "namespace = 'default' AND name = 'token' AND version = 1"
        with manager.shaped.engine.begin() as connection:
            connection.execute(sa.text(f"UPDATE {VALUES} SET {', '.join(f'{name} = :{name}' for name in new)} WHERE {where}"), new)

    meddling(manager, write)
    report = manager.do("re-encrypt")
    [column] = [column for column in report["columns"] if (column["table"], column["column"]) == (VALUES, "encrypted_data")]
    assert column["changed_by_grafana"] == 1
    assert [(sweep["moved"], sweep["changed_by_grafana"]) for sweep in report["sweeps"]] == [(1, 0), (0, 0)]
    assert {uid for uid, _, _ in manager.there()} == NOW


@SQLITE
def test_a_namespace_that_grafana_adds_meanwhile_is_never_written_under_a_key_of_another(manager: Manager) -> None:
    def add() -> None:
        manager.add_key("org-9", "new9abcdefghijk", active=False, days=0)
        manager.add("zz-org-9", "token", "new9abcdefghijk", "never")
        manager.values.pop()
        manager.add("org-9", "token", "new9abcdefghijk", "of a new namespace")

    meddling(manager, add)
    report = manager.run("re-encrypt", onUnreadable="report", maxSweeps=2)
    assert report["outcome"] == "failed", "what it has no key for is left, and told"
    assert report["left_under_old_keys"] == 1
    assert [entry["reason"] for entry in report["unreadable"]] == ["unknown-data-key"], "a key of another namespace is none"
    assert {uid for uid, _, _ in manager.there()} == NOW | {"new9abcdefghijk"}


# --- What cannot be read ----------------------------------------------------------------------------------------------------------------


@EVERY_SHAPE
def test_rows_with_bad_ids_are_reported_and_not_touched_by_any_mode(manager: Manager) -> None:
    payload = manager.sealed("now0abcdefghijk", "of nobody")
    bad = {
        "no id": (payload, "", "bad-key-id"),
        "not closed": (b"#bm93MGFiY2RlZmdoaWpr" + payload[:1] + b"x", "", "bad-key-id"),
        "no base64": (b"#!!#" + payload, "", "bad-key-id"),
        "of another namespace": (payload, "now1abcdefghijk", "unknown-data-key"),
        "of no row": (payload, "gone0abcdefghijk", "unknown-data-key"),
        "damaged": (payload[:-1] + bytes([payload[-1] ^ 1]), "now0abcdefghijk", "authentication-failed"),
        "without algorithm": (payload[12:], "now0abcdefghijk", "unknown-algorithm"),
        "too short": (payload[:40], "now0abcdefghijk", "too-short"),
    }
    for name, (stored, uid, _) in bad.items():
        manager.add_stored({"namespace": "default", "name": name, "version": 1}, stored, uid)
    where = "name IN ('no id', 'not closed', 'no base64', 'of another namespace', 'of no row', 'damaged', 'without algorithm', 'too short')"
    before = manager.of_table(f"{VALUES} WHERE {where} ORDER BY name")
    assert len(before) == len(bad)
    for mode in ("plan", "re-encrypt", "rotate", "rewrap-data-keys", "verify"):
        options = {} if mode == "rewrap-data-keys" else {"tables": [VALUES]}
        report = manager.run(mode, onUnreadable="report", **options)
        assert report["error"] is None, (mode, report["error"])
        told = {entry["primary_key"]["name"]: entry["reason"] for entry in report["unreadable"]}
        assert told == {name: reason for name, (_, _, reason) in bad.items()}, mode
        assert manager.of_table(f"{VALUES} WHERE {where} ORDER BY name") == before
        manager.there()


def test_a_snapshot_keeps_every_other_byte_and_gets_both_strings(manager: Manager) -> None:
    before = {row["guid"]: row for row in manager.of_table("resource")}
    manager.do("re-encrypt", tables=["resource"])
    moved = 0
    for row in manager.of_table("resource"):
        old, new = before[row["guid"]]["value"], row["value"]
        assert {**row, "value": old} == before[row["guid"]]
        if row["group"] == "dashboard.grafana.app":
            moved += old != new
            assert [strings(new, name) == strings(old, name) for name in ("dataKeyId", "encryptedData")] == [False, False]
            assert blanked(new) == blanked(old)
    assert moved == len(NAMESPACES)
    assert {uid for entry, (uid, _, _) in zip(manager.values, manager.there(), strict=True) if entry["table"] == "resource"} == NOW


def strings(document: str, name: str) -> str:
    return str(json.loads(document)["spec"]["dashboardEncrypted"][name])


def blanked(document: str) -> str:
    for name in ("dataKeyId", "encryptedData"):
        document = document.replace(strings(document, name), "", 1) if strings(document, name) else document
    return document


@SQLITE
def test_a_rollback_leaves_the_secrets_manager_as_it_is(manager: Manager) -> None:
    before, keys = manager.there(), manager.of_table("secret_data_key")
    rows = manager.of_table(VALUES)
    manager.runs.clock.advance(3 * 86_400)
    manager.do("rollback")
    assert (manager.there(), manager.of_table("secret_data_key"), manager.of_table(VALUES)) == (before, keys, rows)
    assert manager.of_table("data_keys") == []
