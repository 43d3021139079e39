"""The deployment's settings: typed, strict, and refused with the key's name and what is allowed, before anything is synthesized.

`load_settings(path)` reads the TOML file (`deployment.toml`, or the one given by `-c settings=FILE`); `deployment.example.toml` shows every
key. Nothing here is secret: grafana.ini and its variables are named by where they are kept, and a wrong value is never echoed.
"""

from __future__ import annotations

import difflib
import json
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from aws_cdk import aws_logs as logs
from pydantic import BaseModel, StringConstraints, ValidationError, field_validator, model_validator

from infra.setting_database import DatabaseAccess
from infra.setting_grafana import IniObject, fits
from infra.setting_network import VpcSettings
from infra.setting_schedule import ScheduleSettings
from infra.setting_types import EnvironmentReference, KeyArn, ParameterId, PolicyArn, RoleArn, SecretId, Strict, TopicArn, VariableName, setting
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

_INI = ("grafana_ini_secret", "grafana_ini_parameter", "grafana_ini_object")

TagKey = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9 _.:/=+@-]{1,128}$")]
TagValue = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9 _.:/=+@-]{0,256}$")]
Email = Annotated[str, StringConstraints(pattern=r"^[^@\s]+@[^@\s]+\.[^@\s]+$")]


class SettingsError(Exception):
    """The settings file is missing or wrong; `str()` is the whole message for a person."""


class DeploymentSettings(Strict):
    """What one deployed stack is made of. One stack serves one Grafana database."""

    stack_name: str = setting("grafana-reencrypt", "letters, digits and hyphens, at most 60; begins with a letter", pattern=r"^[A-Za-z][A-Za-z0-9-]{0,59}$")
    account: str | None = setting(None, "12 digits, together with region; without both, the account and region of the credentials", pattern=r"^\d{12}$")
    region: str | None = setting(None, 'an AWS region, such as "eu-north-1", together with account', pattern=r"^[a-z]{2}(-[a-z]+)+-\d$")

    grafana_ini_secret: SecretId | None = setting(None, "the name or ARN of an existing Secrets Manager secret of this region that holds grafana.ini's text")
    grafana_ini_parameter: ParameterId | None = setting(None, "the name or ARN of an existing SSM parameter of this region that holds grafana.ini's text")
    grafana_ini_object: IniObject | None = setting(None, "a [grafana_ini_object] table with bucket and key, and a version if you like")
    grafana_environment_secret: SecretId | None = setting(None, "the name or ARN of an existing secret that holds a JSON map of GF_… variables")
    grafana_environment: dict[VariableName, EnvironmentReference] = setting(
        {}, "a table of variables, each with the ARN of a secret (as in ECS, …:json-key::) or of an SSM parameter"
    )
    settings_kms_key_arns: tuple[KeyArn, ...] = setting((), "ARNs of KMS keys (…:key/…); IAM takes neither aliases nor wildcards here")

    kms_key_arns: tuple[KeyArn, ...] = setting((), "ARNs of KMS keys (…:key/…), of any account and region; IAM takes neither aliases nor wildcards here")
    kms_credentials: Literal["configured-first", "role"] = setting("configured-first", '"configured-first" or "role"')
    kms_encryption_context: dict[str, str] = setting({}, 'a table of texts, such as {purpose = "grafana"}')
    kms_role_to_assume: RoleArn | None = setting(None, 'the ARN of a role, such as "arn:aws:iam::111122223333:role/grafana-kms"')

    max_concurrency: int = setting(4, "a whole number from 1 to 100", ge=1, le=100)
    memory_mb: int = setting(1769, "a whole number from 512 to 10240 (1769 is one full processor)", ge=512, le=10240)
    architecture: Literal["arm64", "x86_64"] = setting("arm64", '"arm64" or "x86_64"')
    lambda_python: Literal["3.11", "3.12", "3.13", "3.14"] = setting("3.13", '"3.12", "3.13" or "3.14" ("3.11" for the local AWS only)')

    permissions_boundary: PolicyArn | None = setting(None, 'the ARN of a managed policy, such as "arn:aws:iam::111122223333:policy/boundary"')
    tags: dict[TagKey, TagValue] = setting({}, 'a table of texts, at most 45, such as {team = "observability"}; a name does not begin with aws:', max_length=45)

    secret_column: tuple[Declaration, ...] = setting((), "one [[secret_column]] table for each column with payloads that the product does not know")
    schedule: tuple[ScheduleSettings, ...] = setting((), "one [[schedule]] table for each schedule")
    notify_emails: tuple[Email, ...] = setting((), 'a list of e-mail addresses, such as ["oncall@example.com"]')
    notify_on_success: bool = setting(False, "true or false")
    alarms: bool = setting(True, "true or false")
    alarm_topic_arns: tuple[TopicArn, ...] = setting((), "at most four ARNs of existing SNS topics of this region", max_length=4)
    dashboard: bool = setting(True, "true or false")
    log_retention_days: int = setting(90, f"one of {', '.join(map(str, _RETENTION))}")
    journal_days: int = setting(30, "a whole number of days from 1 to 3650, or 0 for no undo journal", ge=0, le=3650)
    removal: Literal["retain", "destroy"] = setting("retain", '"retain" or "destroy"')
    database: DatabaseAccess = setting(DatabaseAccess(), "a [database] table")
    vpc: VpcSettings | None = setting(None, "a [vpc] table with vpc_id, subnet_ids, availability_zones, security_group_ids")

    @field_validator("log_retention_days")
    @classmethod
    def _a_retention_of_cloudwatch(cls, days: int) -> int:
        if days not in _RETENTION:
            raise ValueError("CloudWatch Logs does not offer this")
        return days

    @field_validator("tags")
    @classmethod
    def _tags_of_ours(cls, tags: dict[str, str]) -> dict[str, str]:
        if any(name.lower().startswith("aws:") for name in tags):
            raise ValueError("a name that begins with aws: is AWS's own")
        return tags

    @model_validator(mode="after")
    def _one_configuration_of_grafana(self) -> Self:
        given = [name for name in _INI if getattr(self, name) is not None]
        if not given:
            raise ValueError(f"grafana_ini_secret: is missing; {type(self).model_fields['grafana_ini_secret'].description} (or {' or '.join(_INI[1:])})")
        if len(given) > 1:
            raise ValueError(f"{', '.join(given)}: only one of them says where grafana.ini is")
        if not fits(self.grafana_environment):
            raise ValueError("grafana_environment: is too long for a function's environment; put the variables into one secret, grafana_environment_secret")
        return self

    @model_validator(mode="after")
    def _a_way_to_the_database(self) -> Self:
        if self.database.security_group_id and self.vpc is None:
            raise ValueError("database.security_group_id: only with [vpc]; functions outside of a VPC have no group that it could let in")
        if self.vpc and self.vpc.security_group == "make" and self.database.security_group_id is None:
            raise ValueError('database.security_group_id: is missing; with vpc.security_group = "make" the made group lets out only to it and to AWS')
        return self

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if (self.account is None) != (self.region is None):
            raise ValueError("account and region are given together or not at all")
        if self.kms_credentials == "role" and not (self.kms_key_arns or self.kms_role_to_assume):
            raise ValueError('kms_credentials = "role" needs kms_key_arns or kms_role_to_assume: else the role may use no key')
        names = [schedule.name for schedule in self.schedule]
        if len(names) != len(set(names)):
            raise ValueError("schedule: each needs a name of its own")
        own_tables = {column.table for column in self.secret_column}
        for number, schedule in enumerate(self.schedule):
            if problem := schedule.problem(own_tables):
                raise ValueError(f"schedule[{number}].input: {problem}")
            if schedule.alarm_after_days and not self.alarms:
                raise ValueError(f"schedule[{number}].alarm_after_days: only with alarms = true")
        if self.alarm_topic_arns and not self.alarms:
            raise ValueError("alarm_topic_arns: only with alarms = true")
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
        return DeploymentSettings.model_validate_json(json.dumps(tomllib.loads(text)), context={"folder": path.parent})
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path}: is not TOML: {error}") from None
    except TypeError:
        raise SettingsError(f"{path}: dates and times are written as texts, in quotes") from None
    except ValidationError as error:
        raise SettingsError("\n".join([f"{path}:", *dict.fromkeys(f"  {_explain(problem)}" for problem in error.errors(include_url=False))])) from None


def _explain(problem: Any) -> str:
    """One wrong setting in one line: its key, what is wrong, what is allowed. Never its value."""
    location: tuple[str | int, ...] = tuple(part for part in problem["loc"] if part != "[key]")  # pydantic's mark of a table's wrong key
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).lstrip(".")
    model, allowed = _describe(location)
    match problem["type"]:
        case "extra_forbidden":
            near = difflib.get_close_matches(str(location[-1]), model.model_fields, n=1)
            return f"{key}: unknown setting; " + (f"did you mean {near[0]}?" if near else f"known: {', '.join(model.model_fields)}")
        case "missing":
            return f"{key}: is missing; {allowed}"
        case "value_error":
            if location and location[-1] not in model.model_fields and not isinstance(location[-1], int):
                allowed = ""  # of a whole table: its text says all
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
