"""Grafana's configuration and its database, from where the deployment's settings say that they are kept.

| variable | what it names |
|---|---|
| `GRAFANA_INI_SECRET`, `GRAFANA_INI_PARAMETER` or `GRAFANA_INI_OBJECT` | a secret, SSM parameter or S3 object {bucket, key, version} with grafana.ini's text |
| `GRAFANA_ENVIRONMENT_SECRET` | a secret with a JSON object of variables |
| `GRAFANA_ENVIRONMENT` | {variable: ARN} as in an ECS task definition; wins over the secret |
| `DATABASE_ACCESS` | what differs from `[database]` of grafana.ini: {host, instance, cluster, port, authentication, secret, user, tls, ca_bundle} |

Nothing secret is in a variable, and no message repeats what is kept there. `infra/configuration.py` sets them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import boto3
from aws_lambda_powertools.utilities import parameters

from reencrypt.database.certificates import CA_BUNDLE, PUBLIC_AUTHORITIES
from reencrypt.database.login import Credentials, Login, iam_login
from reencrypt.errors import ConfigurationError, DatabaseUnavailable
from reencrypt.grafana.settings import DatabaseSettings, GrafanaSettings, load_settings

_ECS_PARTS = 7  # of a secret's own ARN; an ECS-style reference has json-key, version-stage and version-id behind them


def grafana_settings() -> GrafanaSettings:
    """Grafana's settings, with what the deployment says of the database. Raises ConfigurationError, InvalidIni, DatabaseUnavailable."""
    settings = load_settings(_ini(), _variables())
    return replace(settings, database=_database(settings.database, _access()))


def database_login(database: DatabaseSettings) -> Login | None:
    """Where the user and password of each connection come from; None: they stand in grafana.ini."""
    access = _access()
    match access.get("authentication"):
        case "iam":
            return iam_login(database, access["user"])
        case "secret":
            return lambda: _credentials(access["secret"])
        case _:
            return None


def _ini() -> str:
    if name := os.environ.get("GRAFANA_INI_PARAMETER"):
        return _parameter(name)
    if place := os.environ.get("GRAFANA_INI_OBJECT"):
        return _object(json.loads(place))
    return _secret(os.environ["GRAFANA_INI_SECRET"], "grafana.ini")


def _variables() -> dict[str, str]:
    variables: dict[str, str] = {}
    if name := os.environ.get("GRAFANA_ENVIRONMENT_SECRET"):
        what = "the secret of grafana_environment_secret must be a JSON object of GF_… names and values"
        variables = {str(key): str(value) for key, value in _json_object(_secret(name, "Grafana's environment"), what).items()}
    references: dict[str, str] = json.loads(os.environ.get("GRAFANA_ENVIRONMENT") or "{}")
    return variables | {variable: _referred(variable, reference) for variable, reference in references.items()}


def _referred(variable: str, reference: str) -> str:
    """What an ECS-style reference stands for, as ECS would put it into the variable."""
    parts = reference.split(":")
    if parts[2] == "ssm":
        return _parameter(reference)
    key, stage, version = (*parts[_ECS_PARTS:], "", "", "")[:3]
    options = {name: value for name, value in (("VersionStage", stage), ("VersionId", version)) if value}
    text = _secret(":".join(parts[:_ECS_PARTS]), variable, **options)
    if not key:
        return text
    value = _json_object(text, f"grafana_environment.{variable}: the secret must be a JSON object, since its reference names a key").get(key)
    if value is None:
        raise ConfigurationError(f"grafana_environment.{variable}: the secret has no key {key}")
    return value if isinstance(value, str) else json.dumps(value)


def _access() -> dict[str, Any]:
    access: dict[str, Any] = json.loads(os.environ.get("DATABASE_ACCESS") or "{}")
    return access


def _database(database: DatabaseSettings, access: Mapping[str, Any]) -> DatabaseSettings:
    """`[database]` with what takes its place. TLS of an IAM token is always verified: the server gets it in clear within."""
    if not access:
        return database
    if database.type == "sqlite3":
        raise ConfigurationError("the deployment has settings for [database], which are for MySQL and PostgreSQL; grafana.ini says sqlite3")
    host, port = _address(access)
    if host:
        database = replace(database, host=host, unix_socket=None)
    if port := access.get("port") or port:
        database = replace(database, port=port)
    if bundle := access.get("ca_bundle"):
        database = replace(database, ca_cert_path=str(PUBLIC_AUTHORITIES if bundle == "public" else CA_BUNDLE))
    if access.get("tls") == "verify-full" or access.get("authentication") == "iam":
        # Of this host, whatever name grafana.ini has for the certificate of its own; without client certificates, which are on Grafana's machine.
        query = {name: value for name, value in database.query.items() if not name.startswith("ssl")}
        database = replace(
            database,
            ssl_mode="true" if database.type == "mysql" else "verify-full",
            server_cert_name=None,
            client_cert_path=None,
            client_key_path=None,
            query=query,
        )
    return database


def _address(access: Mapping[str, Any]) -> tuple[str | None, int | None]:
    """Host and port that the deployment names, or those of the RDS instance or Aurora cluster (its writer) that it names."""
    if name := access.get("instance"):
        found = boto3.client("rds").describe_db_instances(DBInstanceIdentifier=name)["DBInstances"][0].get("Endpoint", {})
        host, port = found.get("Address"), found.get("Port")
    elif name := access.get("cluster"):
        cluster = boto3.client("rds").describe_db_clusters(DBClusterIdentifier=name)["DBClusters"][0]
        host, port = cluster.get("Endpoint"), cluster.get("Port")
    else:
        return access.get("host"), None
    if not host:
        raise DatabaseUnavailable(f"{name} has no address yet: it is being made, or is stopped; start again when it is available")
    return host, port


def _credentials(name: str) -> Credentials:
    """User and password as RDS keeps them in a secret. Read anew each time: RDS changes the password every week."""
    found = _json_object(_secret(name, "the database's user and password", VersionStage="AWSCURRENT"), "database.secret must be a JSON object")
    user, password = found.get("username"), found.get("password")
    if not (isinstance(user, str) and isinstance(password, str)):
        raise ConfigurationError("database.secret must be a JSON object with the texts username and password")
    return Credentials(user, password)


def _secret(name: str, what: str, **options: Any) -> str:
    # Powertools keeps a secret by its name alone: what is asked for in another way must neither come from there nor stay there.
    fresh: dict[str, Any] = {"force_fetch": True, "max_age": 0} if options else {}
    value = parameters.get_secret(name, **fresh, **options)
    if not isinstance(value, str):
        raise ConfigurationError(f"the secret with {what} must hold text, not binary")
    return value


def _parameter(name: str) -> str:
    return str(parameters.get_parameter(name, decrypt=True))


def _object(place: Mapping[str, str]) -> str:
    version: dict[str, Any] = {"VersionId": place["version"]} if "version" in place else {}
    answer: Any = boto3.client("s3").get_object(Bucket=place["bucket"], Key=place["key"], **version)
    try:
        return str(answer["Body"].read().decode("utf-8"))
    except UnicodeDecodeError:
        raise ConfigurationError("the object of grafana_ini_object is not UTF-8 text") from None


def _json_object(text: str, what: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ConfigurationError(what)
    return found
