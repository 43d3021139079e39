"""The secret columns: where Grafana keeps payloads, read from `secret_columns.toml` beside this file.

Knows names and shapes, no SQL: `database/` turns a declaration into statements, `secret_values` into payloads.
"""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum
from pathlib import Path as FilePath
from typing import Any

from reencrypt.grafana.base64_text import Base64
from reencrypt.grafana.document import Path
from reencrypt.grafana.plausibility import PlaintextKind


class Shape(StrEnum):
    """How payloads stand in a column; explained at the top of secret_columns.toml."""

    RAW = "raw"
    BASE64 = "base64"
    JSON_MAP = "json_map"
    JSON_PATHS = "json_paths"
    JSON_BY_KEY = "json_by_key"


class Wildcard(Enum):
    """Wildcards of a JSON path pattern."""

    KEY = "*"
    INDEX = "[*]"


@dataclass(frozen=True, slots=True)
class JsonPath:
    """A pattern for the places of payloads in a document, with the literal text before the base64 there."""

    steps: tuple[str | Wildcard, ...]
    prefix: str

    @classmethod
    def parse(cls, text: str, prefix: str = "") -> JsonPath:
        """Reads `a.b[*].c.*`."""
        steps: list[str | Wildcard] = []
        for part in text.split("."):
            name = part.removesuffix("[*]")
            steps.append(Wildcard.KEY if name == "*" else name)
            if name != part:
                steps.append(Wildcard.INDEX)
        return cls(tuple(steps), prefix)

    def matches(self, path: Path) -> bool:
        """Whether `path` is one of the places."""
        return len(path) == len(self.steps) and all(
            isinstance(found, int) if step is Wildcard.INDEX else isinstance(found, str) and step in (found, Wildcard.KEY)
            for step, found in zip(self.steps, path, strict=True)
        )


@dataclass(frozen=True)
class SecretColumn:
    """One declaration of secret_columns.toml. `where` is (column, value) pairs that a row must have."""

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


@dataclass(frozen=True)
class ColumnGroup:
    """Secret columns of the same rows of one table: read, judged and written together."""

    id: str
    table: str
    primary_key: tuple[str, ...]
    where: tuple[tuple[str, str], ...]
    columns: tuple[SecretColumn, ...]


@functools.cache
def secret_columns() -> tuple[SecretColumn, ...]:
    """Every secret column whose payloads are under `data_keys` or `secret_key`, in the order of the file."""
    declarations = tomllib.loads(FilePath(__file__).with_suffix(".toml").read_text("utf-8"))["secret_column"]
    return tuple(_column(declaration) for declaration in declarations)


def groups(columns: Iterable[SecretColumn]) -> tuple[ColumnGroup, ...]:
    """`columns` by table and condition, in order of first appearance. A group's id is its table, with the resource where it has one."""
    found: dict[tuple[str, tuple[tuple[str, str], ...]], list[SecretColumn]] = {}
    for column in columns:
        found.setdefault((column.table, column.where), []).append(column)
    return tuple(
        ColumnGroup(
            "/".join((table, *(value for name, value in where if name == "resource"))), table, members[0].primary_key, where, tuple(members)
        )
        for (table, where), members in found.items()
    )


def _column(declaration: Mapping[str, Any]) -> SecretColumn:
    fields = dict(declaration)
    return SecretColumn(
        primary_key=tuple(fields.pop("primary_key")),
        shape=Shape(fields.pop("shape")),
        base64=Base64(fields.pop("base64")),
        plaintext=PlaintextKind(fields.pop("plaintext")),
        json_paths=tuple(JsonPath.parse(entry["path"], entry.get("prefix", "")) for entry in fields.pop("json_paths", ())),
        secret_key_contains=tuple(fields.pop("secret_key_contains", ())),
        where=tuple(fields.pop("where", {}).items()),
        **fields,
    )
