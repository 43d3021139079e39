"""What stands in a column: payloads, nothing, plaintext or damage; and new payloads in exactly the right place."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from reencrypt.errors import Reason
from reencrypt.grafana import manager_payload, secret_values, split_form
from reencrypt.grafana import payload as payloads
from reencrypt.grafana.key_ring import ManagerKeyRing
from reencrypt.grafana.secret_columns import ALL_SYSTEMS, ColumnGroup, SecretColumn, Shape, System, groups, secret_columns
from reencrypt.grafana.secret_values import SecretValue, State
from tests.support import decryptor

GOLDEN = Path(os.environ.get("GOLDEN") or Path(__file__).resolve().parents[3].parent / "shared" / "golden")
COLUMNS = {column.id: column for column in secret_columns()}
SOURCE = COLUMNS["data_source.secure_json_data"]
TOKEN = COLUMNS["user_auth.o_auth_access_token"]
SECRETS = COLUMNS["secrets.value"]
SNAPSHOT = COLUMNS["dashboard_snapshot.dashboard_encrypted"]
ALERTS = COLUMNS["alert_configuration.alertmanager_configuration"]
SSO = COLUMNS["sso_setting.settings"]

ENVELOPE = payloads.envelope("abcdefg", payloads.encrypt_with_password(b"k" * 16, b"hunter2"))
LEGACY = payloads.encrypt_with_password(b"secret", b"hunter2")
UNPREFIXED = LEGACY[len(payloads.CFB_PREFIX) :]

MANAGER = {column.id: column for column in secret_columns(System.MANAGER)}
SPLIT = MANAGER["secret_encrypted_value.encrypted_data"]
STORED_SNAPSHOT = MANAGER["resource.value/snapshots"]
[KEY_ID] = [column for group in groups([SPLIT]) for column in group.columns if column.shape is Shape.KEY_ID]
DATA_KEY = b"k" * 16
GCM = manager_payload.encrypt(DATA_KEY, b'{"panels":[]}')
JOINED = split_form.joined(GCM, b"uid1")
AT_SNAPSHOT = ("spec", "dashboardEncrypted", "encryptedData")


def std(payload: bytes) -> bytes:
    return base64.b64encode(payload)


def states(column: SecretColumn, stored: bytes | None) -> list[tuple[object, ...]]:
    return [(value.path, value.state, value.reason) for value in secret_values.read(column, stored)]


def test_the_columns_are_those_of_the_reference_list() -> None:
    reference = GOLDEN.parent / "secret-columns.yaml"
    if not reference.is_file():
        pytest.skip(f"{reference.name} is not beside this checkout")
    listed = {entry["id"]: entry for entry in yaml.safe_load(reference.read_text())["secret_columns"] if entry["system"] == "grafana"}
    assert list(COLUMNS) == list(listed)
    for column_id, entry in listed.items():
        column = COLUMNS[column_id]
        assert (column.table, list(column.primary_key), column.column) == (entry["table"], entry["primary_key"], entry["column"])
        assert (column.shape.value, column.base64.value, column.plaintext.value) == (entry["shape"], entry["base64"], entry["plaintext"])
        assert column.envelope is entry.get("envelope", True)
        assert list(column.secret_key_contains) == entry.get("secret_key_contains", [])
        assert [path.prefix for path in column.json_paths] == [path.get("path_prefix", "") for path in entry.get("json_paths", [])]
        assert bool(column.where) == bool(entry["where"])


def test_columns_of_the_same_rows_are_one_group() -> None:
    found: dict[str, ColumnGroup] = {group.id: group for group in groups(secret_columns())}
    assert len(found["user_auth"].columns) == 4
    assert len(found["user_external_session"].columns) == 5
    assert found["resource/repositories"].where == (("group", "provisioning.grafana.app"), ("resource", "repositories"))


@pytest.mark.parametrize("stored", [None, b""])
@pytest.mark.parametrize("column", COLUMNS.values(), ids=COLUMNS)
def test_no_value_is_one_empty_value(column: SecretColumn, stored: bytes | None) -> None:
    assert states(column, stored) == [(None, State.EMPTY, None)]


@pytest.mark.parametrize("stored", [b"null", b"{}", b" { } "])
@pytest.mark.parametrize("column", [SOURCE, ALERTS, SSO], ids=lambda column: column.id)
def test_a_document_without_secrets_is_one_empty_value(column: SecretColumn, stored: bytes) -> None:
    assert states(column, stored) == [(None, State.EMPTY, None)]


@pytest.mark.parametrize("payload", [ENVELOPE, LEGACY, UNPREFIXED, b"**" + UNPREFIXED])
def test_each_form_is_found_in_each_shape(payload: bytes) -> None:
    assert states(TOKEN, std(payload)) == [(None, State.PAYLOAD, None)]
    assert states(SECRETS, std(payload).rstrip(b"=")) == [(None, State.PAYLOAD, None)]
    assert states(SNAPSHOT, payload) == [(None, State.PAYLOAD, None)]
    assert states(SOURCE, b'{"a.b":"%b","c":null,"d":""}' % std(payload)) == [
        (("a.b",), State.PAYLOAD, None),
        (("c",), State.EMPTY, None),
        (("d",), State.EMPTY, None),
    ]


def test_padding_is_optional_when_reading_and_exact_when_writing() -> None:
    padded = std(ENVELOPE + b"x")
    assert padded.endswith(b"=")
    for column in (TOKEN, SECRETS):
        for stored in (padded, padded.rstrip(b"=")):
            [value] = secret_values.read(column, stored)
            new = secret_values.write(column, stored, [(value, ENVELOPE + b"y")])
            assert new == (std(ENVELOPE + b"y") if column is TOKEN else std(ENVELOPE + b"y").rstrip(b"="))


@pytest.mark.parametrize(
    ("column", "stored", "state", "reason"),
    [
        (TOKEN, b"Bearer", State.PLAINTEXT, None),
        (TOKEN, b"ya29.a0AfB_token-with-dots", State.PLAINTEXT, None),
        (TOKEN, b"0123456789abcdef0123456789abcdef", State.UNREADABLE, Reason.NOT_A_PAYLOAD),
        (TOKEN, std(ENVELOPE)[:-6] + b"!" + std(ENVELOPE)[-5:], State.UNREADABLE, Reason.BAD_BASE64),
        (TOKEN, std(LEGACY)[:-6] + b"!" + std(LEGACY)[-5:], State.UNREADABLE, Reason.BAD_BASE64),
        (TOKEN, std(ENVELOPE[:30]), State.UNREADABLE, Reason.TOO_SHORT),
        (TOKEN, std(b"#nothing closes this" + bytes(30)), State.UNREADABLE, Reason.BAD_KEY_ID),
        (TOKEN, std(b"*YWVz*" + bytes(40)), State.UNREADABLE, Reason.UNKNOWN_ALGORITHM),
        (SNAPSHOT, b'{"title": "a dashboard in plain text, longer than a salt"}', State.PLAINTEXT, None),
        (SNAPSHOT, bytes(64), State.UNREADABLE, Reason.NOT_A_PAYLOAD),
        (SOURCE, b'{"a"', State.UNREADABLE, Reason.MALFORMED_JSON),
        (SOURCE, b'["a"]', State.UNREADABLE, Reason.MALFORMED_JSON),
        (SOURCE, b"\xff\xfe", State.UNREADABLE, Reason.MALFORMED_JSON),
    ],
)
def test_what_is_no_payload_is_told_apart(column: SecretColumn, stored: bytes, state: State, reason: Reason | None) -> None:
    assert states(column, stored) == [(None, state, reason)]


def test_a_plaintext_token_that_would_decrypt_to_an_empty_secret_is_not_taken_for_one() -> None:
    """32 hexadecimal letters are base64 of 24 bytes: the length of an encrypted empty string."""
    for token in (b"0123456789abcdef0123456789abcdef", b"d41d8cd98f00b204e9800998ecf8427e"):
        [value] = secret_values.read(TOKEN, token)
        assert value.state is State.UNREADABLE


def test_a_number_in_a_json_map_is_reported_and_never_written() -> None:
    assert states(SOURCE, b'{"a":1,"b":{"c":"d"}}') == [(("a",), State.UNREADABLE, Reason.NOT_A_STRING), (("b",), State.UNREADABLE, Reason.NOT_A_STRING)]


def test_an_alertmanager_configuration_is_edited_in_its_secret_settings_only() -> None:
    settings = {"url": "x", "a.b": std(ENVELOPE).decode(), "empty": ""}
    configuration: dict[str, Any] = {
        "template_files": None,
        "alertmanager_config": {
            "receivers": [
                {"name": "none", "grafana_managed_receiver_configs": None},
                {
                    "name": "two",
                    "grafana_managed_receiver_configs": [{"settings": {"url": "plain"}, "secureSettings": None}, {"secureSettings": {"k": settings["a.b"]}}],
                },
            ]
        },
        "extra_config": [{"identifier": "i", "alertmanager_config": "crypto_" + std(LEGACY).decode()}, {"alertmanager_config": "route: plain"}],
    }
    stored = json.dumps(configuration, indent=1, ensure_ascii=False).encode()
    values = secret_values.read(ALERTS, stored)
    receiver = ("alertmanager_config", "receivers", 1, "grafana_managed_receiver_configs", 1, "secureSettings", "k")
    assert [(value.path, value.state) for value in values] == [
        (receiver, State.PAYLOAD),
        (("extra_config", 0, "alertmanager_config"), State.PAYLOAD),
        (("extra_config", 1, "alertmanager_config"), State.PLAINTEXT),
    ]
    new = secret_values.write(ALERTS, stored, [(value, ENVELOPE) for value in values if value.state is State.PAYLOAD])
    assert new == stored.replace(b"crypto_" + std(LEGACY), b"crypto_" + std(ENVELOPE))


def test_a_damaged_encrypted_alertmanager_is_unreadable_not_plaintext() -> None:
    stored = b'{"extra_config":[{"alertmanager_config":"crypto_not base64"}]}'
    assert states(ALERTS, stored) == [(("extra_config", 0, "alertmanager_config"), State.UNREADABLE, Reason.BAD_BASE64)]


def test_sso_settings_are_secret_by_key_name_at_any_depth() -> None:
    text = std(ENVELOPE).rstrip(b"=").decode()
    settings = {
        "client_secret": text,
        "config": {"servers": [{"bind_password": text, "host": "h", "private": ["left alone"]}]},
        "TLS_Client_Key": text,
        "allow_insecure_certificate": True,
        "certificate_path": "/etc/grafana/tls/certificates/grafana",
        "name": "GitHub",
        "private_key": "",
    }
    assert states(SSO, json.dumps(settings).encode()) == [
        (("client_secret",), State.PAYLOAD, None),
        (("config", "servers", 0, "bind_password"), State.PAYLOAD, None),
        (("TLS_Client_Key",), State.PAYLOAD, None),
        (("allow_insecure_certificate",), State.PLAINTEXT, None),
        (("certificate_path",), State.PLAINTEXT, None),
        (("private_key",), State.EMPTY, None),
    ]


@given(st.sampled_from(sorted(COLUMNS)), st.binary(max_size=120) | st.text(max_size=80).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_no_stored_value_whatever_raises(column_id: str, stored: bytes) -> None:
    assert secret_values.read(COLUMNS[column_id], stored)


@given(st.dictionaries(st.text(max_size=12), st.binary(max_size=40), max_size=5), st.sampled_from([None, 2]), st.booleans())
def test_a_json_map_keeps_everything_but_its_payloads(secrets: dict[str, bytes], indent: int | None, ascii_only: bool) -> None:
    stored = json.dumps(
        {name: std(payloads.envelope("k", b"*YWVzLWNmYg*aaaaaaaa" + bytes(16) + text)).decode() for name, text in secrets.items()},
        indent=indent,
        ensure_ascii=ascii_only,
    )
    before = stored.encode("utf-8", "replace")
    values = [value for value in secret_values.read(SOURCE, before) if value.state is State.PAYLOAD]
    after = secret_values.write(SOURCE, before, [(value, b"#a#" + bytes(number)) for number, value in enumerate(values)])
    expected = before
    for number, value in reversed(list(enumerate(values))):
        start, end = value.span
        expected = expected[:start] + b'"' + std(b"#a#" + bytes(number)) + b'"' + expected[end:]
    assert after == expected
    assert list(json.loads(after)) == list(json.loads(before))


def test_shapes_and_files_agree() -> None:
    declared = {column.shape for group in groups(secret_columns(*ALL_SYSTEMS)) for column in group.columns}
    assert declared == set(Shape)
    assert Path(secret_values.__file__).is_file()


def snapshot(encrypted: object, **more: object) -> bytes:
    return json.dumps({"kind": "Snapshot", "spec": {"title": "t {[", "dashboardEncrypted": encrypted, **more}, "status": {}}).encode()


def pair(payload: bytes = GCM, key_id: object = "uid1") -> dict[str, object]:
    return {"dataKeyId": key_id, "encryptedData": std(payload).decode()}


def manager_states(stored: bytes, column: SecretColumn = STORED_SNAPSHOT) -> list[tuple[object, ...]]:
    return [(value.path, value.state, value.reason) for value in secret_values.read(column, stored, "default")]


def test_a_value_of_the_manager_knows_its_key_and_its_namespace() -> None:
    [value] = secret_values.read(SPLIT, JOINED, "org-2")
    assert (value.path, value.state, value.span) == (None, State.PAYLOAD, (0, len(JOINED)))
    assert value.payload == manager_payload.parse(GCM, "uid1", "org-2")
    assert secret_values.read_place(SPLIT, JOINED, "org-2") == value


def test_a_value_of_data_keys_has_no_namespace() -> None:
    for column, stored in ((TOKEN, std(ENVELOPE)), (SOURCE, b'{"a":"%b"}' % std(ENVELOPE)), (SNAPSHOT, ENVELOPE)):
        assert [value.payload.scope for value in secret_values.read(column, stored, "org-2") if value.payload] == [""]


def test_the_column_of_the_key_ids_has_no_values() -> None:
    for stored in (None, b"", b"uid1", JOINED):
        assert secret_values.read(KEY_ID, stored, "default") == []


@pytest.mark.parametrize("salt", [b"*#*#*#*#", b"#*YQ*#**", bytes(8), b"\xff" * 8])
def test_a_binary_salt_does_not_make_a_value_of_the_manager_something_else(salt: bytes) -> None:
    body = salt + bytes(28)
    [value] = secret_values.read(SPLIT, split_form.joined(payloads.GCM_PREFIX + body, b"uid1"), "default")
    assert value.state is State.PAYLOAD
    assert value.payload is not None
    assert value.payload.body == body
    [pair_value] = secret_values.read(STORED_SNAPSHOT, snapshot(pair(payloads.GCM_PREFIX + body)), "default")
    assert pair_value.payload == value.payload


@pytest.mark.parametrize(
    ("stored", "reason"),
    [
        (GCM, Reason.BAD_KEY_ID),
        (b"#dWlk", Reason.BAD_KEY_ID),
        (b"##" + GCM, Reason.BAD_KEY_ID),
        (b"#dWlk#", Reason.EMPTY_PAYLOAD),
        (split_form.joined(JOINED, b"uid1"), Reason.UNKNOWN_ALGORITHM),
        (b"#dWlk#" + UNPREFIXED.replace(b"*", b"_"), Reason.UNKNOWN_ALGORITHM),
        (b"#dWlk#" + GCM[:40], Reason.TOO_SHORT),
    ],
)
def test_a_damaged_value_of_the_manager_has_its_reason(stored: bytes, reason: Reason) -> None:
    assert manager_states(stored, SPLIT) == [(None, State.UNREADABLE, reason)]


def test_nothing_in_a_column_of_the_manager_is_one_empty_value() -> None:
    for column in MANAGER.values():
        for stored in (None, b""):
            assert states(column, stored) == [(None, State.EMPTY, None)]


def test_a_new_value_of_the_manager_replaces_the_whole_joined_form() -> None:
    [value] = secret_values.read(SPLIT, JOINED, "default")
    new = split_form.joined(manager_payload.encrypt(DATA_KEY, b"x"), b"uid2")
    assert secret_values.write(SPLIT, JOINED, [(value, new)]) == new


@pytest.mark.parametrize("id_first", [True, False])
def test_a_stored_snapshot_is_one_value_whose_key_stands_beside_it(id_first: bool) -> None:
    held = {"x": "}", **pair(), "more": {"a": ["{", 1]}} if id_first else {**dict(reversed(pair().items())), "y": {}}
    stored = snapshot(held, after="kept")
    [value] = secret_values.read(STORED_SNAPSHOT, stored, "default")
    assert (value.path, value.state, value.payload) == (AT_SNAPSHOT, State.PAYLOAD, manager_payload.parse(GCM, "uid1", "default"))
    place = stored[slice(*value.span)]
    assert json.loads(place) == held
    alone = secret_values.read_place(STORED_SNAPSHOT, place, "default")
    assert (alone.state, alone.payload, alone.span) == (State.PAYLOAD, value.payload, (0, len(place)))
    payload = manager_payload.encrypt(DATA_KEY, b"[]")
    written = secret_values.write(STORED_SNAPSHOT, stored, [(value, split_form.joined(payload, 'uid "2" \u00e9'.encode()))])
    assert written == stored.replace(std(GCM), std(payload)).replace(b'"uid1"', b'"uid \\"2\\" \\u00e9"')
    [again] = secret_values.read(STORED_SNAPSHOT, written, "default")
    assert (again.path, again.payload) == (AT_SNAPSHOT, manager_payload.parse(payload, 'uid "2" \u00e9', "default"))


@pytest.mark.parametrize(
    ("stored", "path", "state", "reason"),
    [
        (snapshot(pair(key_id="")), AT_SNAPSHOT, State.UNREADABLE, Reason.BAD_KEY_ID),
        (snapshot(pair(key_id=None)), AT_SNAPSHOT, State.UNREADABLE, Reason.BAD_KEY_ID),
        (snapshot(pair(key_id=7)), AT_SNAPSHOT, State.UNREADABLE, Reason.BAD_KEY_ID),
        (snapshot({"encryptedData": std(GCM).decode()}), AT_SNAPSHOT, State.UNREADABLE, Reason.BAD_KEY_ID),
        (snapshot({**pair(), "encryptedData": 7}), AT_SNAPSHOT, State.UNREADABLE, Reason.NOT_A_STRING),
        (snapshot({**pair(), "encryptedData": {}}), AT_SNAPSHOT, State.UNREADABLE, Reason.NOT_A_STRING),
        (snapshot({**pair(), "encryptedData": "no base64"}), AT_SNAPSHOT, State.UNREADABLE, Reason.BAD_BASE64),
        (snapshot(pair(GCM[:40])), AT_SNAPSHOT, State.UNREADABLE, Reason.TOO_SHORT),
        (snapshot(pair(JOINED)), AT_SNAPSHOT, State.UNREADABLE, Reason.UNKNOWN_ALGORITHM),
        (snapshot(std(ENVELOPE).decode()), AT_SNAPSHOT[:-1], State.UNREADABLE, Reason.NOT_A_PAYLOAD),
        (snapshot([]), AT_SNAPSHOT[:-1], State.UNREADABLE, Reason.NOT_A_PAYLOAD),
        (snapshot(None), AT_SNAPSHOT, State.EMPTY, None),
        (snapshot({}), AT_SNAPSHOT, State.EMPTY, None),
        (snapshot({**pair(), "encryptedData": ""}), AT_SNAPSHOT, State.EMPTY, None),
        (snapshot({**pair(), "encryptedData": None}), AT_SNAPSHOT, State.EMPTY, None),
        (b'{"spec":{"dashboard":{}}}', None, State.EMPTY, None),
        (b'{"spec":null}', None, State.EMPTY, None),
        (b'{"spec":{"dashboardEncrypted":{', None, State.UNREADABLE, Reason.MALFORMED_JSON),
        (snapshot(pair()).replace(b'"dataKeyId"', b'"dataKeyId":"a","dataKeyId"'), AT_SNAPSHOT, State.UNREADABLE, Reason.MALFORMED_JSON),
        (snapshot(pair()).replace(b'"dashboardE', b'"dashboardEncrypted":null,"dashboardE'), AT_SNAPSHOT, State.UNREADABLE, Reason.MALFORMED_JSON),
    ],
)
def test_what_stands_in_place_of_a_snapshot_is_told_apart(stored: bytes, path: object, state: State, reason: Reason | None) -> None:
    assert manager_states(stored) == [(path, state, reason)]


@pytest.mark.parametrize("text", [b"", b"null", b"[]", b'"text"', b"{}", b'{"dataKeyId":"a"}', b"{", b"\xff"])
def test_a_place_that_holds_no_pair_is_an_answer_and_no_exception(text: bytes) -> None:
    assert secret_values.read_place(STORED_SNAPSHOT, text, "default").payload is None


@given(
    st.sampled_from(sorted(MANAGER)),
    st.binary(max_size=120)
    | st.text(max_size=80).map(lambda text: text.encode("utf-8", "surrogatepass"))
    | st.builds(lambda uid, rest: b"#" + std(uid) + b"#*YQ*" + rest, st.binary(max_size=9), st.binary(max_size=60))
    | st.recursive(
        st.none() | st.booleans() | st.text(max_size=8) | st.just(std(GCM).decode()),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["spec", "dashboardEncrypted", "encryptedData", "dataKeyId", "{"]), inner),
    ).map(lambda document: json.dumps(document).encode()),
)
def test_no_stored_value_of_the_manager_whatever_raises(column_id: str, stored: bytes) -> None:
    column = MANAGER[column_id]
    values = secret_values.read(column, stored, "default")
    assert values
    new = split_form.joined(GCM, b"new")
    changed = secret_values.write(column, stored, [(value, new) for value in values if value.state is State.PAYLOAD])
    for value, now in zip(values, secret_values.read(column, changed, "default"), strict=True):
        wanted = manager_payload.parse(GCM, "new", "default") if value.state is State.PAYLOAD else value.payload
        assert (now.path, now.state, now.reason, now.payload) == (value.path, value.state, value.reason, wanted)
    secret_values.read_place(column, stored, "default")


@given(st.text(max_size=12), st.text(min_size=1, max_size=20), st.sampled_from([None, 2]), st.booleans(), st.booleans())
def test_a_snapshot_keeps_everything_but_its_payload_and_its_id(text: str, uid: str, indent: int | None, ascii_only: bool, id_first: bool) -> None:
    held = {"a": text, **(pair() if id_first else dict(reversed(pair().items()))), text + "{": {"b": [text]}}
    document = {"spec": {"dashboardEncrypted": held, text: text}, "x": held}
    stored = json.dumps(document, indent=indent, ensure_ascii=ascii_only).encode()
    [value] = [value for value in secret_values.read(STORED_SNAPSHOT, stored, "default") if value.state is State.PAYLOAD]
    payload = payloads.GCM_PREFIX + b"#*#*#*#*" + bytes(40)
    written = secret_values.write(STORED_SNAPSHOT, stored, [(value, split_form.joined(payload, uid.encode()))])
    held |= {"dataKeyId": uid, "encryptedData": std(payload).decode()}
    assert json.loads(written) == {**document, "x": json.loads(stored)["x"], "spec": {**json.loads(stored)["spec"], "dashboardEncrypted": held}}
    start, end = value.span
    assert written.startswith(stored[:start])
    assert written.endswith(stored[end:])


def test_a_sealed_value_written_into_each_shape_is_read_by_an_independent_decryptor() -> None:
    ring = ManagerKeyRing(lambda scope, uid: DATA_KEY)
    sealed = ring.sealer("default", "uid2").seal(b'{"a":1}')

    def written(column: SecretColumn, stored: bytes) -> tuple[bytes, SecretValue]:
        [value] = secret_values.read(column, stored, "default")
        new = secret_values.write(column, stored, [(value, sealed)])
        return new, secret_values.read(column, new, "default")[0]

    whole, read_whole = written(SPLIT, JOINED)
    document, read_document = written(STORED_SNAPSHOT, snapshot(pair()))
    held = json.loads(document)["spec"]["dashboardEncrypted"]
    assert held["dataKeyId"] == "uid2"
    assert decryptor.decrypt(whole, b"", lambda _key_id: DATA_KEY) == decryptor.Found(b'{"a":1}', "uid2")
    assert decryptor.decrypt(decryptor.unbase64(held["encryptedData"]), DATA_KEY, lambda _key_id: b"").plaintext == b'{"a":1}'
    for value in (read_whole, read_document):
        assert value.payload is not None
        assert ring.decrypt(value.payload) == b'{"a":1}'
