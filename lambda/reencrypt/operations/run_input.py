"""The execution's input: `{"mode": …}` and its options, checked strictly.

A key that is misspelt would otherwise be an option that silently does not hold, so unknown keys and values are refused with the allowed ones.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.alias_generators import to_camel

from reencrypt.errors import InvalidInput
from reencrypt.grafana.secret_columns import ALL_SYSTEMS, secret_columns
from reencrypt.operations.modes import Mode

__all__ = ["GrafanaVersion", "Mode", "OnUnreadable", "RunInput", "parse"]

DEFAULT_CHUNK_ROWS = 1000
MAXIMUM_CONCURRENCY = 100
MAXIMUM_SETTLE_SECONDS = 43_200


class OnUnreadable(StrEnum):
    """How a run ends that found unreadable values: as failed, or as succeeded with a report of them."""

    FAIL = "fail"
    REPORT = "report"


class GrafanaVersion(StrEnum):
    """The Grafana that a rollback is for, where it is not the one that runs: 8.x reads no payload that names its algorithm."""

    V8 = "8.x"


class RunInput(BaseModel):
    """The input, with its defaults. `tables` empty means every table; `provider` None means `encryption_provider` of grafana.ini.

    `manager_provider` is the same for the secrets manager: None means `encryption_provider` of [secrets_manager]. `for` says which Grafana is to
    read what a rollback writes (None: 9.0 or later).

    `settle_seconds` None means the data-key cache's time to live and a margin; 0 says that Grafana is stopped. `unreadable_budget` is a share of
    the planned rows. `max_load` is how many other sessions may be running on the server before a worker pauses. `run` is the run to undo.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel, hide_input_in_errors=True)

    mode: Mode = Mode.PLAN
    tables: tuple[str, ...] = ()
    provider: str | None = Field(default=None, min_length=1)
    manager_provider: str | None = Field(default=None, min_length=1)
    provider_ready: Annotated[bool, Field(strict=True)] = False
    max_concurrency: Annotated[int, Field(strict=True, ge=1, le=MAXIMUM_CONCURRENCY)] | None = None
    chunk_rows: Annotated[int, Field(strict=True, ge=1, le=100_000)] = DEFAULT_CHUNK_ROWS
    on_unreadable: OnUnreadable = OnUnreadable.FAIL
    force: Annotated[bool, Field(strict=True)] = False
    settle_seconds: Annotated[int, Field(strict=True, ge=0, le=MAXIMUM_SETTLE_SECONDS)] | None = None
    max_sweeps: Annotated[int, Field(strict=True, ge=1, le=50)] = 5
    unreadable_budget: Annotated[float, Field(strict=True, ge=0, le=1, allow_inf_nan=False)] = 0.1
    max_load: Annotated[int, Field(strict=True, ge=1, le=100_000)] = 25
    run: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.+=@-]{0,99}$")] | None = None
    for_version: GrafanaVersion | None = Field(default=None, alias="for")

    @model_validator(mode="after")
    def _keys_and_mode_fit(self) -> Self:
        if self.mode is Mode.RESTORE and self.run is None:
            raise ValueError('mode restore needs "run": the name of the run whose writes are to be undone, as its report or the console gives it')
        if self.mode is not Mode.RESTORE and self.run is not None:
            raise ValueError(f"run belongs to mode restore, not to {self.mode.value}")
        if self.mode is not Mode.ROLLBACK and self.for_version is not None:
            raise ValueError(f"for belongs to mode rollback, not to {self.mode.value}")
        if self.tables and not self.mode.steps.by_table:
            raise ValueError(f"tables does not go with mode {self.mode.value}: data keys protect values of every table")
        if self.provider and self.mode in (Mode.ROLLBACK, Mode.ROTATE_SECRET_KEY):
            raise ValueError(f"provider does not go with mode {self.mode.value}, which is about secret_key alone")
        return self

    def as_input(self) -> dict[str, Any]:
        """The JSON that gives this input, without what is default; the mode always."""
        return {"mode": self.mode.value, **self.model_dump(mode="json", by_alias=True, exclude_defaults=True)}


def parse(raw: object) -> RunInput:
    """The input of an execution. Raises InvalidInput, naming each wrong key and what is allowed; of the values, only a table's name is quoted."""
    if not isinstance(raw, dict):
        raise InvalidInput('the input must be a JSON object, such as {"mode": "plan"}')
    try:
        parsed = RunInput.model_validate(raw)
    except ValidationError as error:
        raise InvalidInput("; ".join(_problem(entry) for entry in error.errors(include_input=False, include_url=False))) from None
    known = sorted({column.table for column in secret_columns(*ALL_SYSTEMS)})
    unknown = sorted(set(parsed.tables) - set(known))
    if unknown:
        raise InvalidInput(f"tables: {', '.join(map(repr, unknown))} holds no secrets; allowed: {', '.join(known)}")
    return parsed


def _problem(entry: Any) -> str:
    name = ".".join(str(part) for part in entry["loc"])
    if entry["type"] == "extra_forbidden":
        allowed = ", ".join(field.alias or key for key, field in RunInput.model_fields.items())
        return f"{name!r} is no key of the input; allowed: {allowed}"
    if entry["type"] == "value_error":
        return str(entry["ctx"]["error"])
    return f"{name}: {entry['msg']}"
