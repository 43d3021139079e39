"""A small Grafana SQLite database with made-up secrets, for the demo and for tests: `make_sample(path, secret_key)`.

The tables are those of Grafana 12.4 (a selection, with all columns that matter here). As in a database with a history, one third of the values
is encrypted directly under `secret_key`, one third under an inactive data key and one third under the active one. Nobody is called as in real life.
"""

from __future__ import annotations

import base64
import contextlib
import datetime
import itertools
import json
import secrets
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from reencrypt.grafana.payload import encrypt_with_password, envelope

OLD_KEY, ACTIVE_KEY = "aeh3k2m9x7q1tb", "bf5d8w2n4c6v0e"  # data_keys.name, in the shape of Grafana 12
DEFAULT_SECRET_KEY = "SW2YcwTIb9zpOOhoPsMm"  # noqa: S105 - Grafana's public default
_NOW = datetime.datetime(2026, 11, 24, 21, 30, tzinfo=datetime.UTC)
_STAMP = f"{_NOW:%Y-%m-%d %H:%M:%S}"


@dataclass(frozen=True)
class ExpectedValue:
    """One secret of the sample: where it is, and its plaintext. `path` is None for a column that is one value."""

    table: str
    column: str
    primary_key: int | str
    path: tuple[str | int, ...] | None
    plaintext: bytes


def make_sample(path: Path, secret_key: str = DEFAULT_SECRET_KEY, *, rows: int = 24) -> list[ExpectedValue]:
    """Creates the database at `path` (which must not exist) with `rows` data sources and in proportion elsewhere; returns every secret in it."""
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        db.executescript(Path(__file__).with_name("sample.sql").read_text(encoding="utf-8"))
        return _Sample(db, secret_key.encode()).fill(rows)


class _Sample:
    def __init__(self, db: sqlite3.Connection, secret_key: bytes) -> None:
        self._db, self._expected = db, list[ExpectedValue]()
        keys = {name: secrets.token_bytes(16) for name in (OLD_KEY, ACTIVE_KEY)}
        for active, (name, key) in enumerate(keys.items()):
            created = f"{_NOW - datetime.timedelta(days=90 * (1 - active)):%Y-%m-%d %H:%M:%S}"
            self._insert(
                "data_keys",
                name=name,
                active=active,
                scope="root",
                provider="secretKey.v1",
                encrypted_data=encrypt_with_password(secret_key, key),
                created=created,
                updated=created,
                label=f"{created[:10]}/root@secretKey.v1",
            )
        forms: list[Callable[[bytes], bytes]] = [
            lambda plaintext: encrypt_with_password(secret_key, plaintext),
            lambda plaintext: envelope(OLD_KEY, encrypt_with_password(keys[OLD_KEY], plaintext)),
            lambda plaintext: envelope(ACTIVE_KEY, encrypt_with_password(keys[ACTIVE_KEY], plaintext)),
        ]
        self._forms = itertools.cycle(forms)

    def fill(self, rows: int) -> list[ExpectedValue]:
        self._insert("org", id=1, version=1, name="Main Org.", created=_STAMP, updated=_STAMP)
        self._insert(
            "dashboard", id=1, version=3, slug="orders", title="Orders", data='{"panels": [], "title": "Orders"}', org_id=1, created=_STAMP, updated=_STAMP
        )
        for number in range(1, rows + 1):
            self._data_source(number)
        for number in range(1, max(1, rows // 2) + 1):
            self._login(number)
        for number in range(1, max(1, rows // 8) + 1):
            self._insert(
                "plugin_setting",
                id=number,
                org_id=1,
                plugin_id=f"acme-app-{number}",
                enabled=1,
                pinned=0,
                json_data="{}",
                created=_STAMP,
                updated=_STAMP,
                plugin_version="1.4.0",
                secure_json_data=self._json_map("plugin_setting", number, {"apiKey": _token("plugin", number)}),
            )
            self._snapshot(number)
        self._insert("plugin_setting", id=rows + 1, org_id=1, plugin_id="plain-app", enabled=1, pinned=0, json_data="{}", created=_STAMP, updated=_STAMP)
        self._alerting()
        self._single_sign_on()
        pem = "-----BEGIN PRIVATE KEY-----\n" + base64.encodebytes(secrets.token_bytes(138)).decode() + "-----END PRIVATE KEY-----\n"
        self._insert(
            "signing_key",
            id=1,
            key_id="id-2026-11-es256",
            added_at=_STAMP,
            alg="ES256",
            private_key=self._text("signing_key", "private_key", 1, pem, padded=False),
        )
        return self._expected

    def _data_source(self, number: int) -> None:
        kind, secrets_of_it = [
            ("prometheus", {"basicAuthPassword": _token("prometheus", number)}),
            ("postgres", {"password": f"pä$$w0rd-{number} with ; and #"}),
            ("cloudwatch", {"accessKey": f"AKIAEXAMPLE{number:08d}", "secretKey": _token("cloudwatch", number)}),
            (
                "elasticsearch",
                {"httpHeaderValue1": f"Bearer {_token('elastic', number)}", "tlsClientKey": f"-----BEGIN RSA PRIVATE KEY-----\nMIIE{number:04d}\n"},
            ),
        ][number % 4]
        name = f"{kind} {number}"
        self._insert(
            "data_source",
            id=number,
            org_id=1,
            version=2,
            type=kind,
            name=name,
            access="proxy",
            url=f"http://{kind}-{number}.internal",
            basic_auth=0,
            is_default=int(number == 1),
            json_data="{}",
            created=_STAMP,
            updated=_STAMP,
            uid=f"ds{number:05d}",
            read_only=0,
            secure_json_data=self._json_map("data_source", number, secrets_of_it),
        )
        self._insert(
            "secrets",
            id=number,
            org_id=1,
            namespace=name,
            type="datasource",
            created=_STAMP,
            updated=_STAMP,
            value=self._text("secrets", "value", number, json.dumps(secrets_of_it, separators=(",", ":")), padded=False),
        )

    def _login(self, number: int) -> None:
        tokens = {
            "o_auth_access_token": f"ya29.{_token('access', number)}",
            "o_auth_refresh_token": f"1//{_token('refresh', number)}",
            "o_auth_token_type": "Bearer",
            "o_auth_id_token": f"eyJhbGciOiJSUzI1NiJ9.{_token('id', number)}.c2ln",
        }
        self._insert(
            "user_auth",
            id=number,
            user_id=number + 1,
            auth_module="oauth_google",
            auth_id=f"10{number:05d}",
            created=_STAMP,
            **{column: self._text("user_auth", column, number, text) for column, text in tokens.items()},
        )
        session = {
            "access_token": tokens["o_auth_access_token"],
            "id_token": tokens["o_auth_id_token"],
            "refresh_token": "" if number % 3 == 0 else tokens["o_auth_refresh_token"],
            "session_id": f"session-{number}",
            "name_id": f"user{number}@example.com",
        }
        self._insert(
            "user_external_session",
            id=number,
            user_auth_id=number,
            user_id=number + 1,
            auth_module="oauth_google",
            created_at=_STAMP,
            session_id_hash="",
            name_id_hash="",
            **{column: self._text("user_external_session", column, number, text) for column, text in session.items()},
        )

    def _snapshot(self, number: int) -> None:
        plaintext = json.dumps({"title": f"Orders {number}", "panels": [{"id": panel, "data": list(range(200))} for panel in range(5)]}).encode()
        self._expected.append(ExpectedValue("dashboard_snapshot", "dashboard_encrypted", number, None, plaintext))
        self._insert(
            "dashboard_snapshot",
            id=number,
            name=f"Orders {number}",
            key=f"key{number}",
            delete_key=f"delete{number}",
            org_id=1,
            user_id=1,
            external=0,
            external_url="",
            dashboard="{}",
            expires="2076-01-01 00:00:00",
            created=_STAMP,
            updated=_STAMP,
            dashboard_encrypted=next(self._forms)(plaintext),
        )

    def _alerting(self) -> None:
        for table, hashes in (("alert_configuration", 1), ("alert_configuration_history", 2)):
            for number in range(1, hashes + 1):
                receivers = [self._receiver(table, number, index, name) for index, name in enumerate(("slack", "pagerduty", "email"))]
                document = {"template_files": None, "alertmanager_config": {"route": {"receiver": "slack"}, "receivers": receivers}}
                self._insert(
                    table,
                    id=number,
                    org_id=1,
                    alertmanager_configuration=json.dumps(document, separators=(",", ":")),
                    configuration_version="v1",
                    created_at=int(_NOW.timestamp()),
                    configuration_hash=f"{number:032x}",
                )

    def _receiver(self, table: str, row: int, index: int, kind: str) -> dict[str, object]:
        settings = {
            "slack": {"url": f"https://hooks.slack.example/services/T0/B{row}/{_token('slack', row)}"},
            "pagerduty": {"integrationKey": _token("pagerduty", row)},
            "email": dict[str, str](),
        }[kind]
        place = ("alertmanager_config", "receivers", index, "grafana_managed_receiver_configs", 0, "secureSettings")
        secure = {key: self._value(table, "alertmanager_configuration", row, (*place, key), text) for key, text in settings.items()}
        config = {"uid": f"uid-{kind}", "name": kind, "type": kind, "disableResolveMessage": False, "settings": {}, "secureSettings": secure}
        return {"name": kind, "grafana_managed_receiver_configs": [config]}

    def _single_sign_on(self) -> None:
        row = "827721bd-f8d0-4b06-8ad5-758eb6bd9f62"
        secret = self._value("sso_setting", "settings", row, ("clientSecret",), _token("sso", 1), padded=False)
        self._insert(
            "sso_setting",
            id=row,
            provider="google",
            settings=json.dumps({"enabled": True, "clientId": "grafana", "clientSecret": secret}),
            created=_STAMP,
            updated=_STAMP,
            is_deleted=0,
        )

    def _json_map(self, table: str, row: int, values: dict[str, str]) -> str:
        payloads = {key: self._value(table, "secure_json_data", row, (key,), text) for key, text in sorted(values.items())}
        return json.dumps(payloads, separators=(",", ":"))

    def _text(self, table: str, column: str, row: int, plaintext: str, *, padded: bool = True) -> str:
        return self._value(table, column, row, None, plaintext, padded=padded) if plaintext else ""

    def _value(self, table: str, column: str, row: int | str, path: tuple[str | int, ...] | None, plaintext: str, *, padded: bool = True) -> str:
        self._expected.append(ExpectedValue(table, column, row, path, plaintext.encode()))
        text = base64.b64encode(next(self._forms)(plaintext.encode())).decode()
        return text if padded else text.rstrip("=")

    def _insert(self, table: str, **columns: object) -> None:
        names = ", ".join(f'"{name}"' for name in columns)
        self._db.execute(f'INSERT INTO "{table}" ({names}) VALUES ({", ".join("?" * len(columns))})', list(columns.values()))  # noqa: S608 - names from this file


def _token(kind: str, number: int) -> str:
    return f"{kind}-{number:04d}-{secrets.token_urlsafe(18)}"
