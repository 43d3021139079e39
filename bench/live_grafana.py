"""What a running Grafana does to its database while a run goes on: one method for each kind of writer, on any engine.

    grafana = LiveGrafana(engine, SecretsService(engine, b"secret", "secretKey.v1", {}, now), Truth(), random.Random(1), now)
    for _ in grafana.save_plugin(1): ...      # each step is one SQL statement or one transaction

Every operation is a generator that pauses between what it reads and what it writes, so that somebody else can come between; `truth` then holds
what users last stored. A replica is a LiveGrafana of its own with a SecretsService of its own over the same `truth`.
Source: the table of writers in Grafana 12.4's sources (login, OAuth refresh, data sources, plugin settings, alerting, SSO, snapshots, signing keys).
"""

from __future__ import annotations

import base64
import hashlib
import json
import random
from collections.abc import Callable, Generator, Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from bench.simulation.secrets_service import SecretsService
from bench.simulation.statements import GrafanaGaveUp, patiently
from bench.simulation.truth import Path, Place, Truth

__all__ = ["GrafanaGaveUp", "LiveGrafana", "Operation", "unbase64"]

Operation = Generator[None, None, None]
_TRIES = 6  # pkg/services/sqlstore: five retries of "database is locked", 10 ms apart
_ALERT = "alertmanager_configuration"


class LiveGrafana:
    """One Grafana process. `wrong_reads` are places where it read something else than what users had stored; `conflicts` counts refused saves."""

    def __init__(self, engine: sa.Engine, secrets: SecretsService, truth: Truth, rng: random.Random, now: Callable[[], datetime], tries: int = _TRIES) -> None:
        self.secrets, self.truth = secrets, truth
        self.wrong_reads: list[Place] = []
        self.conflicts = 0
        self._engine, self._rng, self._now, self._tries = engine, rng, now, tries
        self._quote = engine.dialect.identifier_preparer.quote

    # --- writers, in the order of the table ---

    def refresh_login(self, key: int) -> Operation:
        """Login or OAuth refresh: every token of the user is written anew, whatever stands there."""
        with self.truth.claim(("user_auth", key)) as free:
            found = yield from self._read("SELECT user_id, auth_module FROM user_auth WHERE id = :id", id=key) if free else _nothing()
            if found is None:
                return
            values = self._login_tokens()
            columns = yield from self._encrypted(values)
            assignments = ", ".join(f"{name} = :{name}" for name in columns)
            done = yield from self._write(
                (f"UPDATE user_auth SET {assignments} WHERE user_id = :user AND auth_module = :module",
                 {**columns, "user": found.user_id, "module": found.auth_module}),
            )  # fmt: skip
            if done:
                self.truth.stored("user_auth", key, _columns(values))

    def delete_login(self, key: int) -> Operation:
        """A login deletes a duplicate row, or an administrator the user."""
        yield from self._delete("user_auth", key)

    def first_login(self) -> Operation:
        """A user who was not there before: a new row."""
        key, values = self.truth.next_id("user_auth"), self._login_tokens()
        columns = yield from self._encrypted(values)
        yield from self._insert(
            "user_auth", key, _columns(values), user_id=key, auth_module="oauth_google", auth_id="sub",
            created=self._stamp(), **columns,
        )  # fmt: skip

    def refresh_session(self, key: int) -> Operation:
        """The tokens of an external session are written anew by id."""
        with self.truth.claim(("user_external_session", key)) as free:
            if not free:
                return
            values = {name: self._word(name) for name in ("access_token", "id_token", "refresh_token")}
            columns = yield from self._encrypted(values)
            if (yield from self._update("user_external_session", key, **columns)):
                self.truth.stored("user_external_session", key, _columns(values))

    def log_out(self, key: int) -> Operation:
        """Deletes the session."""
        yield from self._delete("user_external_session", key)

    def log_in(self) -> Operation:
        """A new session."""
        key = self.truth.next_id("user_external_session")
        values = {name: self._word(name) for name in ("access_token", "id_token", "refresh_token", "session_id")}
        columns = yield from self._encrypted(values)
        yield from self._insert(
            "user_external_session", key, _columns(values), user_auth_id=1, user_id=1, auth_module="oauth_google", name_id="",
            created_at=self._stamp(), **columns,
        )  # fmt: skip

    def save_data_source(self, key: int) -> Operation:
        """Reads the row, decrypts it, takes over what the form changed, encrypts all of it and writes the row and its copy in `secrets`."""
        with self.truth.claim(("data_source", key)) as free:
            found = yield from self._read("SELECT name, version, secure_json_data FROM data_source WHERE id = :id", id=key) if free else _nothing()
            if found is None:
                return
            stored: dict[str, str] = json.loads(found.secure_json_data)
            current = dict[str, str]()
            for name, text in stored.items():
                current[name] = yield from self._decrypted(Place("data_source", key, "secure_json_data", (name,)), text)
            changed = self._rng.choice(sorted(current))
            current[changed] = self._word(changed)
            yield from self._store_data_source(key, found.name, found.version, current)

    def create_data_source(self) -> Operation:
        """A new row, and its copy."""
        key = self.truth.next_id("data_source")
        yield from self._store_data_source(key, f"source-{key}", None, {"basicAuthPassword": self._word("password"), "tlsClientKey": self._word("key")})

    def delete_data_source(self, key: int) -> Operation:
        """The row and its copy go."""
        with self.truth.claim(("data_source", key)) as free:
            if free and (yield from self._write(
                ("DELETE FROM data_source WHERE id = :id", {"id": key}), ("DELETE FROM secrets WHERE namespace = :name", {"name": f"source-{key}"})
            )):  # fmt: skip
                for table in ("data_source", "secrets"):
                    if key in self.truth.rows.get(table, {}):
                        self.truth.removed(table, key)

    def save_plugin(self, key: int) -> Operation:
        """Reads the map, changes one key, and writes the whole map back: the other keys' payloads are those that it read."""
        with self.truth.claim(("plugin_setting", key)) as free:
            found = yield from self._read("SELECT secure_json_data FROM plugin_setting WHERE id = :id", id=key) if free else _nothing()
            if found is None:
                return
            stored: dict[str, str] = json.loads(found.secure_json_data)
            changed, word = self._rng.choice(sorted(stored)), self._word("plugin")
            stored[changed] = _std((yield from self.secrets.encrypt(word.encode())))
            yield
            if (yield from self._update("plugin_setting", key, secure_json_data=_dump(stored), updated=self._stamp())):
                self.truth.stored("plugin_setting", key, {("secure_json_data", (changed,)): word.encode()})

    def create_plugin(self) -> Operation:
        """A plugin is set up."""
        key, values = self.truth.next_id("plugin_setting"), {name: self._word(name) for name in ("apiKey", "token")}
        stored = yield from self._encrypted(values)
        yield from self._insert(
            "plugin_setting", key, _map("secure_json_data", values), org_id=1, plugin_id=f"acme-app-{key}", enabled=1, json_data="{}",
            secure_json_data=_dump(stored), created=self._stamp(), updated=self._stamp(),
        )  # fmt: skip

    def save_alerting(self, key: int) -> Operation:
        """Changes one contact point; payloads of the others are copied from what was read. Refused if the configuration's hash has changed."""
        with self.truth.claim(("alert_configuration", key)) as free:
            found = yield from self._read(f"SELECT {_ALERT}, configuration_hash FROM alert_configuration WHERE id = :id", id=key) if free else _nothing()
            if found is None:
                return
            document = json.loads(found[0])
            values = self.truth.of_row("alert_configuration", key)
            chosen = self._rng.choice(sorted(values, key=str))
            values[chosen] = self._word("contact").encode()
            _put(document, chosen[1] or (), _std((yield from self.secrets.encrypt(values[chosen]))))
            yield
            yield from self._store_alerting(key, document, found.configuration_hash, values)

    def activate_history(self, key: int) -> Operation:
        """An older version becomes the current one: its payloads are copied, whatever key they are under."""
        with self.truth.claim(("alert_configuration", 1), ("alert_configuration_history", key)) as free:
            if not free or not self.truth.rows.get("alert_configuration"):
                return
            version = yield from self._read(f"SELECT {_ALERT} FROM alert_configuration_history WHERE id = :id", id=key)
            current = yield from self._read("SELECT configuration_hash FROM alert_configuration WHERE id = 1")
            if version is not None and current is not None:
                yield from self._store_alerting(1, json.loads(version[0]), current.configuration_hash, self.truth.of_row("alert_configuration_history", key))

    def create_alerting(self) -> Operation:
        """An organisation's first configuration, with its history row."""
        receivers, values = [], dict[tuple[str, Path | None], bytes]()
        for number, (kind, name) in enumerate((("slack", "url"), ("pagerduty", "integrationKey"))):
            word = self._word(kind)
            config = {"uid": kind, "name": kind, "type": kind, "settings": {}, "secureSettings": {name: _std((yield from self.secrets.encrypt(word.encode())))}}
            receivers.append({"name": kind, "grafana_managed_receiver_configs": [config]})
            path = ("alertmanager_config", "receivers", number, "grafana_managed_receiver_configs", 0, "secureSettings", name)
            values[_ALERT, path] = word.encode()
        document = {"template_files": None, "alertmanager_config": {"route": {"receiver": "slack"}, "receivers": receivers}}
        yield from self._store_alerting(self.truth.next_id("alert_configuration"), document, None, values)

    def save_sso(self, key: str) -> Operation:
        """Every secret of the provider is encrypted anew."""
        with self.truth.claim(("sso_setting", key)) as free:
            if not free:
                return
            yield from self._read("SELECT settings FROM sso_setting WHERE id = :id", id=key)
            word = self._word("sso")
            settings = {"enabled": True, "clientId": "grafana", "clientSecret": _rawstd((yield from self.secrets.encrypt(word.encode())))}
            if (yield from self._update("sso_setting", key, settings=json.dumps(settings), updated=self._stamp())):
                self.truth.stored("sso_setting", key, {("settings", ("clientSecret",)): word.encode()})

    def create_sso(self) -> Operation:
        """Single sign-on is set up."""
        key, word = f"8277-{self.truth.next_id('sso_setting')}-google", self._word("sso")
        settings = {"enabled": True, "clientId": "grafana", "clientSecret": _rawstd((yield from self.secrets.encrypt(word.encode())))}
        values: dict[tuple[str, Path | None], bytes] = {("settings", ("clientSecret",)): word.encode()}
        yield from self._insert(
            "sso_setting", key, values, provider="google", settings=json.dumps(settings), created=self._stamp(), updated=self._stamp(), is_deleted=0
        )

    def create_snapshot(self) -> Operation:
        """A dashboard snapshot: raw bytes."""
        key, document = self.truth.next_id("dashboard_snapshot"), json.dumps({"title": self._word("snapshot"), "panels": []}).encode()
        payload = yield from self.secrets.encrypt(document)
        yield from self._insert(
            "dashboard_snapshot", key, {("dashboard_encrypted", None): document}, name="orders", key=f"key-{key}",
            delete_key=f"delete-{key}", org_id=1, dashboard="", dashboard_encrypted=payload, created=self._stamp(), updated=self._stamp(),
        )  # fmt: skip

    def expire_snapshot(self, key: int) -> Operation:
        """The snapshot goes."""
        yield from self._delete("dashboard_snapshot", key)

    def create_signing_key(self) -> Operation:
        """The monthly signing key."""
        key, word = self.truth.next_id("signing_key"), self._word("key")
        pem = f"-----BEGIN PRIVATE KEY-----\n{word}\n-----END PRIVATE KEY-----\n".encode()
        payload = _rawstd((yield from self.secrets.encrypt(pem)))
        yield from self._insert("signing_key", key, {("private_key", None): pem}, key_id=f"id-{key}", private_key=payload, added_at=self._stamp(), alg="ES256")

    def read(self, place: Place) -> Operation:
        """A user's request reads a value; what it should be is taken from `truth` at the moment of the SELECT."""
        owner = "data_source" if place.table == "secrets" else place.table  # a data source's copy is written by its save
        with self.truth.claim((owner, place.key)) as free:
            if not free or place not in self.truth.values:
                return
            found = yield from self._read(f"SELECT {self._quote(place.column)} FROM {place.table} WHERE id = :id", id=place.key)
            if found is None:
                self.wrong_reads.append(place)
                return
            stored: Any = found[0] if place.path is None else _get(json.loads(found[0]), place.path)
            yield from self._decrypted(place, stored)

    # --- their SQL ---

    def _store_data_source(self, key: int, name: str, version: int | None, current: Mapping[str, str]) -> Operation:
        stored = yield from self._encrypted(current)
        copy = _rawstd((yield from self.secrets.encrypt(json.dumps(current).encode())))
        at = self._stamp()
        if version is None:
            statements = [
                ("INSERT INTO data_source (id, org_id, version, type, name, json_data, secure_json_data, uid, created, updated) "
                 "VALUES (:id, 1, 1, 'prometheus', :name, '{}', :map, :name, :at, :at)", {"id": key, "name": name, "map": _dump(stored), "at": at}),
                ("INSERT INTO secrets (id, org_id, namespace, type, value, created, updated) VALUES (:id, 1, :name, 'datasource', :value, :at, :at)",
                 {"id": key, "name": name, "value": copy, "at": at}),
            ]  # fmt: skip
        else:
            statements = [
                ("UPDATE data_source SET version = :next, secure_json_data = :map, updated = :at WHERE id = :id AND version < :next",
                 {"next": version + 1, "map": _dump(stored), "at": at, "id": key}),
                ("UPDATE secrets SET value = :value, updated = :at WHERE org_id = 1 AND namespace = :name AND type = 'datasource'",
                 {"value": copy, "at": at, "name": name}),
            ]  # fmt: skip
        if (yield from self._write(*statements)):
            self.truth.stored("data_source", key, _map("secure_json_data", current))
            self.truth.stored("secrets", key, {("value", None): json.dumps(current).encode()})

    def _store_alerting(self, key: int, document: Any, old_hash: str | None, values: Mapping[tuple[str, Path | None], bytes]) -> Operation:
        text, history = json.dumps(document, separators=(",", ":")), self.truth.next_id("alert_configuration_history")
        new_hash = hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
        statement = f"UPDATE alert_configuration SET {_ALERT} = :text, configuration_hash = :new WHERE id = :id AND configuration_hash = :old"
        parameters = {"text": text, "new": new_hash, "id": key, "old": old_hash}
        if old_hash is None:
            columns = f"id, {_ALERT}, configuration_version, created_at, org_id, configuration_hash"
            statement = f"INSERT INTO alert_configuration ({columns}) VALUES (:id, :text, 'v1', 0, :id, :new)"
            del parameters["old"]
        if (yield from self._write(
            (statement, parameters),
            (f"INSERT INTO alert_configuration_history (id, org_id, {_ALERT}, configuration_hash, configuration_version, created_at) "
             "VALUES (:id, 1, :text, :new, 'v1', :at)", {"id": history, "text": text, "new": new_hash, "at": int(self._now().timestamp())}),
        )):  # fmt: skip
            self.truth.stored("alert_configuration", key, values)
            self.truth.stored("alert_configuration_history", history, values)

    def _decrypted(self, place: Place, stored: str | bytes) -> Generator[None, None, str]:
        expected = self.truth.values.get(place)
        try:
            plaintext = yield from self.secrets.decrypt(unbase64(stored) if isinstance(stored, str) else bytes(stored))
        except (LookupError, ValueError):
            plaintext = b""
        if expected is not None and plaintext != expected:
            self.wrong_reads.append(place)
        return plaintext.decode(errors="replace")

    def _encrypted(self, values: Mapping[str, str]) -> Generator[None, None, dict[str, str]]:
        payloads = dict[str, str]()
        for name, word in values.items():
            payloads[name] = _std((yield from self.secrets.encrypt(word.encode())))
        yield
        return payloads

    def _read(self, statement: str, **parameters: object) -> Generator[None, None, sa.Row[Any] | None]:
        row = yield from patiently(self._engine, lambda connection: connection.execute(sa.text(statement), parameters).first(), self._tries)
        yield
        return row

    def _write(self, *statements: tuple[str, Mapping[str, object]]) -> Generator[None, None, bool]:
        """One transaction; False (and nothing is written) if its first statement finds no row. Nothing comes between its commit and `truth`."""

        def transaction(connection: sa.Connection) -> bool:
            for number, (statement, parameters) in enumerate(statements):
                if not connection.execute(sa.text(statement), parameters).rowcount and not number:
                    self.conflicts += 1
                    return False
            return True

        return (yield from patiently(self._engine, transaction, self._tries))

    def _update(self, table: str, key: int | str, **columns: object) -> Generator[None, None, bool]:
        assignments = ", ".join(f"{self._quote(name)} = :{name}" for name in columns)
        return (yield from self._write((f"UPDATE {table} SET {assignments} WHERE id = :id", {**columns, "id": key})))

    def _insert(self, table: str, row: int | str, values: Mapping[tuple[str, Path | None], bytes], **columns: object) -> Operation:
        names, marks = ", ".join(map(self._quote, columns)), ", ".join(f":{name}" for name in columns)
        if (yield from self._write((f"INSERT INTO {table} (id, {names}) VALUES (:id, {marks})", {**columns, "id": row}))):
            self.truth.stored(table, row, values)

    def _delete(self, table: str, key: int) -> Operation:
        with self.truth.claim((table, key)) as free:
            if free and (yield from self._write((f"DELETE FROM {table} WHERE id = :id", {"id": key}))):
                self.truth.removed(table, key)

    def _login_tokens(self) -> dict[str, str]:
        return {"o_auth_access_token": self._word("access"), "o_auth_refresh_token": self._word("refresh"), "o_auth_token_type": "Bearer"}

    def _word(self, kind: str) -> str:
        return f"{kind}-{self._rng.getrandbits(64):016x}"

    def _stamp(self) -> str:
        return f"{self._now():%Y-%m-%d %H:%M:%S}"


def unbase64(text: str) -> bytes:
    """Standard base64, padded or not; strict otherwise."""
    raw = text.rstrip("=")
    return base64.b64decode(raw + "=" * (-len(raw) % 4), validate=True)


def _nothing() -> Generator[None, None, None]:
    return
    yield


def _columns(values: Mapping[str, str]) -> dict[tuple[str, Path | None], bytes]:
    return {(name, None): word.encode() for name, word in values.items()}


def _map(column: str, values: Mapping[str, str]) -> dict[tuple[str, Path | None], bytes]:
    return {(column, (name,)): word.encode() for name, word in values.items()}


def _std(payload: bytes) -> str:
    return base64.b64encode(payload).decode()


def _rawstd(payload: bytes) -> str:
    return _std(payload).rstrip("=")


def _dump(values: Mapping[str, str]) -> str:
    """As Go marshals a map: compact, with sorted keys."""
    return json.dumps(values, separators=(",", ":"), sort_keys=True)


def _get(document: Any, path: Path) -> Any:
    for step in path:
        document = document[step]
    return document


def _put(document: Any, path: Path, value: str) -> None:
    _get(document, path[:-1])[path[-1]] = value
