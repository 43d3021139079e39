"""The tests' own tools: the independent decryptor reads every golden value as it stands."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from tests.support import decryptor, snapshot
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
