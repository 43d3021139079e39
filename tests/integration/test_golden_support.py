"""The tests' own tools: the independent decryptor reads every golden value as it stands."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from tests.integration.conftest import EmptyDatabase
from tests.support import big, decryptor, snapshot
from tests.support.golden import GoldenDatabase


def test_the_independent_decryptor_reads_every_golden_value(golden_database: GoldenDatabase) -> None:
    expected = golden_database.expected
    reader = decryptor.Reader(golden_database.engine, expected["secret_key"], manager_key=expected["secrets_manager_secret_key"])
    for entry in expected["data_keys"]:
        assert reader.data_key(entry["name"]).hex() == entry["dek_hex"]
    assert len(expected["values"]) > 100
    for entry in expected["values"]:
        found = reader.read(entry)
        assert decryptor.matches(entry, found.plaintext), (entry["table"], entry["pk"], entry["path"])
        assert found.key_id == entry["key_id"]


def test_the_independent_decryptor_does_not_read_a_damaged_value(golden_database: GoldenDatabase) -> None:
    expected = golden_database.expected
    entry = next(entry for entry in expected["values"] if (entry["table"], entry["column"]) == ("user_auth", "o_auth_access_token") and entry["key_id"])
    with golden_database.engine.begin() as connection:
        stored = connection.execute(sa.text("SELECT o_auth_access_token FROM user_auth WHERE id = :id"), entry["pk"]).scalar_one()
        damaged = stored[:80] + ("A" if stored[80] != "A" else "B") + stored[81:]
        connection.execute(sa.text("UPDATE user_auth SET o_auth_access_token = :damaged WHERE id = :id"), {"damaged": damaged, **entry["pk"]})
    found = decryptor.Reader(golden_database.engine, expected["secret_key"]).read(entry)
    assert not decryptor.matches(entry, found.plaintext)


def test_a_snapshot_sees_a_single_changed_byte(golden_database: GoldenDatabase) -> None:
    before = snapshot.take(golden_database.engine)
    assert snapshot.difference(before, snapshot.take(golden_database.engine)) == []
    with golden_database.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE data_source SET type = 'Loki' WHERE id = 1")
    [(table, key, column)] = snapshot.difference(before, snapshot.take(golden_database.engine))
    assert (table, column) == ("data_source", "type")
    assert key in [(1,), ((b"1", "integer"),)]


@pytest.mark.parametrize("golden_database", ["12.4.0-sqlite"], indirect=True)
def test_a_snapshot_sees_a_text_that_became_a_blob_of_the_same_bytes(golden_database: GoldenDatabase) -> None:
    before = snapshot.take(golden_database.engine)
    with golden_database.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE secrets SET value = CAST(value AS BLOB) WHERE id = 1")
    assert [(table, column) for table, _, column in snapshot.difference(before, snapshot.take(golden_database.engine))] == [("secrets", "value")]


def test_a_big_database_is_one_that_the_decryptor_reads(empty_database: EmptyDatabase) -> None:
    sealer = big.Sealer(salts=2)
    big.create_tables(empty_database.engine)
    big.add_data_key(empty_database.engine, sealer, "a-key")
    big.fill_secrets(empty_database.engine, 12_000, sealer)  # more than two batches
    big.fill_data_sources(empty_database.engine, 3, sealer, secrets=2)
    big.fill_snapshots(empty_database.engine, 2, sealer, size=1 << 20)
    reader = decryptor.Reader(empty_database.engine, "a-key")

    def read(table: str, column: str, number: int, path: list[str] | None = None) -> bytes:
        found = reader.read({"table": table, "column": column, "pk": {"id": number}, "path": path, "form": "envelope-cfb-prefixed"})
        assert found.key_id == sealer.key_id
        return found.plaintext

    assert (read("secrets", "value", 1), read("secrets", "value", 12_000)) == (b"password-0", b"password-11999")
    assert read("data_source", "secure_json_data", 3, ["httpHeaderValue2"]) == b"password-2"
    assert len(read("dashboard_snapshot", "dashboard_encrypted", 2)) == 1 << 20
