"""The declarations of both stores: those of the reference list, in groups that are read together."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml

from reencrypt.grafana.base64_text import Base64
from reencrypt.grafana.secret_columns import ALL_SYSTEMS, JsonPath, Shape, System, groups, secret_columns

GOLDEN = Path(os.environ.get("GOLDEN") or Path(__file__).resolve().parents[3].parent / "shared" / "golden")
MANAGER = {column.id: column for column in secret_columns(System.MANAGER)}


def test_without_a_system_the_columns_are_those_of_data_keys() -> None:
    assert secret_columns() == secret_columns(System.GRAFANA)
    assert {column.system for column in secret_columns()} == {System.GRAFANA}
    assert {column.shape for column in secret_columns()}.isdisjoint({Shape.SPLIT_RAW, Shape.KEY_ID})


def test_all_systems_together_are_each_of_them() -> None:
    assert set(ALL_SYSTEMS) == set(System)
    assert secret_columns(*ALL_SYSTEMS) == secret_columns(System.GRAFANA, System.MANAGER) == (*secret_columns(), *MANAGER.values())
    ids = [column.id for column in secret_columns(*ALL_SYSTEMS)]
    assert len(set(ids)) == len(ids)


def test_the_managers_columns_are_those_of_the_reference_list() -> None:
    reference = GOLDEN.parent / "secret-columns.yaml"
    if not reference.is_file():
        pytest.skip(f"{reference.name} is not beside this checkout")
    listed = {entry["id"]: entry for entry in yaml.safe_load(reference.read_text())["secret_columns"] if entry["system"] == "secrets_manager"}
    assert list(MANAGER) == list(listed)
    for column_id, entry in listed.items():
        column = MANAGER[column_id]
        assert (column.table, list(column.primary_key), column.column) == (entry["table"], entry["primary_key"], entry["column"])
        assert (column.shape.value, column.base64.value, column.plaintext.value) == (entry["shape"], entry["base64"], entry["plaintext"])
        assert (column.data_key_id_column, column.scope_column) == (entry.get("data_key_id_column"), entry["data_key_scope_column"])
        bumped = entry["updated_column"] if (entry["updated_column"] or {}).get("bump") else {}
        assert column.bump == bumped.get("name")
        assert column.json_paths == tuple(JsonPath.parse(path["path"], "", path["data_key_id_path"]) for path in entry.get("json_paths", []))
        assert all(f"{{q:{name}}} = '{value}'" in entry["where"] for name, value in column.where)
        assert bool(column.where) == bool(entry["where"])
        assert (column.since, column.envelope) == (entry["since"], True)


def test_a_value_is_read_together_with_its_data_key_id() -> None:
    [split] = [group for group in groups(secret_columns(*ALL_SYSTEMS)) if group.table == "secret_encrypted_value"]
    assert split.id == "secret_encrypted_value"
    assert split.primary_key == ("namespace", "name", "version")
    value, key_id = split.columns
    assert (value.id, value.column, value.shape) == ("secret_encrypted_value.encrypted_data", "encrypted_data", Shape.SPLIT_RAW)
    assert (key_id.id, key_id.column, key_id.shape) == ("secret_encrypted_value.data_key_id", "data_key_id", Shape.KEY_ID)
    assert (key_id.system, key_id.table, key_id.primary_key, key_id.where) == (System.MANAGER, value.table, value.primary_key, value.where)
    assert (key_id.data_key_id_column, key_id.bump, key_id.base64) == (None, None, Base64.NONE)


def test_the_groups_of_data_keys_are_the_same_with_and_without_the_manager() -> None:
    alone, together = groups(secret_columns()), groups(secret_columns(*ALL_SYSTEMS))
    assert together[: len(alone)] == alone
    assert [group.id for group in together[len(alone) :]] == ["secret_encrypted_value", "resource/snapshots", "resource_history/snapshots"]


@pytest.mark.parametrize("systems", [(System.GRAFANA,), (System.MANAGER,), ALL_SYSTEMS])
def test_a_group_is_of_one_store_and_reads_no_column_twice(systems: tuple[System, ...]) -> None:
    for group in groups(secret_columns(*systems)):
        assert len({column.system for column in group.columns}) == 1
        assert len({column.column for column in group.columns}) == len(group.columns)


def test_a_columns_paths_are_all_pairs_or_none() -> None:
    for column in secret_columns(*ALL_SYSTEMS):
        assert len({path.data_key_id is None for path in column.json_paths}) <= 1


@pytest.mark.parametrize(
    ("path", "prefix", "data_key_id_path"),
    [("spec.a.data", "", "spec.b.id"), ("spec.a.data", "", "id"), ("spec.a.data", "crypto_", "spec.a.id"), ("spec.*", "", "spec.id"), ("a[*]", "", "id")],
)
def test_an_id_that_does_not_stand_beside_its_payload_cannot_be_declared(path: str, prefix: str, data_key_id_path: str) -> None:
    with pytest.raises(ValueError, match="does not stand beside"):
        JsonPath.parse(path, prefix, data_key_id_path)
