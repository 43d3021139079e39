"""Databases of Grafana 8.3 to 12.4: what a mode can do for a version it does, what it cannot it refuses with the reason, and then writes nothing.

The independent decryptor reads every secret after every run, that of 8.x as Grafana 8.x reads it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from tests.integration.conftest import EmptyDatabase
from tests.support import decryptor, shapes
from tests.support.lifecycle import CACHES, KEY_TABLES, KMS_A, KMS_B, SECRET_PLACES, LifeRun, arn
from tests.support.shapes import Shape, Shaped

OLD_SHAPES = [Shape.V8_3, Shape.V8_5]
NEW_SHAPES = [Shape.V9_4, Shape.V12_3, Shape.V12_4]
NEW_KEY = "the-next-secret-key-of-it"
NOT_READ_BY_8 = "nor values under a deactivated data key"
STOPPED: dict[str, Any] = {"settleSeconds": 0}


@dataclass
class Case:
    """A database of a shape, and what runs over it."""

    shaped: Shaped
    database: EmptyDatabase
    runs: LifeRun
    provider: str = "secretKey.v1"
    old_secret_key: str | None = None

    def run(self, mode: str, **options: Any) -> dict[str, Any]:
        lines = [f"encryption_provider = {self.provider}", *([f"old_secret_key = {self.old_secret_key}"] if self.old_secret_key else [])]
        for name in (KMS_A, KMS_B):
            lines += [f"[security.encryption.{name}]", f"key_id = {arn(name)}"]
        self.runs.settings = shapes.settings(self.shaped, self.database.settings, "\n".join(lines))
        return self.runs.run(mode, **options)

    def do(self, mode: str, **options: Any) -> dict[str, Any]:
        """A run that succeeds, writes nothing but secrets and data keys, and loses none."""
        before = self.others()
        report = self.run(mode, **options)
        assert (report["outcome"], report["error"], report["unreadable"]) == ("succeeded", None, []), (mode, report["headline"], report["error"])
        assert self.others() == before
        return report

    def refused(self, mode: str, reason: str, error: str = "SafetyError", **options: Any) -> None:
        """A run that is refused for that reason, and writes nothing."""
        before = self.everything()
        report = self.run(mode, **options)
        assert (report["outcome"], report["error"] and report["error"]["name"]) == ("failed", error), (mode, report["headline"], report["error"])
        assert reason in report["error"]["message"], report["error"]
        assert self.everything() == before

    def everything(self) -> dict[str, list[str]]:
        return shapes.picture(self.database.engine)

    def others(self) -> dict[str, list[str]]:
        """All but secrets, data keys and caches."""
        return shapes.picture(self.database.engine, lambda table, column: table in KEY_TABLES | CACHES or (table, column) in SECRET_PLACES)

    def there(self, secret_key: str | None = None, **options: Any) -> dict[str | None, int]:
        """How many secrets are under each data key; fails where one is not as it was."""
        unwrap: dict[str, Callable[[bytes], bytes]] = dict.fromkeys((KMS_A, KMS_B), self.runs.account.opener)
        return self.shaped.assert_all_there(self.shaped.reader(secret_key, unwrap, **options))

    def rotate_secret_key(self) -> dict[str, Any]:
        self.old_secret_key, self.shaped.secret_key = self.shaped.secret_key, NEW_KEY
        self.refused("rotate-secret-key", '"settleSeconds": 0')
        return self.do("rotate-secret-key", **STOPPED)

    def data_keys(self) -> dict[str, tuple[str, bool, str | None]]:
        """Provider, whether active, and label (None without such a column) of each row of data_keys."""
        label = "NULL" if self.shaped.shape.is_8 else "label"
        with self.database.engine.connect() as connection:
            rows = connection.execute(sa.text(f"SELECT name, provider, active, {label} AS label FROM data_keys"))
            return {row.name: (row.provider, bool(row.active), row.label) for row in rows}


@pytest.fixture
def case(request: pytest.FixtureRequest, empty_database: EmptyDatabase, tmp_path: Path) -> Case:
    """A database of the shape `request.param`, on each engine."""
    shaped = shapes.build(request.param, empty_database.engine)
    return Case(shaped, empty_database, LifeRun(shapes.settings(shaped, empty_database.settings), tmp_path))


EVERY_SHAPE = pytest.mark.parametrize("case", list(Shape), indirect=True)
EIGHT = pytest.mark.parametrize("case", OLD_SHAPES, indirect=True)
NINE_AND_LATER = pytest.mark.parametrize("case", NEW_SHAPES, indirect=True)


@EVERY_SHAPE
def test_a_plan_and_a_verify_read_every_secret_of_the_version_and_write_nothing(case: Case) -> None:
    before, under = case.everything(), case.there()
    plan = case.do("plan")
    assert plan["totals"]["values"] == len(case.shaped.entries)
    assert {None if key == "secret_key" else key: count for key, count in plan["census"]["before"].items()} == under
    assert {entry["id"]: entry["values"] for entry in plan["data_keys"]} == {key: count for key, count in under.items() if key}
    assert plan["unknown_ciphertext"] == []
    verified = case.do("verify")
    assert verified["totals"]["values"] == len(case.shaped.entries)
    assert {(column["table"], column["column"]) for column in plan["columns"] if column["values"]} == {
        (entry["table"], entry["column"]) for entry in case.shaped.entries
    }
    assert case.everything() == before


# --- Grafana 8.3 to 8.5 -----------------------------------------------------------------------------------------------------------------


@EIGHT
def test_what_grafana_8_could_not_read_is_refused_with_the_reason_and_nothing_is_written(case: Case) -> None:
    for mode in ("re-encrypt", "rotate", "rewrap-data-keys"):
        case.refused(mode, NOT_READ_BY_8)
        case.refused(mode, NOT_READ_BY_8, **STOPPED)
    case.refused("rollback", '"for": "8.x"')
    case.refused("rollback", '"for": "8.x"', **STOPPED)
    case.refused("rollback", '"settleSeconds": 0', **{"for": "8.x"})
    case.refused("prune-data-keys", '"settleSeconds": 0')
    case.there()


@EIGHT
def test_a_rotation_of_secret_key_leaves_grafana_8_the_forms_that_it_reads_and_is_undone_by_one_back(case: Case) -> None:
    before, keys = case.there(), case.data_keys()
    report = case.rotate_secret_key()
    assert report["totals"]["re_encrypted"] == before[None]
    assert report["rewrapped"]["rewrapped"] == {"unwrap and wrap": len(keys)}
    assert case.there(NEW_KEY) == before
    assert case.data_keys() == keys, "names, providers and what is active stay"
    assert not any(case.shaped.stored(entry).startswith(b"*") for entry in case.shaped.entries)
    case.refused("restore", "exchange secret_key and old_secret_key", "InvalidInput", run=f"run-{case.runs.number}")
    again = case.do("rotate-secret-key", **STOPPED)
    assert (again["totals"]["re_encrypted"], again["rewrapped"]["left"]) == (0, len(keys))
    case.old_secret_key, case.shaped.secret_key = NEW_KEY, shapes.SECRET_KEY
    case.do("rotate-secret-key", **STOPPED)
    assert case.there(shapes.SECRET_KEY) == before
    assert case.data_keys() == keys


@EIGHT
def test_a_rollback_of_a_stopped_grafana_8_leaves_what_needs_no_data_key_and_a_restore_brings_it_back(case: Case) -> None:
    before, keys = case.there(), case.data_keys()
    report = case.do("rollback", **{"for": "8.x"}, **STOPPED)
    assert report["totals"]["re_encrypted"] == sum(count for key, count in before.items() if key)
    assert {entry["id"] for entry in report["removed"]["removed"]} == set(keys)
    assert case.data_keys() == {}
    assert case.there(payload=decryptor.decrypt_as_8) == {None: len(case.shaped.entries)}, "as 8.x reads without envelopes"
    case.do("restore", run=f"run-{case.runs.number}")
    assert case.there() == before
    assert case.data_keys() == keys


@EIGHT
def test_a_prune_of_a_stopped_grafana_8_removes_exactly_what_nothing_refers_to(case: Case) -> None:
    before, keys = case.there(), case.data_keys()
    wrapped = case.shaped.under_secret_key(bytes(16), named=False)
    case.shaped.add_key("2022-01-01/root@secretKey.v1", bytes(16), "secretKey.v1", wrapped, days=300)
    report = case.do("prune-data-keys", **STOPPED)
    assert [entry["id"] for entry in report["removed"]["removed"]] == ["2022-01-01/root@secretKey.v1"]
    assert case.data_keys() == keys
    assert case.there() == before


# --- Grafana 9 and later ----------------------------------------------------------------------------------------------------------------


@NINE_AND_LATER
def test_values_go_under_kms_and_their_keys_from_one_kms_key_to_another(case: Case) -> None:
    legacy = sum(entry["form"] == "legacy" for entry in case.shaped.entries)
    case.refused("re-encrypt", "there is no proof", "ProviderNotReady", provider=KMS_A)
    case.provider = KMS_A
    moved = case.do("re-encrypt", providerReady=True)
    under = case.there()
    assert under == {None: legacy, moved["data_key"]: len(case.shaped.entries) - legacy}
    case.provider = KMS_B
    case.do("rewrap-data-keys", providerReady=True)
    assert case.there() == under
    assert {provider for provider, _, _ in case.data_keys().values()} == {KMS_B}
    assert case.data_keys()[moved["data_key"]][2] == f"{case.runs.clock.now:%Y-%m-%d}/root@{KMS_B}"
    rotated = case.do("rotate", providerReady=True)
    assert case.there() == {None: legacy, rotated["data_key"]: len(case.shaped.entries) - legacy}
    assert [name for name, (_, active, _) in case.data_keys().items() if active] == [rotated["data_key"]]
    case.runs.clock.advance(3 * 86_400)
    case.do("prune-data-keys", providerReady=True)
    assert set(case.data_keys()) == {rotated["data_key"]}
    assert case.there() == {None: legacy, rotated["data_key"]: len(case.shaped.entries) - legacy}


@NINE_AND_LATER
def test_a_rotation_of_secret_key_keeps_each_form_of_the_version(case: Case) -> None:
    before, keys = case.there(), case.data_keys()
    forms = [case.shaped.stored(entry)[:12] for entry in case.shaped.entries]
    case.rotate_secret_key()
    assert case.there(NEW_KEY) == before
    assert case.data_keys() == keys
    for entry, form in zip(case.shaped.entries, forms, strict=True):
        now = case.shaped.stored(entry)[:12]
        assert now == form if form.startswith((b"#", b"*")) else not now.startswith((b"#", b"*")), entry


@NINE_AND_LATER
@pytest.mark.parametrize("options", [{}, {"for": "8.x"}], ids=["", "for-8.x"])
def test_a_rollback_leaves_what_the_wanted_grafana_reads_and_a_restore_brings_the_data_keys_back(case: Case, options: dict[str, Any]) -> None:
    before, keys = case.there(), case.data_keys()
    # Grafana makes a key on the day of the rollback as well: it stays until no transaction can be about to use it.
    case.runs.clock.advance(3 * 86_400)
    case.do("rollback", **options)
    reads = decryptor.decrypt_as_8 if options else decryptor.decrypt
    assert case.there(payload=reads) == {None: len(case.shaped.entries)}
    assert case.data_keys() == {}
    case.do("restore", run=f"run-{case.runs.number}")
    assert case.there() == before
    assert {name: key[0] for name, key in case.data_keys().items()} == {name: key[0] for name, key in keys.items()}
