"""Where Grafana's configuration and database are: for the functions as variables that name them, for IAM as the resources of their grants.

The variables are the contract of `lambda/reencrypt/handlers/configuration.py`, which says what each one does. Names only, never what is kept there.
"""

from __future__ import annotations

import json
import re

import aws_cdk as cdk
from constructs import Construct

from infra.permissions import Target
from infra.setting_database import PUBLIC, DatabaseAccess
from infra.settings import DeploymentSettings

# What an ECS-style reference has behind the secret's own ARN: json-key, version-stage, version-id.
_ECS_PARTS = re.compile(r"^(arn:[^:]+:secretsmanager:[^:]*:[^:]*:secret:[^:]+)(:[^:]*:[^:]*:[^:]*)?$")


def configuration_environment(settings: DeploymentSettings) -> dict[str, str | None]:
    """The variables of a function; None: not set."""
    stored = settings.grafana_ini_object
    access = _database(settings.database)
    return {
        "GRAFANA_INI_SECRET": settings.grafana_ini_secret,
        "GRAFANA_INI_PARAMETER": settings.grafana_ini_parameter,
        "GRAFANA_INI_OBJECT": _json(stored.model_dump(exclude_none=True)) if stored else None,
        "GRAFANA_ENVIRONMENT_SECRET": settings.grafana_environment_secret,
        "GRAFANA_ENVIRONMENT": _json(settings.grafana_environment) if settings.grafana_environment else None,
        "DATABASE_ACCESS": _json(access) if access else None,
    }


def setting_targets(scope: Construct, settings: DeploymentSettings) -> dict[Target, list[str]]:
    """The resources that the settings name, each exactly."""
    stack = cdk.Stack.of(scope)
    database, stored = settings.database, settings.grafana_ini_object
    references = [_ECS_PARTS.sub(r"\1", reference) for reference in settings.grafana_environment.values()]
    secrets = [settings.grafana_ini_secret, settings.grafana_environment_secret, database.secret, *(r for r in references if ":secretsmanager:" in r)]
    parameters = [settings.grafana_ini_parameter, *(r for r in references if ":ssm:" in r)]
    objects = [stack.format_arn(service="s3", region="", account="", resource=stored.bucket, resource_name=stored.key)] if stored else []
    return {
        "settings secrets": [_secret_resource(stack, secret) for secret in dict.fromkeys(secrets) if secret],
        "settings parameters": [_parameter_resource(stack, parameter) for parameter in dict.fromkeys(parameters) if parameter],
        "settings object": objects if stored and not stored.version else [],
        "settings object version": objects if stored and stored.version else [],
        "settings keys": list(settings.settings_kms_key_arns),
        "database user": [_colons(stack, "rds-db", "dbuser", f"{database.resource_id}/{database.user}")] if database.authentication == "iam" else [],
        "database instance": [_colons(stack, "rds", "db", database.instance)] if database.instance else [],
        "database cluster": [_colons(stack, "rds", "cluster", database.cluster)] if database.cluster else [],
    }


def _database(access: DatabaseAccess) -> dict[str, object]:
    """What the functions need of `[database]`; nothing of it where nothing differs from grafana.ini."""
    shown = access.model_dump(exclude_defaults=True, exclude={"security_group_id", "resource_id", "ca_bundle"})
    if access.ca_bundle is not None:
        shown["ca_bundle"] = PUBLIC if access.ca_bundle == PUBLIC else "file"  # its path is this machine's; the functions have it in their bundle
    return shown


def _secret_resource(stack: cdk.Stack, secret: str) -> str:
    """What IAM calls the secret: its ARN; for a name, that name with the six characters that Secrets Manager appends to it."""
    return secret if secret.startswith("arn:") else _colons(stack, "secretsmanager", "secret", f"{secret}-??????")


def _parameter_resource(stack: cdk.Stack, parameter: str) -> str:
    """What IAM calls the parameter: its name without the slash in front, whichever way it is written."""
    return parameter if parameter.startswith("arn:") else stack.format_arn(service="ssm", resource="parameter", resource_name=parameter.lstrip("/"))


def _colons(stack: cdk.Stack, service: str, resource: str, name: str) -> str:
    return stack.format_arn(service=service, resource=resource, resource_name=name, arn_format=cdk.ArnFormat.COLON_RESOURCE_NAME)


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
