"""Declarations of secret columns that somebody else wrote: strict, each refusal naming the entry, the field and what is allowed.

The built-in list (secret_columns.toml) knows what Grafana's own source tells. Grafana Enterprise, a plugin or a newer Grafana may keep payloads
elsewhere; who runs one declares those columns in the deployment's settings, in the same words. What is declared is rewritten, so nothing is guessed.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from reencrypt.errors import ConfigurationError

TABLE = "secret_column"

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,62}$")]
Text = Annotated[str, StringConstraints(min_length=1, max_length=200)]
JsonPathText = Annotated[str, StringConstraints(pattern=r"^[^.\[\]]+(\[\*\])?(\.[^.\[\]]+(\[\*\])?)*$")]
LowerCase = Annotated[str, StringConstraints(pattern=r"^[^A-Z]+$")]
_NAME = "a name of letters, digits and underscores"
_KEY_TABLES = ("data_keys", "secret_data_key")
_BASE64, _NO_BASE64 = '"std" (padded) or "rawstd" (unpadded)', '"none"'


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)


def _field(default: Any, allowed: str, **limits: Any) -> Any:
    """A field whose `allowed` text ends a refusal; `...` as default: it must be given."""
    return Field(default, description=allowed, **limits)


class PathDeclaration(_Strict):
    """A place in a JSON column."""

    path: JsonPathText = _field(..., 'keys joined by dots, [*] for every element and * for every key, such as "receivers[*].settings.*"')
    prefix: str = _field("", "the text before the base64")
    data_key_id_path: JsonPathText | None = _field(None, 'the string beside the payload that holds its data key id, such as "spec.secret.dataKeyId"')


class Declaration(_Strict):
    """One [[secret_column]] table, in the words of secret_columns.toml."""

    id: str | None = _field(None, "TABLE.COLUMN, with /VALUE for each value of `where`; it may be left out")
    table: Name = _field(..., _NAME)
    primary_key: tuple[Name, ...] = _field(..., 'the columns of the primary key, such as ["id"]', min_length=1)
    column: Name = _field(..., _NAME)
    shape: Literal["raw", "base64", "json_map", "json_paths", "json_by_key", "split_raw"] = _field(
        ..., '"raw", "base64", "json_map", "json_paths", "json_by_key" or "split_raw"'
    )
    base64: Literal["std", "rawstd", "none"] = _field(..., f"{_BASE64}, or {_NO_BASE64} with raw and split_raw")
    plaintext: Literal["text", "json", "pem"] = _field(..., '"text", "json" or "pem"')
    json_paths: tuple[PathDeclaration, ...] = _field((), 'a list of tables, such as [{path = "settings.token"}]')
    secret_key_contains: tuple[LowerCase, ...] = _field((), 'a list of lower-case texts, such as ["secret", "password"]')
    where: dict[Name, Text] = _field({}, 'a table of columns and texts, such as {kind = "oauth"}')
    envelope: bool = _field(True, "true or false")
    system: Literal["grafana", "secrets_manager"] = _field("grafana", '"grafana" or "secrets_manager"')
    data_key_id_column: Name | None = _field(None, _NAME)
    scope_column: Name | None = _field(None, _NAME)
    bump: Name | None = _field(None, _NAME)
    since: Text = _field("declared", "a text")
    grafana_covers: Text = _field("never", "a text")

    @property
    def full_id(self) -> str:
        """The id, as it must be: a report finds a column's rows by it."""
        return "/".join((f"{self.table}.{self.column}", *qualifiers(self.where)))

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        for problem in self._problems():
            raise ValueError(problem)
        return self

    def _problems(self) -> Iterator[str]:
        binary, manager = self.shape in ("raw", "split_raw"), self.system == "secrets_manager"
        if self.table in _KEY_TABLES:
            yield f"table: {self.table} holds data keys, which are wrapped by a provider; a data key under a data key could not be read any more"
        if self.id not in (None, self.full_id):
            yield f"id: must be {self.full_id}, or left out"
        if binary != (self.base64 == "none"):
            yield f"base64: is not allowed with the shape {self.shape}; allowed: {_NO_BASE64 if binary else _BASE64}"
        for name, shape in (("json_paths", "json_paths"), ("secret_key_contains", "json_by_key")):
            if bool(getattr(self, name)) != (self.shape == shape):
                yield f"{name}: {'is missing: the shape ' + shape + ' needs it' if self.shape == shape else 'belongs to the shape ' + shape}"
        if self.data_key_id_column is not None and self.shape != "split_raw":
            yield "data_key_id_column: belongs to the shape split_raw"
        if manager and not (self.shape == "split_raw" or (self.shape == "json_paths" and len(self.json_paths) == 1 and self.json_paths[0].data_key_id_path)):
            yield "shape: the secrets_manager's payloads are split_raw, or one of json_paths with its data_key_id_path"
        if not manager and (self.shape == "split_raw" or any(path.data_key_id_path for path in self.json_paths)):
            yield "system: a data key id that stands beside its payload is the way of the secrets_manager"
        if manager != (self.scope_column is not None):
            yield f"scope_column: {'is missing: it' if manager else 'belongs to the secrets_manager: it'} names the namespace of a value"


def qualifiers(where: Mapping[str, str]) -> tuple[str, ...]:
    """What tells the rows of a condition from others of the table in an id: the resource, or else every value by its column's name."""
    return (where["resource"],) if "resource" in where else tuple(value for _, value in sorted(where.items()))


def read(text: str) -> tuple[Declaration, ...]:
    """The [[secret_column]] tables of the TOML `text`. Raises ConfigurationError, naming each wrong entry and field, never a value."""
    try:
        tables = tomllib.loads(text)
        # JSON in between: pydantic's strict JSON mode takes arrays for tuples, and a bare TOML date is refused.
        return _Declarations.model_validate_json(json.dumps(tables)).secret_column
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"the secret columns are not TOML: {error}") from None
    except TypeError:
        raise ConfigurationError("the secret columns: dates and times are written as texts, in quotes") from None
    except ValidationError as error:
        raise ConfigurationError("; ".join(_explained(problem) for problem in error.errors(include_url=False, include_input=False))) from None


class _Declarations(_Strict):
    secret_column: tuple[Declaration, ...] = ()


def entry(number: int, field: str = "") -> str:
    """What a refusal calls a declaration: the first is number 1."""
    return f"[[{TABLE}]] number {number}{f' {field}' if field else ''}"


def _explained(problem: Any) -> str:
    table, *location = problem["loc"]
    if table != TABLE or not location or not isinstance(location[0], int):
        return f"{table}: unknown; declare each column as a table [[{TABLE}]]"
    number, *path = location
    field = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")
    model: type[BaseModel] = PathDeclaration if path[:1] == ["json_paths"] and len(path) > 2 else Declaration
    names = [part for part in path if part in model.model_fields]
    allowed = model.model_fields[str(names[-1])].description if names else ""
    match problem["type"]:
        case "extra_forbidden":
            return f"{entry(number + 1, field)}: unknown; known: {', '.join(model.model_fields)}"
        case "missing":
            return f"{entry(number + 1, field)}: is missing; {allowed}"
        case "value_error":
            return f"{entry(number + 1)} {problem['ctx']['error']}"
        case _:
            return f"{entry(number + 1, field)}: is not allowed; allowed: {allowed}" if allowed else f"{entry(number + 1)}: must be a table"
