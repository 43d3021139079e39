"""The secret columns: where Grafana keeps payloads, read from `secret_columns.toml` beside this file.

Behind them come those that the deployment declares: its bundle has them in `declared_columns.toml` (see `declarations.py`).

Knows names and shapes, no SQL: `database/` turns a declaration into statements, `secret_values` into payloads.
"""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum, StrEnum
from pathlib import Path as FilePath
from typing import Any

from reencrypt.errors import ConfigurationError
from reencrypt.grafana import declarations
from reencrypt.grafana.base64_text import Base64
from reencrypt.grafana.document import Path
from reencrypt.grafana.plausibility import PlaintextKind


class System(StrEnum):
    """Grafana's two stores of secrets, each with data keys of its own."""

    GRAFANA = "grafana"  # data_keys, configured by [security]
    MANAGER = "secrets_manager"  # secret_data_key, configured by [secrets_manager]


ALL_SYSTEMS = tuple(System)
DECLARED = FilePath(__file__).with_name("declared_columns.toml")


class Shape(StrEnum):
    """How payloads stand in a column; explained at the top of secret_columns.toml."""

    RAW = "raw"
    BASE64 = "base64"
    JSON_MAP = "json_map"
    JSON_PATHS = "json_paths"
    JSON_BY_KEY = "json_by_key"
    SPLIT_RAW = "split_raw"
    KEY_ID = "key_id"


class Wildcard(Enum):
    """Wildcards of a JSON path pattern."""

    KEY = "*"
    INDEX = "[*]"


@dataclass(frozen=True, slots=True)
class JsonPath:
    """A pattern for the places of payloads in a document, with the literal text before the base64 there.

    `data_key_id` is the key, in the same object, of the string that holds the payload's data key id; None where the payload itself names it.
    """

    steps: tuple[str | Wildcard, ...]
    prefix: str
    data_key_id: str | None = None

    @classmethod
    def parse(cls, text: str, prefix: str = "", data_key_id_path: str | None = None) -> JsonPath:
        """Reads `a.b[*].c.*`. The two strings of a pair must be members of one object."""
        steps: list[str | Wildcard] = []
        for part in text.split("."):
            name = part.removesuffix("[*]")
            steps.append(Wildcard.KEY if name == "*" else name)
            if name != part:
                steps.append(Wildcard.INDEX)
        if data_key_id_path is None:
            return cls(tuple(steps), prefix)
        parent, _, sibling = data_key_id_path.rpartition(".")
        if parent != text.rpartition(".")[0] or prefix or not isinstance(steps[-1], str):
            raise ValueError(f"{data_key_id_path} does not stand beside {text}")
        return cls(tuple(steps), "", sibling)

    def matches(self, path: Path) -> bool:
        """Whether `path` is one of the places."""
        return _match(self.steps, path)

    def matches_parent(self, path: Path) -> bool:
        """Whether `path` is an object in which the payload is a member."""
        return _match(self.steps[:-1], path)


@dataclass(frozen=True)
class SecretColumn:
    """One declaration of secret_columns.toml. `where` is (column, value) pairs that a row must have.

    `data_key_id_column` holds the data key ids of a SPLIT_RAW column, `scope_column` the namespace that they belong to; `bump` is set to the unix time
    in seconds when a value is written. Each is None where there is no such column.
    """

    id: str
    table: str
    primary_key: tuple[str, ...]
    column: str
    shape: Shape
    base64: Base64
    plaintext: PlaintextKind
    json_paths: tuple[JsonPath, ...] = ()
    secret_key_contains: tuple[str, ...] = ()
    where: tuple[tuple[str, str], ...] = ()
    envelope: bool = True
    since: str = ""
    grafana_covers: str = ""
    system: System = System.GRAFANA
    data_key_id_column: str | None = None
    scope_column: str | None = None
    bump: str | None = None


@dataclass(frozen=True)
class ColumnGroup:
    """Secret columns of the same rows of one table: read, judged and written together."""

    id: str
    table: str
    primary_key: tuple[str, ...]
    where: tuple[tuple[str, str], ...]
    columns: tuple[SecretColumn, ...]


@functools.cache
def secret_columns(*systems: System) -> tuple[SecretColumn, ...]:
    """Every secret column of `systems`, in the order of the files: without arguments those whose payloads are under `data_keys` or `secret_key`.

    Raises ConfigurationError where what the deployment declares is not allowed.
    """
    wanted = systems or (System.GRAFANA,)
    columns = built_in() + (declared(DECLARED.read_text("utf-8")) if DECLARED.exists() else ())
    return tuple(column for column in columns if column.system in wanted)


@functools.cache
def built_in() -> tuple[SecretColumn, ...]:
    """The columns that this product knows by itself."""
    return tuple(map(_column, tomllib.loads(FilePath(__file__).with_suffix(".toml").read_text("utf-8"))["secret_column"]))


def declared(text: str) -> tuple[SecretColumn, ...]:
    """The columns that the TOML `text` declares. Raises ConfigurationError, naming the entry and the field; also for rows and columns that are known."""
    known = list(built_in())
    for number, declaration in enumerate(declarations.read(text), 1):
        try:
            column = _column(declaration.model_dump(exclude={"id"}) | {"id": declaration.full_id})
        except ValueError as error:  # a path of JSON
            raise ConfigurationError(f"{declarations.entry(number, 'json_paths')}: {error}") from None
        if problem := _conflict(column, known):
            raise ConfigurationError(f"{declarations.entry(number)} ({column.id}): {problem}")
        known.append(column)
    return tuple(known[len(built_in()) :])


def _conflict(column: SecretColumn, known: Iterable[SecretColumn]) -> str | None:
    """What forbids to declare `column` beside those of `known`."""
    where = dict(column.where)
    for other in known:
        if other.table != column.table:
            continue
        apart = any(where.get(name, value) != value for name, value in other.where)
        if other.column == column.column and not apart:
            return f"{other.id} is in the list already, and a row must not be in it twice"
        if other.where == column.where and (other.primary_key, other.system, other.scope_column) != (column.primary_key, column.system, column.scope_column):
            return f"primary_key, system and scope_column must be those of {other.id}: the two are read together"
        if other.where != column.where and declarations.qualifiers(dict(other.where)) == declarations.qualifiers(where):
            return f"where: {other.id} has the same values under other names, so that a report could not tell the two apart"
    return None


def groups(columns: Iterable[SecretColumn]) -> tuple[ColumnGroup, ...]:
    """`columns` by table and condition, in order of first appearance. A group's id is its table, with what tells its rows from others.

    A SPLIT_RAW column is followed by the column of its data key ids, and a column whose namespace is not in the primary key by that of the namespace, so
    that rows are read with both.
    """
    found: dict[tuple[str, tuple[tuple[str, str], ...]], list[SecretColumn]] = {}
    for column in columns:
        members = found.setdefault((column.table, column.where), [])
        members.append(column)
        if column.shape is Shape.SPLIT_RAW and column.data_key_id_column is not None:
            members.append(_companion(column, column.data_key_id_column))
        if column.scope_column is not None and column.scope_column not in column.primary_key:
            members.append(_companion(column, column.scope_column))
    return tuple(
        ColumnGroup("/".join((table, *declarations.qualifiers(dict(where)))), table, members[0].primary_key, where, tuple(members))
        for (table, where), members in found.items()
    )


def _companion(column: SecretColumn, name: str) -> SecretColumn:
    """A column beside `column` that belongs to its values, and holds no secret."""
    return replace(column, id=f"{column.table}.{name}", column=name, shape=Shape.KEY_ID, data_key_id_column=None, bump=None)


def _match(steps: tuple[str | Wildcard, ...], path: Path) -> bool:
    return len(path) == len(steps) and all(
        isinstance(found, int) if step is Wildcard.INDEX else isinstance(found, str) and step in (found, Wildcard.KEY)
        for step, found in zip(steps, path, strict=True)
    )


def _column(declaration: Mapping[str, Any]) -> SecretColumn:
    fields = dict(declaration)
    return SecretColumn(
        primary_key=tuple(fields.pop("primary_key")),
        shape=Shape(fields.pop("shape")),
        base64=Base64(fields.pop("base64")),
        plaintext=PlaintextKind(fields.pop("plaintext")),
        json_paths=tuple(JsonPath.parse(entry["path"], entry.get("prefix", ""), entry.get("data_key_id_path")) for entry in fields.pop("json_paths", ())),
        secret_key_contains=tuple(fields.pop("secret_key_contains", ())),
        where=tuple(sorted(fields.pop("where", {}).items())),
        system=System(fields.pop("system", System.GRAFANA)),
        **fields,
    )
