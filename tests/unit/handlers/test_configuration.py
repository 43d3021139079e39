"""Grafana's configuration and database, from each place where a deployment may keep them: real clients, answered by the local AWS's services."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import boto3
import pytest
from aws_lambda_powertools.utilities import parameters
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.stub import Stubber

from reencrypt.database import login
from reencrypt.database.certificates import CA_BUNDLE, PUBLIC_AUTHORITIES
from reencrypt.errors import ConfigurationError, DatabaseUnavailable, ReencryptError
from reencrypt.grafana.settings import DatabaseSettings, load_settings
from reencrypt.handlers import configuration
from reencrypt.handlers.boundary import shown
from tests.unit.storage.conftest import Wire

_SESSION = boto3.Session("testing", "testing", region_name="eu-north-1")
_VARIABLES = ("GRAFANA_INI_SECRET", "GRAFANA_INI_PARAMETER", "GRAFANA_INI_OBJECT", "GRAFANA_ENVIRONMENT_SECRET", "GRAFANA_ENVIRONMENT", "DATABASE_ACCESS")
INI = "[database]\ntype = mysql\nhost = grafana-db:3307\nuser = grafana\npassword = from-the-ini\nssl_mode = skip-verify\nca_cert_path = /etc/grafana/ca.pem\n"
SECRET = "hunter2-5c31"


class Aws:
    """An account's Secrets Manager, SSM, S3 and RDS, and the variables of one function."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        make: Any = _SESSION.client
        by_path = Config(request_checksum_calculation="when_required", s3={"addressing_style": "path"})
        self.clients: dict[str, Any] = {name: make(name, config=by_path) for name in ("secretsmanager", "ssm", "s3", "rds")}
        self.rds = Stubber(self.clients["rds"])
        for name in ("secretsmanager", "ssm", "s3"):
            service: Any = importlib.import_module(f"ministack.services.{name}")
            service.reset()
            self.clients[name].meta.events.register("before-send", Wire(service).answer)
        monkeypatch.setattr(boto3.session.Session, "client", lambda _session, name, **_options: self.clients[name])
        for name in _VARIABLES:
            monkeypatch.delenv(name, raising=False)
        self._set = monkeypatch.setenv
        self.cold_start()

    @staticmethod
    def cold_start() -> None:
        parameters.clear_caches()  # type: ignore[no-untyped-call]  # Powertools declares no types for it
        login._signer.cache_clear()

    def secret(self, name: str, text: str) -> str:
        arn: str = self.clients["secretsmanager"].create_secret(Name=name, SecretString=text)["ARN"]
        return arn

    def parameter(self, name: str, text: str) -> str:
        self.clients["ssm"].put_parameter(Name=name, Value=text, Type="SecureString")
        arn: str = self.clients["ssm"].get_parameter(Name=name)["Parameter"]["ARN"]
        return arn

    def configure(self, **variables: object) -> None:
        for name, value in variables.items():
            self._set(name, value if isinstance(value, str) else json.dumps(value))

    def database(self, ini: str = INI, /, **access: object) -> DatabaseSettings:
        """`[database]` of `ini` with what the deployment's settings say of it."""
        self.secret("ini", ini)
        self.configure(GRAFANA_INI_SECRET="ini", DATABASE_ACCESS=access)
        return configuration.grafana_settings().database


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[Aws]:
    yield Aws(monkeypatch)
    Aws.cold_start()


def _in_a_secret(aws: Aws) -> dict[str, object]:
    return {"GRAFANA_INI_SECRET": aws.secret("grafana/ini", INI)}


def _in_a_parameter(aws: Aws) -> dict[str, object]:
    aws.parameter("/grafana/ini", INI)
    return {"GRAFANA_INI_PARAMETER": "/grafana/ini"}


def _in_a_parameter_by_arn(aws: Aws) -> dict[str, object]:
    return {"GRAFANA_INI_PARAMETER": aws.parameter("/grafana/ini", INI)}


def _in_an_object(aws: Aws) -> dict[str, object]:
    aws.clients["s3"].create_bucket(Bucket="team", CreateBucketConfiguration={"LocationConstraint": "eu-north-1"})
    aws.clients["s3"].put_object(Bucket="team", Key="grafana/grafana.ini", Body=INI.encode())
    return {"GRAFANA_INI_OBJECT": {"bucket": "team", "key": "grafana/grafana.ini"}}


def _in_a_version_of_an_object(aws: Aws) -> dict[str, object]:
    s3 = aws.clients["s3"]
    s3.create_bucket(Bucket="team", CreateBucketConfiguration={"LocationConstraint": "eu-north-1"})
    s3.put_bucket_versioning(Bucket="team", VersioningConfiguration={"Status": "Enabled"})
    version = s3.put_object(Bucket="team", Key="grafana.ini", Body=INI.encode())["VersionId"]
    s3.put_object(Bucket="team", Key="grafana.ini", Body=b"[database]\ntype = postgres\n")
    return {"GRAFANA_INI_OBJECT": {"bucket": "team", "key": "grafana.ini", "version": version}}


@pytest.mark.parametrize("keep", [_in_a_secret, _in_a_parameter, _in_a_parameter_by_arn, _in_an_object, _in_a_version_of_an_object])
def test_grafana_ini_is_read_from_where_it_is_kept(aws: Aws, keep: Callable[[Aws], dict[str, object]]) -> None:
    aws.configure(**keep(aws))
    found = configuration.grafana_settings().database
    assert (found.type, found.host, found.port, found.user, found.password) == ("mysql", "grafana-db", 3307, "grafana", "from-the-ini")
    assert configuration.database_login(found) is None, "the user and password of grafana.ini"


def test_variables_come_from_an_ecs_style_map_and_win_over_the_environment_secret(aws: Aws) -> None:
    keys = aws.secret("grafana/keys", json.dumps({"password": "of-the-key", "number": 7}))
    whole = aws.secret("grafana/whole", "the-whole-text")
    first = aws.clients["secretsmanager"].put_secret_value(SecretId=keys, SecretString=json.dumps({"password": "of-the-new-version", "number": 7}))
    assert first["VersionId"]
    aws.configure(
        GRAFANA_INI_SECRET=aws.secret("ini", INI),
        GRAFANA_ENVIRONMENT_SECRET=aws.secret("environment", json.dumps({"GF_DATABASE_PASSWORD": "of-the-map", "GF_DATABASE_NAME": "from-the-secret"})),
        GRAFANA_ENVIRONMENT={
            "GF_DATABASE_PASSWORD": f"{keys}:password:AWSPREVIOUS:",
            "GF_SECURITY_SECRET_KEY": whole,
            "GF_DATABASE_USER": aws.parameter("/grafana/user", "of-the-parameter"),
            "GF_DATABASE_SSL_MODE": f"{keys}:number::",
        },
    )
    settings = configuration.grafana_settings()
    found = settings.database
    assert (found.user, found.password, found.name, found.ssl_mode) == ("of-the-parameter", "of-the-key", "from-the-secret", "7")
    assert settings.secret_keys[0].value == "the-whole-text"
    aws.configure(GRAFANA_ENVIRONMENT={"GF_DATABASE_PASSWORD": f"{keys}:password::", "GF_DATABASE_USER": f"{keys}:password:AWSPREVIOUS:"})
    found = configuration.grafana_settings().database
    assert (found.password, found.user) == ("of-the-new-version", "of-the-key"), "two versions of one secret are two values"


@pytest.mark.parametrize(
    ("text", "reference", "message"),
    [
        (SECRET, "{}:password::", "grafana_environment.GF_DATABASE_PASSWORD: the secret must be a JSON object, since its reference names a key"),
        (json.dumps([SECRET]), "{}:password::", "grafana_environment.GF_DATABASE_PASSWORD: the secret must be a JSON object, since its reference names a key"),
        (json.dumps({"other": SECRET}), "{}:password::", "grafana_environment.GF_DATABASE_PASSWORD: the secret has no key password"),
    ],
)  # fmt: skip
def test_a_reference_to_nothing_is_refused_by_its_variable_without_the_secret(aws: Aws, text: str, reference: str, message: str) -> None:
    arn = aws.secret("grafana/keys", text)
    aws.configure(GRAFANA_INI_SECRET=aws.secret("ini", INI), GRAFANA_ENVIRONMENT={"GF_DATABASE_PASSWORD": reference.format(arn)})
    with pytest.raises(ConfigurationError) as refused:
        configuration.grafana_settings()
    assert str(refused.value) == message


@pytest.mark.parametrize("variables", [
    {"GRAFANA_INI_SECRET": "absent"}, {"GRAFANA_INI_PARAMETER": "/absent"}, {"GRAFANA_INI_OBJECT": {"bucket": "absent", "key": "grafana.ini"}},
])  # fmt: skip
def test_what_is_not_there_leaves_the_function_as_what_aws_answers(aws: Aws, variables: dict[str, object]) -> None:
    aws.configure(**variables)
    with pytest.raises(Exception) as refused:  # noqa: PT011 - the boundary makes one of ours of it
        configuration.grafana_settings()
    left = shown(refused.value)
    assert type(left).__name__ == "AwsRefused"
    assert "see the IAM role of this function and the deployment settings" in str(left)


def test_an_object_that_is_no_text_is_refused(aws: Aws) -> None:
    aws.clients["s3"].create_bucket(Bucket="team", CreateBucketConfiguration={"LocationConstraint": "eu-north-1"})
    aws.clients["s3"].put_object(Bucket="team", Key="grafana.ini", Body=b"\xff\xfe")
    aws.configure(GRAFANA_INI_OBJECT={"bucket": "team", "key": "grafana.ini"})
    with pytest.raises(ConfigurationError, match="the object of grafana_ini_object is not UTF-8 text"):
        configuration.grafana_settings()


def test_without_settings_of_its_own_the_database_is_grafana_inis(aws: Aws) -> None:
    found = aws.database()
    assert (found.host, found.port, found.ssl_mode, found.ca_cert_path) == ("grafana-db", 3307, "skip-verify", "/etc/grafana/ca.pem")


def test_a_host_and_a_port_take_the_place_of_grafana_inis(aws: Aws) -> None:
    assert replace(aws.database(host="proxy.example.com"), host="grafana-db") == aws_settings(INI)
    aws.cold_start()
    aws.configure(DATABASE_ACCESS={"host": "proxy.example.com", "port": 6033})
    found = configuration.grafana_settings().database
    assert (found.host, found.port, found.user, found.password) == ("proxy.example.com", 6033, "grafana", "from-the-ini")


def aws_settings(ini: str) -> DatabaseSettings:
    return load_settings(ini).database


def test_a_socket_of_grafanas_machine_gives_way_to_a_host(aws: Aws) -> None:
    found = aws.database("[database]\ntype = postgres\nhost = /var/run/postgresql\n", host="db.example.com", port=5432)
    assert (found.host, found.port, found.unix_socket) == ("db.example.com", 5432, None)


@pytest.mark.parametrize(("access", "operation", "parameter", "answer"), [
    ({"instance": "grafana"}, "describe_db_instances", {"DBInstanceIdentifier": "grafana"},
     {"DBInstances": [{"Endpoint": {"Address": "grafana.abc.eu-north-1.rds.amazonaws.com", "Port": 3310}}]}),
    ({"cluster": "grafana"}, "describe_db_clusters", {"DBClusterIdentifier": "grafana"},
     {"DBClusters": [{"Endpoint": "grafana.abc.eu-north-1.rds.amazonaws.com", "ReaderEndpoint": "grafana.cluster-ro-abc.example.com", "Port": 3310}]}),
])  # fmt: skip
def test_an_instance_or_a_clusters_writer_is_found_by_its_identifier(
    aws: Aws, access: dict[str, object], operation: str, parameter: dict[str, str], answer: dict[str, Any]
) -> None:
    aws.rds.add_response(operation, answer, parameter)
    with aws.rds:
        found = aws.database(**access)
    assert (found.host, found.port) == ("grafana.abc.eu-north-1.rds.amazonaws.com", 3310)


@pytest.mark.parametrize(("access", "operation", "answer"), [
    ({"instance": "grafana"}, "describe_db_instances", {"DBInstances": [{"DBInstanceStatus": "creating"}]}),
    ({"cluster": "grafana"}, "describe_db_clusters", {"DBClusters": [{"Status": "creating"}]}),
])  # fmt: skip
def test_a_database_that_is_still_being_made_is_unavailable_which_is_tried_again(
    aws: Aws, access: dict[str, object], operation: str, answer: dict[str, Any]
) -> None:
    aws.rds.add_response(operation, answer)
    with aws.rds, pytest.raises(DatabaseUnavailable, match="grafana has no address yet"):
        aws.database(**access)


def test_an_instance_that_is_not_there_leaves_the_function_as_what_aws_answers(aws: Aws) -> None:
    aws.rds.add_client_error("describe_db_instances", "DBInstanceNotFound")
    with aws.rds, pytest.raises(ClientError) as refused:
        aws.database(instance="absent")
    assert "AWS answers DBInstanceNotFound to DescribeDBInstances" in str(shown(refused.value))


def test_settings_of_a_database_server_are_refused_for_sqlite(aws: Aws) -> None:
    with pytest.raises(ConfigurationError, match=r"grafana\.ini says sqlite3"):
        aws.database("[database]\npath = /mnt/grafana.db\n", host="db.example.com")


@pytest.mark.parametrize(("bundle", "path"), [("file", CA_BUNDLE), ("public", PUBLIC_AUTHORITIES)])
def test_a_ca_bundle_takes_the_place_of_the_path_on_grafanas_machine_and_ssl_mode_stays(aws: Aws, bundle: str, path: object) -> None:
    found = aws.database(ca_bundle=bundle)
    assert (found.ca_cert_path, found.ssl_mode) == (str(path), "skip-verify")


def test_the_public_authorities_are_there() -> None:
    assert "BEGIN CERTIFICATE" in PUBLIC_AUTHORITIES.read_text()


@pytest.mark.parametrize("access", [{"tls": "verify-full", "ca_bundle": "file"}, {"authentication": "iam", "user": "reencrypt", "ca_bundle": "file"}])
@pytest.mark.parametrize(("ini", "ssl_mode"), [
    (INI + "server_cert_name = other.example.com\nclient_cert_path = /etc/grafana/client.pem\n", "true"),
    ("[database]\nurl = postgres://grafana:x@db/grafana?sslmode=disable&sslrootcert=/etc/ca.pem&application_name=grafana\n", "verify-full"),
])  # fmt: skip
def test_verified_tls_is_of_the_host_whatever_grafana_ini_says(aws: Aws, access: dict[str, object], ini: str, ssl_mode: str) -> None:
    found = aws.database(ini, host="db.example.com", **access)
    assert (found.ssl_mode, found.ca_cert_path, found.server_cert_name, found.client_cert_path) == (ssl_mode, str(CA_BUNDLE), None, None)
    assert dict(found.query) in ({}, {"application_name": "grafana"})


def test_an_iam_token_is_made_anew_for_each_connection_for_this_host_port_and_user(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    access: dict[str, object] = {"authentication": "iam", "user": "reencrypt", "ca_bundle": "file", "host": "db.example.com", "port": 3306}
    made = configuration.database_login(aws.database(**access))
    assert made is not None
    credentials = made()
    url = urlsplit(f"https://{credentials.password}")
    given = {name: values[0] for name, values in parse_qs(url.query).items()}
    assert (credentials.user, url.netloc, given["Action"], given["DBUser"]) == ("reencrypt", "db.example.com:3306", "connect", "reencrypt")
    assert given["X-Amz-Expires"] == "900"
    assert "/eu-north-1/rds-db/" in given["X-Amz-Credential"]
    assert credentials.password not in repr(credentials)
    tokens = iter(["first", "second"])
    monkeypatch.setattr(aws.clients["rds"], "generate_db_auth_token", lambda **_: next(tokens), raising=False)
    assert [made().password, made().password] == ["first", "second"]


def test_a_rotated_secret_counts_from_the_next_connection_on(aws: Aws) -> None:
    name = aws.secret("rds!db-1", json.dumps({"username": "admin", "password": "before"}))
    made = configuration.database_login(aws.database(authentication="secret", secret=name))
    assert made is not None
    assert (made().user, made().password) == ("admin", "before")
    aws.clients["secretsmanager"].put_secret_value(SecretId=name, SecretString=json.dumps({"username": "admin", "password": "after"}))
    assert made().password == "after"


@pytest.mark.parametrize("text", [SECRET, json.dumps([SECRET]), json.dumps({"username": "admin"}), json.dumps({"username": "admin", "password": 5})])
def test_a_database_secret_of_another_form_is_refused_without_its_text(aws: Aws, text: str) -> None:
    made = configuration.database_login(aws.database(authentication="secret", secret=aws.secret("of-the-database", text)))
    assert made is not None
    with pytest.raises(ReencryptError, match=r"database\.secret must be a JSON object") as refused:
        made()
    assert SECRET not in str(refused.value)
