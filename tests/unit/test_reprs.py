"""No object of the product shows a secret when it is printed: whatever ends up in a log line, a traceback or a debugger's output."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from enum import Enum
from pathlib import Path
from typing import Any

import pytest

import reencrypt
from reencrypt.database.connect import create_engine
from reencrypt.database.database import Database, Row, Swap
from reencrypt.database.login import Credentials
from reencrypt.grafana import cipher, payload
from reencrypt.grafana.data_keys import DataKey
from reencrypt.grafana.environment import Environment
from reencrypt.grafana.ini import parse
from reencrypt.grafana.key_ring import KeyRing, ManagerKeyRing, ManagerSealer, Sealer, SecretKeySealer
from reencrypt.grafana.payload import Payload
from reencrypt.grafana.secret_columns import groups, secret_columns
from reencrypt.grafana.secret_values import SecretValue, State
from reencrypt.grafana.settings import DatabaseSettings, GrafanaSettings, KmsSection, SecretKeyCandidate, load_settings
from reencrypt.operations.aims import Reading, UnderDataKey
from reencrypt.operations.keys import Unwrapper
from reencrypt.operations.rewrite import Change, Rewrite
from reencrypt.operations.samples import Sample, Trust
from reencrypt.operations.secret_key_rotation import SecretKeys
from reencrypt.operations.witness import Witness
from reencrypt.operations.workspace import Workspace
from reencrypt.operations.wrapping import Wrapped
from reencrypt.providers.awskms import AwsKmsProvider, KmsOptions
from reencrypt.providers.manager_secret_key import ManagerSecretKeyProvider
from reencrypt.providers.rewrap import How, Rewrapped
from reencrypt.providers.secret_key import SecretKeyProvider
from reencrypt.storage.bucket import FolderBucket
from reencrypt.storage.journal import Entry, Journal
from reencrypt.storage.objects import RunStore
from tests.support.leaks import Emission, Needle, Searcher, told

TEXT, BYTES = "known-secret-text-5c31", b"\x00known\xff-secret\x80-bytes-9d"
GROUP = groups(secret_columns())[0]
NEEDLES = (Needle("the text", TEXT.encode()), Needle("the bytes", BYTES))
INI = f"[security]\nsecret_key = {TEXT}\n[database]\nurl = postgres://grafana:{TEXT}@db/grafana?sslpassword={TEXT}\n"


def holders(folder: Path) -> Iterator[object]:
    """One of each class that holds a secret or a ciphertext, filled with the needles."""
    key = SecretKeyCandidate(TEXT, "[security] secret_key")
    section = KmsSection("awskms.prod", "alias/grafana", "eu-north-1", "AKIA", TEXT, TEXT)
    parsed = Payload("key1", cipher.Algorithm.CFB, True, BYTES)
    row = Row((1,), (BYTES,), ("blob",))
    change = Change(("password",), BYTES, "digest")
    ring = KeyRing(TEXT.encode(), lambda key_id: BYTES[:16])
    ring.data_key("key1")
    data_key = DataKey("key1", True, "root", "secretKey.v1", BYTES, "label", datetime(2026, 11, 25, tzinfo=UTC))
    provider = SecretKeyProvider(TEXT)
    sealer = Sealer("key1", BYTES[:16], lambda password, salt: BYTES)
    journal = Journal(FolderBucket(folder), "run-1")
    settings = load_settings(INI)
    yield from (key, section, parsed, row, change, ring, data_key, provider, sealer, settings, settings.database)
    yield from (parse(INI), Environment({"GF_DATABASE_PASSWORD": TEXT}, lambda path: TEXT, "host"))
    yield from (Swap(row, {0: BYTES}), Rewrite(GROUP, row, {0: BYTES}, {0: [change]}), Entry("group", "column", (1,), None, BYTES, "digest"))
    yield SecretValue(("password",), State.PAYLOAD, parsed, prefix="")
    manager = ManagerKeyRing(lambda scope, uid: BYTES[:16])
    manager.data_key("default", "key1")
    yield from (manager, ManagerSealer("default", "key1", BYTES[:16], lambda password, salt: BYTES))
    yield from (SecretKeySealer(TEXT.encode(), lambda password, salt: BYTES), SecretKeys(TEXT.encode(), b"new"))
    yield from (ManagerSecretKeyProvider("secret_key.v1", TEXT), Credentials("grafana", TEXT))
    yield from (Rewrapped(BYTES, How.RE_ENCRYPT), Wrapped("secretKey.v1", BYTES, "unwrap and wrap"), Witness(secret_columns()[0], parsed))
    yield from (Sample(secret_columns()[0], parsed), Trust(key, frozenset(), 1), UnderDataKey(ring, frozenset(), sealer), Reading(BYTES, current=True))
    yield from (Unwrapper([data_key], {provider.name: provider}), AwsKmsProvider(section, KmsOptions()))
    yield DatabaseSettings("mysql", "db", 3306, "grafana", "grafana", TEXT, query={"sslpassword": TEXT})
    yield GrafanaSettings((key,), "awskms.prod", (), {"awskms.prod": section}, settings.database, timedelta(minutes=15), "aes-cfb", ())
    for kind in ("mysql", "postgres"):
        database = DatabaseSettings(kind, "db", 1, "grafana", "grafana", TEXT)
        yield create_engine(database, read_only=True)
        yield create_engine(database, read_only=True).url
        yield Database(database, read_only=True)
    store = RunStore(FolderBucket(folder), "run-1")
    yield Workspace(
        settings, lambda _: {provider.name: provider}, lambda _: Database(settings.database, read_only=True), store, lambda: datetime.now(UTC), journal
    )


def test_no_object_that_holds_a_secret_shows_it(tmp_path: Path) -> None:
    searcher = Searcher(NEEDLES)
    for held in holders(tmp_path):
        shown = f"{held!r} {held} {[held]!r} { ({'it': held})!r} {held!a}"
        leaks = searcher.search([Emission(type(held).__name__, shown.encode())])
        assert not leaks, told(leaks)


def test_the_needles_are_really_in_them(tmp_path: Path) -> None:
    """Or the test above could not fail: each object is opened, and shows the needles in what it holds."""
    without = [type(held).__name__ for held in holders(tmp_path) if not Searcher(NEEDLES).search([Emission("inside", _inside(held).encode())])]
    assert without == ["Engine", "Database"] * 2  # SQLAlchemy's own, whose password is in the URL beside them


def dataclasses_of_the_product() -> list[type[Any]]:
    found = dict[type[Any], None]()
    for module in pkgutil.walk_packages(reencrypt.__path__, "reencrypt."):
        for value in vars(importlib.import_module(module.name)).values():
            if inspect.isclass(value) and dataclasses.is_dataclass(value) and value.__module__.startswith("reencrypt."):
                found[value] = None
    return list(found)


_SECRET_TYPE = re.compile(r"\bbytes\b")
_SECRET_NAME = re.compile(r"password|secret_access|session_token|access_key|plaintext")
# By class and field: what looks like a secret and is none.
_HARMLESS = {
    ("Tally", "plaintext"): "places of plaintexts, for the report",
    ("Pass", "plaintext"): "places of plaintexts, for the report",
    ("SecretColumn", "plaintext"): "what kind of plaintext belongs into the column",
}


@pytest.mark.parametrize("kind", dataclasses_of_the_product(), ids=lambda kind: kind.__name__)
def test_a_dataclass_hides_fields_that_look_like_secrets(kind: type[Any]) -> None:
    """For classes to come, too: bytes are stored values, keys or ciphertexts."""
    shown = {
        entry.name
        for entry in dataclasses.fields(kind)
        if entry.repr and (_SECRET_TYPE.search(str(entry.type)) or _SECRET_NAME.search(entry.name)) and (kind.__name__, entry.name) not in _HARMLESS
    }
    assert shown == set()


def test_each_exception_to_that_rule_is_of_a_class_that_there_is() -> None:
    fields = {(kind.__name__, entry.name) for kind in dataclasses_of_the_product() for entry in dataclasses.fields(kind)}
    assert set(_HARMLESS) <= fields
    assert len(dataclasses_of_the_product()) > 30


def _inside(value: object) -> str:
    """The attributes of an object of the product, and theirs."""
    if isinstance(value, dict):
        return " ".join(f"{key!r} {_inside(entry)}" for key, entry in value.items())
    if isinstance(value, list | tuple):
        return " ".join(map(_inside, value))
    if not type(value).__module__.startswith("reencrypt.") or isinstance(value, Enum):
        return repr(value)
    names = [*getattr(value, "__dict__", {}), *(name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ()))]
    return " ".join(_inside(getattr(value, name)) for name in names)


def test_payload_errors_carry_a_reason_and_nothing_else() -> None:
    with pytest.raises(Exception, match=r"^too-short$") as raised:
        payload.parse(b"#a2V5MQ#*YWVzLWNmYg*" + BYTES[:10])
    assert not Searcher(NEEDLES).search([Emission("error", f"{raised.value!r} {raised.value.args} {vars(raised.value)}".encode())])
