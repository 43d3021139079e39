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
from reencrypt.grafana import payload as payloads
from reencrypt.grafana import secret_values
from reencrypt.grafana.secret_columns import ColumnGroup, SecretColumn, Shape, groups, secret_columns
from reencrypt.grafana.secret_values import State

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
    assert {column.shape for column in COLUMNS.values()} == set(Shape)
    assert Path(secret_values.__file__).is_file()
