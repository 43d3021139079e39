"""The deployment's settings: typed, strict, and refused with the key's name and what is allowed, before anything is synthesized.

`load_settings(path)` reads the TOML file (`deployment.toml`, or the one given by `-c settings=FILE`); `deployment.example.toml` shows every
key. Nothing here is secret: grafana.ini and its variables are named by their Secrets Manager secrets, and a wrong value is never echoed.
"""

from __future__ import annotations

import difflib
import json
import tomllib
import zoneinfo
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from aws_cdk import aws_logs as logs
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator, model_validator

from infra.toml_text import lines
from reencrypt.errors import ConfigurationError
from reencrypt.grafana.declarations import Declaration
from reencrypt.grafana.secret_columns import declared

_RETENTION = {
    1: logs.RetentionDays.ONE_DAY,
    3: logs.RetentionDays.THREE_DAYS,
    5: logs.RetentionDays.FIVE_DAYS,
    7: logs.RetentionDays.ONE_WEEK,
    14: logs.RetentionDays.TWO_WEEKS,
    30: logs.RetentionDays.ONE_MONTH,
    60: logs.RetentionDays.TWO_MONTHS,
    90: logs.RetentionDays.THREE_MONTHS,
    180: logs.RetentionDays.SIX_MONTHS,
    365: logs.RetentionDays.ONE_YEAR,
    731: logs.RetentionDays.TWO_YEARS,
    1827: logs.RetentionDays.FIVE_YEARS,
}

KeyArn = Annotated[str, StringConstraints(pattern=r"^arn:aws[a-z-]*:kms:[a-z0-9-]+:\d{12}:key/(mrk-[0-9a-f]{32}|[0-9a-f-]{36})$")]
RoleArn = Annotated[str, StringConstraints(pattern=r"^arn:aws[a-z-]*:iam::\d{12}:role/[\w+=,.@/-]+$")]
SecretId = Annotated[str, StringConstraints(pattern=r"^(arn:aws[a-z-]*:secretsmanager:[a-z0-9-]+:\d{12}:secret:)?[A-Za-z0-9/_+=.@-]{1,512}$")]
Email = Annotated[str, StringConstraints(pattern=r"^[^@\s]+@[^@\s]+\.[^@\s]+$")]


class SettingsError(Exception):
    """The settings file is missing or wrong; `str()` is the whole message for a person."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def _setting(default: Any, allowed: str, **limits: Any) -> Any:
    """A field whose `allowed` text is what an error message ends with; `...` as default: the setting must be given."""
    return Field(default, description=allowed, **limits)


class VpcSettings(_Strict):
    """An existing VPC for the functions, with routes to the database, Secrets Manager, S3, DynamoDB, KMS and (with a role) STS."""

    vpc_id: str = _setting(..., 'an existing VPC, such as "vpc-0123456789abcdef0"', pattern=r"^vpc-[0-9a-f]+$")
    subnet_ids: tuple[Annotated[str, StringConstraints(pattern=r"^subnet-[0-9a-f]+$")], ...] = _setting(
        ..., 'one or more private subnets of it, such as ["subnet-0123456789abcdef0"]', min_length=1
    )
    availability_zones: tuple[str, ...] = _setting(..., "the zone of each subnet, in the same order", min_length=1)
    security_group_ids: tuple[Annotated[str, StringConstraints(pattern=r"^sg-[0-9a-f]+$")], ...] = _setting(
        ..., "one or more existing security groups that the database's group lets in", min_length=1
    )

    @model_validator(mode="after")
    def _a_zone_per_subnet(self) -> Self:
        if len(self.subnet_ids) != len(self.availability_zones):
            raise ValueError("availability_zones must name the zone of each subnet: as many zones as subnet_ids")
        return self


class ScheduleSettings(_Strict):
    """One EventBridge schedule that starts the state machine."""

    name: str = _setting(..., "letters, digits and hyphens, at most 40, different for each schedule", pattern=r"^[A-Za-z][A-Za-z0-9-]{0,39}$")
    expression: str = _setting(..., '"rate(7 days)", "cron(0 3 ? * SUN *)" or "at(2027-01-31T03:00:00)"', pattern=r"^(rate|cron|at)\([^()]+\)$")
    time_zone: str = _setting("UTC", 'an IANA time zone, such as "Europe/Berlin"')
    input: dict[str, Any] = _setting({}, 'the execution\'s input, such as {mode = "re-encrypt"}; {} plans only')

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, zone: str) -> str:
        if zone not in zoneinfo.available_timezones():
            raise ValueError("no such time zone")
        return zone


class DeploymentSettings(_Strict):
    """What one deployed stack is made of. One stack serves one Grafana database."""

    stack_name: str = _setting("grafana-reencrypt", "letters, digits and hyphens, at most 60; begins with a letter", pattern=r"^[A-Za-z][A-Za-z0-9-]{0,59}$")
    account: str | None = _setting(None, "12 digits, together with region; without both, the account and region of the credentials", pattern=r"^\d{12}$")
    region: str | None = _setting(None, 'an AWS region, such as "eu-north-1", together with account', pattern=r"^[a-z]{2}(-[a-z]+)+-\d$")

    grafana_ini_secret: SecretId = _setting(
        ..., "the name or ARN of an existing Secrets Manager secret of this account and region that holds grafana.ini's text"
    )
    grafana_environment_secret: SecretId | None = _setting(None, "the name or ARN of an existing secret that holds a JSON map of GF_… variables")

    kms_key_arns: tuple[KeyArn, ...] = _setting((), "ARNs of KMS keys (…:key/…), of any account and region; IAM takes neither aliases nor wildcards here")
    kms_credentials: Literal["configured-first", "role"] = _setting("configured-first", '"configured-first" or "role"')
    kms_encryption_context: dict[str, str] = _setting({}, 'a table of texts, such as {purpose = "grafana"}')
    kms_role_to_assume: RoleArn | None = _setting(None, 'the ARN of a role, such as "arn:aws:iam::111122223333:role/grafana-kms"')

    max_concurrency: int = _setting(4, "a whole number from 1 to 100", ge=1, le=100)
    memory_mb: int = _setting(1769, "a whole number from 512 to 10240 (1769 is one full processor)", ge=512, le=10240)
    architecture: Literal["arm64", "x86_64"] = _setting("arm64", '"arm64" or "x86_64"')
    lambda_python: Literal["3.11", "3.12", "3.13", "3.14"] = _setting("3.13", '"3.12", "3.13" or "3.14" ("3.11" for the local AWS only)')

    secret_column: tuple[Declaration, ...] = _setting((), "one [[secret_column]] table for each column with payloads that the product does not know")
    schedule: tuple[ScheduleSettings, ...] = _setting((), "one [[schedule]] table for each schedule")
    notify_emails: tuple[Email, ...] = _setting((), 'a list of e-mail addresses, such as ["oncall@example.com"]')
    log_retention_days: int = _setting(90, f"one of {', '.join(map(str, _RETENTION))}")
    journal_days: int = _setting(30, "a whole number of days from 1 to 3650, or 0 for no undo journal", ge=0, le=3650)
    removal: Literal["retain", "destroy"] = _setting("retain", '"retain" or "destroy"')
    vpc: VpcSettings | None = _setting(None, "a [vpc] table with vpc_id, subnet_ids, availability_zones, security_group_ids")

    @field_validator("log_retention_days")
    @classmethod
    def _a_retention_of_cloudwatch(cls, days: int) -> int:
        if days not in _RETENTION:
            raise ValueError("CloudWatch Logs does not offer this")
        return days

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if (self.account is None) != (self.region is None):
            raise ValueError("account and region are given together or not at all")
        if self.kms_credentials == "role" and not (self.kms_key_arns or self.kms_role_to_assume):
            raise ValueError('kms_credentials = "role" needs kms_key_arns or kms_role_to_assume: else the role may use no key')
        names = [schedule.name for schedule in self.schedule]
        if len(names) != len(set(names)):
            raise ValueError("schedule: each needs a name of its own")
        try:
            declared(self.declared_columns)
        except ConfigurationError as error:
            raise ValueError(str(error)) from None
        return self

    @property
    def log_retention(self) -> logs.RetentionDays:
        return _RETENTION[self.log_retention_days]

    @property
    def declared_columns(self) -> str:
        """The secret columns of these settings as the TOML text that the functions read; empty without any."""
        return "".join(f"[[secret_column]]\n{lines(column.model_dump(exclude_defaults=True))}" for column in self.secret_column)


def load_settings(path: Path) -> DeploymentSettings:
    """The settings in the file `path`. Raises SettingsError, whose text names each wrong key and what is allowed."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SettingsError(
            f"{path}: there is no such file. Copy deployment.example.toml to deployment.toml and fill it in, or name another file with -c settings=FILE."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or 'it is not UTF-8'}") from None
    try:
        # JSON in between: pydantic's strict JSON mode takes arrays for tuples, and a bare TOML date is refused.
        return DeploymentSettings.model_validate_json(json.dumps(tomllib.loads(text)))
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path}: is not TOML: {error}") from None
    except TypeError:
        raise SettingsError(f"{path}: dates and times are written as texts, in quotes") from None
    except ValidationError as error:
        raise SettingsError("\n".join([f"{path}:", *(f"  {_explain(problem)}" for problem in error.errors(include_url=False))])) from None


def _explain(problem: Any) -> str:
    """One wrong setting in one line: its key, what is wrong, what is allowed. Never its value."""
    location: tuple[str | int, ...] = tuple(part for part in problem["loc"])
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).lstrip(".")
    model, allowed = _describe(location)
    match problem["type"]:
        case "extra_forbidden":
            near = difflib.get_close_matches(str(location[-1]), model.model_fields, n=1)
            return f"{key}: unknown setting; " + (f"did you mean {near[0]}?" if near else f"known: {', '.join(model.model_fields)}")
        case "missing":
            return f"{key}: is missing; {allowed}"
        case "value_error":
            return ": ".join(filter(None, [key, str(problem["ctx"]["error"])])) + (f"; allowed: {allowed}" if allowed else "")
        case _:
            return f"{key}: is not allowed; allowed: {allowed}"


def _describe(location: tuple[str | int, ...]) -> tuple[type[BaseModel], str]:
    """The model that holds the setting at `location`, and its `allowed` text (empty: the problem is not one setting's)."""
    model: type[BaseModel] = DeploymentSettings
    allowed = ""
    for part in location:
        if isinstance(part, int) or part not in model.model_fields:
            continue
        field = model.model_fields[part]
        allowed = field.description or ""
        nested = [kind for kind in (field.annotation, *get_args(field.annotation)) if isinstance(kind, type) and issubclass(kind, BaseModel)]
        if nested:
            model = nested[0]
            allowed = allowed if location[-1] == part else ""
    return model, allowed
