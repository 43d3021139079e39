"""What a real Grafana 12.4 wrote into its secrets manager is read by this product's formats, and what they build is read by the independent decryptor."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa

from reencrypt.errors import PayloadError, Reason
from reencrypt.grafana import manager_payload, secret_values, split_form
from reencrypt.grafana.key_ring import ManagerKeyRing
from reencrypt.grafana.secret_columns import System, secret_columns
from reencrypt.grafana.secret_values import State
from tests.support import decryptor
from tests.support.golden import NAMES, GoldenDatabase

[SPLIT] = [column for column in secret_columns(System.MANAGER) if column.table == "secret_encrypted_value"]
VALUE = "SELECT encrypted_data, data_key_id FROM secret_encrypted_value WHERE namespace = :namespace AND name = :name AND version = :version"
WITH_MANAGER = [name for name in NAMES if name.startswith("12.")]


def entries(database: GoldenDatabase) -> list[dict[str, Any]]:
    found = [entry for entry in database.expected["values"] if entry.get("form") == "split-gcm"]
    assert found, "each golden database of 12.4 has values of the secrets manager"
    return found


def stored(database: GoldenDatabase, entry: dict[str, Any]) -> tuple[bytes, bytes]:
    with database.engine.connect() as connection:
        encrypted_data, data_key_id = connection.execute(sa.text(VALUE), entry["pk"]).one()
    return bytes(encrypted_data), data_key_id.encode()


def open_ring(database: GoldenDatabase) -> ManagerKeyRing:
    secret_key = database.expected["secrets_manager_secret_key"].encode()
    with database.engine.connect() as connection:
        rows = connection.execute(sa.text("SELECT namespace, uid, encrypted_data FROM secret_data_key")).all()
    wrapped = {(row.namespace, row.uid): bytes(row.encrypted_data) for row in rows}

    def unwrap(scope: str, uid: str) -> bytes:
        if (scope, uid) not in wrapped:
            raise PayloadError(Reason.UNKNOWN_DATA_KEY)
        return manager_payload.decrypt(secret_key, wrapped[scope, uid])

    return ManagerKeyRing(unwrap)


@pytest.mark.parametrize("golden_database", WITH_MANAGER, indirect=True)
def test_every_value_of_the_secrets_manager_is_read_as_grafana_wrote_it(golden_database: GoldenDatabase) -> None:
    ring = open_ring(golden_database)
    for entry in entries(golden_database):
        joined = split_form.joined(*stored(golden_database, entry))
        [value] = secret_values.read(SPLIT, joined, entry["pk"]["namespace"])
        assert value.state is State.PAYLOAD
        assert value.payload is not None
        assert value.payload.key_id == entry["key_id"]
        assert decryptor.matches(entry, ring.decrypt(value.payload))


@pytest.mark.parametrize("golden_database", WITH_MANAGER, indirect=True)
def test_a_value_sealed_anew_and_split_into_both_columns_is_read_by_the_independent_decryptor(golden_database: GoldenDatabase) -> None:
    expected, ring = golden_database.expected, open_ring(golden_database)
    for entry in entries(golden_database):
        scope, before = entry["pk"]["namespace"], split_form.joined(*stored(golden_database, entry))
        [value] = secret_values.read(SPLIT, before, scope)
        assert value.payload is not None
        sealed = ring.sealer(scope, entry["key_id"]).seal(ring.decrypt(value.payload))
        payload, uid = split_form.split(secret_values.write(SPLIT, before, [(value, sealed)]))
        assert payload != stored(golden_database, entry)[0]
        with golden_database.engine.begin() as connection:
            connection.execute(
                sa.text(
                    "UPDATE secret_encrypted_value SET encrypted_data = :payload, data_key_id = :uid "
                    "WHERE namespace = :namespace AND name = :name AND version = :version"
                ),
                {"payload": payload, "uid": uid.decode(), **entry["pk"]},
            )
    reader = decryptor.Reader(golden_database.engine, expected["secret_key"], manager_key=expected["secrets_manager_secret_key"])
    for entry in entries(golden_database):
        found = reader.read(entry)
        assert found.key_id == entry["key_id"]
        assert decryptor.matches(entry, found.plaintext)


@pytest.mark.parametrize("golden_database", ["12.4.0-sqlite"], indirect=True)
def test_a_value_of_another_namespace_or_another_secret_key_is_not_read(golden_database: GoldenDatabase) -> None:
    [entry, *_] = entries(golden_database)
    [value] = secret_values.read(SPLIT, split_form.joined(*stored(golden_database, entry)), "org-2")
    assert value.payload is not None
    with pytest.raises(PayloadError) as caught:
        open_ring(golden_database).decrypt(value.payload)
    assert caught.value.reason is Reason.UNKNOWN_DATA_KEY
    golden_database.expected["secrets_manager_secret_key"] += "x"
    with pytest.raises(PayloadError) as caught:
        open_ring(golden_database).data_key(entry["pk"]["namespace"], entry["key_id"])
    assert caught.value.reason is Reason.AUTHENTICATION_FAILED
