"""Columns that a deployment declares: strict, in the words of the built-in list, never over a column that is known already."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from reencrypt.errors import ConfigurationError
from reencrypt.grafana import secret_columns as module
from reencrypt.grafana.base64_text import Base64
from reencrypt.grafana.declarations import Declaration
from reencrypt.grafana.plausibility import PlaintextKind
from reencrypt.grafana.secret_columns import ALL_SYSTEMS, JsonPath, SecretColumn, Shape, System, built_in, declared, groups, secret_columns

PLAIN = """
[[secret_column]]
table = "setting"
primary_key = ["id"]
column = "encrypted_value"
shape = "base64"
base64 = "std"
plaintext = "text"
"""
FULL = """
[[secret_column]]
id = "plugin.options/oauth"
table = "plugin"
primary_key = ["org_id", "name"]
column = "options"
shape = "json_paths"
base64 = "rawstd"
plaintext = "json"
json_paths = [{path = "oauth.clientSecret"}, {path = "headers[*].*", prefix = "enc_"}]
where = {kind = "oauth"}
envelope = false
bump = "updated"
since = "13.1"
"""
MANAGER = """
[[secret_column]]
table = "vault"
primary_key = ["uid"]
column = "data"
shape = "split_raw"
base64 = "none"
plaintext = "text"
system = "secrets_manager"
data_key_id_column = "key_id"
scope_column = "namespace"
"""


def test_a_declared_column_is_what_its_words_say() -> None:
    assert declared(PLAIN + FULL + MANAGER) == (
        SecretColumn(
            "setting.encrypted_value", "setting", ("id",), "encrypted_value", Shape.BASE64, Base64.STD, PlaintextKind.TEXT,
            since="declared", grafana_covers="never",
        ),
        SecretColumn(
            "plugin.options/oauth", "plugin", ("org_id", "name"), "options", Shape.JSON_PATHS, Base64.RAWSTD, PlaintextKind.JSON,
            json_paths=(JsonPath.parse("oauth.clientSecret"), JsonPath.parse("headers[*].*", "enc_")), where=(("kind", "oauth"),), envelope=False,
            since="13.1", grafana_covers="never", bump="updated",
        ),
        SecretColumn(
            "vault.data", "vault", ("uid",), "data", Shape.SPLIT_RAW, Base64.NONE, PlaintextKind.TEXT, since="declared", grafana_covers="never",
            system=System.MANAGER, data_key_id_column="key_id", scope_column="namespace",
        ),
    )  # fmt: skip


def test_nothing_declared_is_no_column() -> None:
    assert declared("") == ()


def test_every_built_in_declaration_could_have_been_declared() -> None:
    """So the two vocabularies are one."""
    shapes = {column.shape.value for column in built_in()}
    assert shapes <= set(Declaration.model_fields["shape"].annotation.__args__)  # type: ignore[union-attr]  # a Literal
    for column in built_in():
        Declaration.model_validate_json(_as_json(column))


def _as_json(column: SecretColumn) -> str:
    tables = tomllib.loads(Path(module.__file__).with_suffix(".toml").read_text())["secret_column"]
    return json.dumps(next(table for table in tables if table["id"] == column.id))


def changed(text: str, **fields: str) -> str:
    """`text` with other lines; an empty one takes the field away."""
    for name, value in fields.items():
        text = re.sub(rf"(?m)^{name} = .*\n", "", text) + (f"{name} = {value}\n" if value else "")
    return text


WRONG = {
    changed(PLAIN, table=""): "number 1 table: is missing; a name of letters",
    changed(PLAIN, table='"se;tting"'): "number 1 table: is not allowed; allowed: a name of letters",
    changed(PLAIN, table='"data_keys"'): "number 1 table: data_keys holds data keys",
    changed(PLAIN, table='"secret_data_key"'): "number 1 table: secret_data_key holds data keys",
    changed(PLAIN, primary_key='"id"'): 'number 1 primary_key: is not allowed; allowed: the columns of the primary key, such as ["id"]',
    changed(PLAIN, primary_key="[]"): "number 1 primary_key: is not allowed",
    changed(PLAIN, primary_key="[1]"): "number 1 primary_key[0]: is not allowed",
    changed(PLAIN, shape='"key_id"'): 'number 1 shape: is not allowed; allowed: "raw", "base64"',
    changed(PLAIN, shape='"raw"'): 'number 1 base64: is not allowed with the shape raw; allowed: "none"',
    changed(PLAIN, base64='"none"'): 'number 1 base64: is not allowed with the shape base64; allowed: "std" (padded) or "rawstd"',
    changed(PLAIN, base64='"url"'): 'number 1 base64: is not allowed; allowed: "std" (padded)',
    changed(PLAIN, plaintext='"xml"'): 'number 1 plaintext: is not allowed; allowed: "text", "json" or "pem"',
    changed(PLAIN, envelope='"false"'): "number 1 envelope: is not allowed; allowed: true or false",
    changed(PLAIN, system='"vault"'): 'number 1 system: is not allowed; allowed: "grafana" or "secrets_manager"',
    changed(PLAIN, colum='"x"'): "number 1 colum: unknown; known: id, table, primary_key",
    changed(PLAIN, nullable="true"): "number 1 nullable: unknown",
    changed(PLAIN, id='"setting.value"'): "number 1 id: must be setting.encrypted_value, or left out",
    changed(PLAIN, shape='"json_paths"'): "number 1 json_paths: is missing: the shape json_paths needs it",
    changed(PLAIN, json_paths='[{path = "a"}]'): "number 1 json_paths: belongs to the shape json_paths",
    changed(PLAIN, shape='"json_by_key"'): "number 1 secret_key_contains: is missing: the shape json_by_key needs it",
    changed(PLAIN, shape='"json_by_key"', secret_key_contains='["Secret"]'):
        "number 1 secret_key_contains[0]: is not allowed; allowed: a list of lower-case texts",
    changed(PLAIN, where='{kind = 1}'): "number 1 where.kind: is not allowed; allowed: a table of columns and texts",
    changed(PLAIN, where='{kind = ""}'): "number 1 where.kind: is not allowed",
    changed(PLAIN, where='"kind = oauth"'): "number 1 where: is not allowed",
    changed(PLAIN, scope_column='"namespace"'): "number 1 scope_column: belongs to the secrets_manager",
    changed(PLAIN, data_key_id_column='"key"'): "number 1 data_key_id_column: belongs to the shape split_raw",
    changed(PLAIN, system='"secrets_manager"', scope_column='"namespace"'): "number 1 shape: the secrets_manager's payloads are split_raw",
    changed(MANAGER, scope_column=""): "number 1 scope_column: is missing",
    changed(MANAGER, system="", scope_column=""): "number 1 system: a data key id that stands beside its payload",
    changed(FULL, json_paths='[{path = "[*].a"}]'): "number 1 json_paths[0].path: is not allowed; allowed: keys joined by dots",
    changed(FULL, json_paths='[{path = "a..b"}]'): "number 1 json_paths[0].path: is not allowed",
    changed(FULL, json_paths='[{paths = "a"}]'): "number 1 json_paths[0].path: is missing; keys joined by dots",
    changed(FULL, json_paths='["a"]'): "number 1 json_paths[0]: is not allowed",
    changed(MANAGER, shape='"json_paths"', base64='"std"', data_key_id_column="", json_paths='[{path = "a.b", data_key_id_path = "c.d"}]'):
        "number 1 json_paths: c.d does not stand beside a.b",
    PLAIN + changed(FULL, table=""): "number 2 table: is missing",
    PLAIN + PLAIN: "number 2 (setting.encrypted_value): setting.encrypted_value is in the list already",
    changed(PLAIN, table='"secrets"', column='"value"'): "number 1 (secrets.value): secrets.value is in the list already",
    changed(PLAIN, table='"resource"', column='"value"', primary_key='["guid"]'): "resource.value/repositories is in the list already",
    changed(PLAIN, table='"data_source"', column='"other"', primary_key='["uid"]'):
        "primary_key, system and scope_column must be those of data_source.secure_json_data",
    changed(PLAIN, where='{kind = "x"}') + changed(PLAIN, column='"other"', where='{sort = "x"}'):
        "number 2 (setting.other/x): where: setting.encrypted_value/x has",
    "secret_column = 1": "secret_column: unknown; declare each column as a table",
    "[secret_columns]": "secret_columns: unknown; declare each column as a table [[secret_column]]",
    "[[secret_column": "the secret columns are not TOML",
    changed(PLAIN, since="2027-01-01"): "dates and times are written as texts",
}  # fmt: skip


@pytest.mark.parametrize("text", WRONG)
def test_a_wrong_declaration_is_refused_with_its_number_and_field(text: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        declared(text)
    assert WRONG[text] in str(refused.value)


def test_a_refusal_never_echoes_a_value() -> None:
    with pytest.raises(ConfigurationError) as refused:
        declared(changed(PLAIN, where='{kind = ["hunter2"]}', base64='"hunter2"'))
    assert str(refused.value).count("number 1") == 2
    assert "hunter2" not in str(refused.value)


def test_rows_of_one_table_are_told_apart_by_their_condition() -> None:
    columns = declared(changed(PLAIN, where='{kind = "b", area = "x"}') + changed(PLAIN, where='{kind = "a", area = "x"}'))
    assert [column.id for column in columns] == ["setting.encrypted_value/x/b", "setting.encrypted_value/x/a"]
    assert [group.id for group in groups(columns)] == ["setting/x/b", "setting/x/a"]


def test_a_further_column_of_a_known_table_is_read_with_the_others() -> None:
    (further,) = declared(changed(PLAIN, table='"data_source"', column='"extra"'))
    (group,) = [group for group in groups((*built_in(), further)) if group.table == "data_source"]
    assert [column.column for column in group.columns] == ["secure_json_data", "extra"]


@pytest.fixture
def declaring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the bundle would have the deployment's declarations."""
    file = tmp_path / "declared_columns.toml"
    monkeypatch.setattr(module, "DECLARED", file)
    secret_columns.cache_clear()
    yield file
    secret_columns.cache_clear()


def test_what_the_bundle_declares_stands_behind_the_built_in_list(declaring: Path) -> None:
    assert secret_columns(*ALL_SYSTEMS) == built_in()
    declaring.write_text(PLAIN + MANAGER)
    secret_columns.cache_clear()
    assert secret_columns(*ALL_SYSTEMS) == (*built_in(), *declared(PLAIN + MANAGER))
    assert secret_columns()[-1].id == "setting.encrypted_value"
    assert secret_columns(System.MANAGER)[-1].id == "vault.data"


def test_a_bundle_with_a_wrong_declaration_reads_nothing(declaring: Path) -> None:
    declaring.write_text(changed(PLAIN, table='"data_keys"'))
    with pytest.raises(ConfigurationError, match="data_keys holds data keys"):
        secret_columns()
