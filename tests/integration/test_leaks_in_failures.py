"""No way to fail lets a secret out: each is provoked in this process, and what leaves (exceptions, logs, answers, objects, reports) is searched.

On the deployed stack see tests/e2e/test_leaks.py. Here every error of `reencrypt.errors` gets its turn, and foreign exceptions whose texts hold
secrets are raised wherever foreign code is called.
"""

from __future__ import annotations

import base64
import contextlib
import gzip
import io
import json
import logging
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pymysql
import pytest
import sqlalchemy as sa
from aws_lambda_powertools.utilities import parameters
from botocore import exceptions as aws
from botocore.exceptions import ClientError

from cli.sample import ExpectedValue, make_sample
from reencrypt import errors
from reencrypt.database import database as databases
from reencrypt.errors import ReencryptError
from reencrypt.handlers.boundary import logger
from reencrypt.operations import html_report
from reencrypt.storage.lease import Lease
from tests.support import decryptor, golden, servers
from tests.support.functions import JOURNAL, RUNS, Functions
from tests.support.leak_case import INI, OTHER_KEY, PASSWORD, PROVIDER, SECRET_ACCESS_KEY, SECRET_KEY, SESSION_TOKEN, WRITE, Case
from tests.support.leaks import Emission, Needle, Searcher, told


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, list[ExpectedValue]]:
    path = tmp_path_factory.mktemp("sample") / "grafana.db"
    secrets = make_sample(path, SECRET_KEY, rows=6)
    return path.read_bytes(), secrets


@pytest.fixture
def case(sample: tuple[bytes, list[ExpectedValue]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Case]:
    """A fresh case; every log line (of libraries too, from WARNING on as in Lambda) and everything printed is captured."""
    handler = logger.registered_handler
    assert isinstance(handler, logging.StreamHandler)
    written, root = io.StringIO(), logging.getLogger()
    before, libraries = handler.setStream(written), logging.StreamHandler(written)
    root.addHandler(libraries)
    (tmp_path / "grafana.db").write_bytes(sample[0])
    yield Case(Functions(tmp_path / "aws", monkeypatch), tmp_path / "grafana.db", sample[1], written)
    root.removeHandler(libraries)
    handler.setStream(before)
    assert capfd.readouterr() == ("", "")


Provoke = Callable[[Case], str | None]
"""Makes a run fail; returns the class name of its error."""


def client_error(code: str, operation: str = "Decrypt") -> ClientError:
    text = f"{code}: {PASSWORD} {SECRET_ACCESS_KEY} arn:aws:kms {SECRET_KEY}"
    return ClientError({"Error": {"Code": code, "Message": text}, "ResponseMetadata": {"HTTPStatusCode": 400, "RequestId": SESSION_TOKEN}}, operation)  # type: ignore[typeddict-item]  # the parts that are read


def kms_says(error: Exception) -> Provoke:
    def provoke(case: Case) -> str | None:
        case.functions.kms.fails = error
        return case.functions.run(WRITE)

    return provoke


def ini_with(more: str, ini: str = INI, then: Provoke = lambda case: case.functions.run(WRITE)) -> Provoke:
    def provoke(case: Case) -> str | None:
        case.configure(more, ini)
        return then(case)

    return provoke


def input_of(**values: object) -> Provoke:
    return lambda case: case.functions.run({**WRITE, **values})


def environment_of(text: object) -> Provoke:
    def provoke(case: Case) -> str | None:
        case.functions.secrets["environment"] = text
        return case.functions.run(WRITE)

    return provoke


def locked(case: Case) -> str | None:
    case.functions.patch.setattr(databases, "BUSY_ATTEMPTS", 2)
    with contextlib.closing(sqlite3.connect(case.path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        return case.functions.run(WRITE)


def not_a_database(case: Case) -> str | None:
    case.path.write_text(INI * 20)
    return case.functions.run(WRITE)


def refused_values(case: Case) -> str | None:
    """The server says what it refuses: here, the row's text in the trigger's words."""
    case.sql("CREATE TRIGGER refuse BEFORE UPDATE ON secrets BEGIN SELECT RAISE(ABORT, 'refused'); END")
    ended = case.functions.run(WRITE)
    assert {entry["reason"] for entry in case.functions.report["unreadable"]} == {"write-refused"}
    return ended


def damaged(statement: str, **options: object) -> Provoke:
    def provoke(case: Case) -> str | None:
        case.sql(statement)
        return case.functions.run({**WRITE, **options})

    return provoke


REWRAP: dict[str, object] = {"mode": "rewrap-data-keys"}
TWO_KEYS = INI.replace(f"secret_key = {SECRET_KEY}", f"secret_key = {OTHER_KEY}\nold_secret_key = {SECRET_KEY}")
TWO_WRONG_KEYS = TWO_KEYS.replace(SECRET_KEY, f"neither-{SECRET_KEY}")


def mode_of(mode: str, **options: object) -> Provoke:
    return lambda case: case.functions.run({"mode": mode, **options})


def another_run(case: Case) -> str | None:
    Lease(case.functions.lease_table, case.functions.dynamodb).acquire("arn:of:another:run", 600)
    return case.functions.run(WRITE)


def dynamodb_refuses(case: Case) -> str | None:
    def refuse(**_: object) -> object:
        raise client_error("AccessDeniedException", "PutItem")

    case.functions.patch.setattr(case.functions.dynamodb, "put_item", refuse)
    return case.functions.run(WRITE)


def secrets_manager_refuses(case: Case) -> str | None:
    def refuse(name: str) -> object:
        raise client_error("ResourceNotFoundException", "GetSecretValue")

    case.functions.patch.setattr(parameters, "get_secret", refuse)
    return case.functions.run({})


def lost_outcome(case: Case) -> str | None:
    def lose(step: str) -> None:
        if step == "report":
            next((case.functions.folder / RUNS).rglob("outcomes/process/*")).unlink()

    case.functions.between = lose
    return case.functions.run({})


def wraps_wrongly(case: Case) -> str | None:
    case.functions.patch.setattr(case.functions.kms, "decrypt", lambda **_: {"Plaintext": PASSWORD.encode()})
    return case.functions.run(WRITE)


def unexpected(case: Case) -> str | None:
    def fail(*_: object) -> object:
        try:
            raise KeyError(SECRET_KEY)
        except KeyError as cause:
            error = RuntimeError(PASSWORD, cause)
            error.add_note(SECRET_ACCESS_KEY)
            raise error from cause

    case.functions.patch.setattr(html_report, "render", fail)
    with pytest.raises(errors.InternalError):  # the report of the failure fails in the same way
        case.functions.run({})
    return "InternalError"


def run_failed(case: Case) -> str | None:
    assert case.functions.run({"mode": "re-encrypt"}) == "ProviderNotReady"
    assert any(emission.place.endswith("RunFailed") for emission in case.functions.emissions)
    return "RunFailed"


MANY = "UPDATE user_auth SET o_auth_access_token = 'IyE', o_auth_refresh_token = 'IyE', o_auth_id_token = 'IyE', o_auth_token_type = 'IyE'"
NEITHER = None  # the run ends without an error: what went wrong is counted
PROVOKED: dict[str, tuple[str | None, Provoke]] = {
    "nothing wrong": (NEITHER, lambda case: case.functions.run(WRITE)),
    "a restore": (NEITHER, lambda case: case.functions.run(WRITE) or case.functions.run({"mode": "restore", "run": case.functions.name})),
    "a rotation": (NEITHER, mode_of("rotate", providerReady=True)),
    "data keys wrapped anew": (NEITHER, mode_of("rewrap-data-keys", providerReady=True)),
    "a data key that cannot be wrapped anew": (
        NEITHER, damaged("UPDATE data_keys SET encrypted_data = substr(encrypted_data, 1, 45) WHERE active = 0", **REWRAP),
    ),
    "a rollback": (NEITHER, mode_of("rollback")),
    "a rollback undone": (NEITHER, lambda case: mode_of("rollback")(case) or case.functions.run({"mode": "restore", "run": case.functions.name})),
    "a rotation of secret_key": (NEITHER, ini_with("", TWO_KEYS, then=mode_of("rotate-secret-key", settleSeconds=0))),
    "a rotation from a wrong secret_key": ("WrongSecretKey", ini_with("", TWO_WRONG_KEYS, then=mode_of("rotate-secret-key", settleSeconds=0))),
    "a rotation without the old secret_key": ("ConfigurationError", mode_of("rotate-secret-key", settleSeconds=0)),
    "unknown columns": ("UnknownCiphertext", damaged("CREATE TABLE setting AS SELECT * FROM secrets", mode="rollback")),
    "a prune": (NEITHER, lambda case: case.functions.run(WRITE) or case.functions.run({"mode": "prune-data-keys"})),
    "another secret_key": ("WrongSecretKey", ini_with("", INI.replace(SECRET_KEY, OTHER_KEY))),
    "no provider in Grafana": ("ProviderNotReady", lambda case: case.functions.run({"mode": "re-encrypt"})),
    "too many unreadable": ("TooManyUnreadable", damaged(MANY, unreadableBudget=0)),
    "values damaged": (NEITHER, damaged("UPDATE secrets SET value = substr(value, 1, 40) WHERE id < 4")),
    "values that are plaintext": (NEITHER, damaged("UPDATE data_source SET secure_json_data = '{\"password\": \"x\"}' WHERE id = 1")),
    "a data key damaged": (NEITHER, damaged("UPDATE data_keys SET encrypted_data = substr(encrypted_data, 1, 45) WHERE active = 0", onUnreadable="report")),
    "no labels": ("SafetyError", damaged("ALTER TABLE data_keys DROP COLUMN label")),
    "a chunk without outcome": ("IncompleteRun", lost_outcome),
    "another run": ("LeaseHeld", another_run),
    "the end": ("RunFailed", run_failed),
    "DynamoDB refuses": ("AwsRefused", dynamodb_refuses),
    "Secrets Manager refuses": ("AwsRefused", secrets_manager_refuses),
    "an unexpected exception": ("InternalError", unexpected),
    "a locked database": ("DatabaseBusy", locked),
    "no database": ("DatabaseUnavailable", ini_with("path = /absent/grafana.db")),
    "a port nobody listens on": ("DatabaseUnavailable", ini_with("url = mysql://grafana:known%20passw0rd%2F%C3%A4%C3%A9%2B%26%3C5e%3E@127.0.0.1:1/grafana")),
    "PostgreSQL's port nobody listens on": (
        "DatabaseUnavailable", ini_with("url = postgres://grafana:known%20passw0rd%2F%C3%A4%C3%A9%2B%26%3C5e%3E@127.0.0.1:1/grafana"),
    ),
    "a password in a URL that is not encoded": ("ConfigurationError", ini_with(f"url = mysql://grafana:{PASSWORD}@127.0.0.1:1/grafana")),
    "a password in a URL without a scheme": ("ConfigurationError", ini_with(f"url = grafana:{PASSWORD}@127.0.0.1:1/grafana")),
    "a text for a database": ("DatabaseError", not_a_database),
    "values refused": (NEITHER, refused_values),
    "a data key of another length": ("DataKeyUnwrapFailed", wraps_wrongly),
    "KMS denies": ("KeyAccessDenied", kms_says(client_error("AccessDeniedException"))),
    "KMS's key is disabled": ("KeyUnusable", kms_says(client_error("DisabledException"))),
    "KMS throttles": ("ProviderThrottled", kms_says(client_error("ThrottlingException"))),
    "KMS knows no such credentials": ("ConfigurationError", kms_says(client_error("UnrecognizedClientException"))),
    "KMS says something new": ("KeyUnusable", kms_says(client_error("SomethingNew"))),
    "KMS does not answer": ("ProviderThrottled", kms_says(aws.EndpointConnectionError(endpoint_url=f"https://{SECRET_ACCESS_KEY}"))),
    "KMS's parameters are wrong": ("ConfigurationError", kms_says(aws.ParamValidationError(report=f"{PASSWORD} {SECRET_KEY}"))),
    "half of the credentials": ("ConfigurationError", ini_with("", INI.replace("secret_access_key =", "x ="))),
    "the environment is no JSON": ("ConfigurationError", environment_of(f"GF_DATABASE_PASSWORD={PASSWORD}")),
    "the environment's JSON is cut off": ("ConfigurationError", environment_of(json.dumps({"GF_DATABASE_PASSWORD": PASSWORD})[:-1])),
    "the environment is a list": ("ConfigurationError", environment_of(json.dumps([PASSWORD]))),
    "the environment is binary": ("ConfigurationError", environment_of(PASSWORD.encode())),
    "a variable and its file": (
        "ConfigurationError", environment_of(json.dumps({"GF_DATABASE_PASSWORD": PASSWORD, "GF_DATABASE_PASSWORD__FILE": f"/run/{SECRET_KEY}"})),
    ),
    "a file that is absent": ("ConfigurationError", ini_with(f"password = $__file{{/{PASSWORD}}}")),
    "Vault": ("ConfigurationError", ini_with(f"password = $__vault{{{PASSWORD}}}")),
    "a connection string": ("ConfigurationError", ini_with(f"connection_string = user:{PASSWORD}@tcp(host)/grafana")),
    "a URL that is none": ("ConfigurationError", ini_with(f"url = postgres://grafana:{PASSWORD}@[::1/grafana")),
    "a port that is none": ("ConfigurationError", ini_with(f"type = mysql\nhost = db:{PASSWORD}")),
    "a type over two lines": ("ConfigurationError", ini_with(f"type = mysql \\\npassword = {PASSWORD}")),
    "a provider over two lines": ("ConfigurationError", ini_with(f"[security]\nencryption_provider = {PROVIDER} \\\nsecret_key = {SECRET_KEY}")),
    "a region over two lines": (
        "ProviderThrottled",
        ini_with(
            f"[security.encryption.{PROVIDER}]\nregion = eu-north-1 \\\nsecret_access_key = {SECRET_ACCESS_KEY}",
            then=kms_says(client_error("KMSInternalException")),
        ),
    ),
    "a path over two lines": ("DatabaseUnavailable", ini_with(f"path = /absent/grafana.db \\\npassword = {PASSWORD}")),
    "a key_id over two lines": (
        "KeyUnusable",
        ini_with(
            f"[security.encryption.{PROVIDER}]\nkey_id = alias/grafana \\\nsecret_access_key = {SECRET_ACCESS_KEY}",
            then=kms_says(client_error("DisabledException")),
        ),
    ),
    "a key without a value": ("InvalidIni", ini_with(f"password {PASSWORD}")),
    "a section that is not closed": ("InvalidIni", ini_with(f"[{PASSWORD}")),
    "a quote that is not closed": ("InvalidIni", ini_with(f'"{PASSWORD}')),
    "quoted lines that are not closed": ("InvalidIni", ini_with(f'password = """{PASSWORD}\nmore')),
    "text that is no Unicode": ("InvalidIni", ini_with(f"password = {PASSWORD}\ud800")),
    "a mode that is none": ("InvalidInput", input_of(mode=PASSWORD)),
    "a number that is none": ("InvalidInput", input_of(chunkRows=PASSWORD)),
    "a budget that is none": ("InvalidInput", input_of(unreadableBudget=[PASSWORD])),
    "a choice that is none": ("InvalidInput", input_of(onUnreadable={"x": PASSWORD})),
    "a run that is none": ("InvalidInput", input_of(run=PASSWORD)),
    "an input that is none": ("InvalidInput", lambda case: case.functions.run([PASSWORD])),
}  # fmt: skip
# Bases of the tree, which only stand for their leaves, and what is counted instead of leaving.
NEVER_LEAVE = {"ReencryptError", "ProviderError", "ValueRefused", "PayloadError"}


@pytest.mark.parametrize("name", PROVOKED, ids=PROVOKED)
def test_no_failure_lets_a_secret_out(case: Case, name: str) -> None:
    wanted, provoke = PROVOKED[name]
    assert provoke(case) == wanted
    assert not (leaks := case.leaks()), leaks


def test_every_error_that_can_leave_is_provoked_above() -> None:
    def all_of(kind: type[ReencryptError]) -> Iterator[str]:
        yield kind.__name__
        for child in kind.__subclasses__():
            yield from all_of(child)

    in_the_tree = {name for name in all_of(ReencryptError) if name in vars(errors)}
    assert {error for error, _ in PROVOKED.values() if error} == in_the_tree - NEVER_LEAVE


def driver_errors() -> list[Exception]:
    """What drivers may raise, with a statement, its parameters and a text full of secrets."""
    text = f"near {PASSWORD!r}: Failing row contains ({SECRET_KEY}, {SECRET_ACCESS_KEY})"
    return [
        *(kind(text) for kind in (sqlite3.OperationalError, sqlite3.IntegrityError, sqlite3.DataError, sqlite3.DatabaseError, sqlite3.ProgrammingError)),
        *(kind(code, text) for kind in (pymysql.err.OperationalError, pymysql.err.InternalError) for code in (1045, 1064, 2013, 4242)),
        pymysql.err.IntegrityError(1062, text), pymysql.err.DataError(1406, text), pymysql.err.ProgrammingError(1146, text),
        *(kind(text) for kind in (psycopg.OperationalError, psycopg.errors.CheckViolation, psycopg.errors.UndefinedTable, psycopg.errors.SyntaxError)),
    ]  # fmt: skip


@pytest.mark.parametrize("error", driver_errors(), ids=lambda error: f"{type(error).__module__}.{type(error).__name__}")
def test_what_a_driver_says_does_not_come_out(case: Case, error: Exception) -> None:
    statement, values = f"UPDATE secrets SET value = '{PASSWORD}'", (SECRET_KEY, SESSION_TOKEN)
    base = next(kind for kind in type(error).__mro__ if kind.__name__ == "Error")
    raised = sa.exc.DBAPIError.instance(statement, values, error, base)
    assert PASSWORD in str(raised)
    assert SECRET_KEY in str(raised)
    assert case.fails_to_connect(raised) in ("DatabaseError", "DatabaseUnavailable", "DatabaseBusy", "ValueRefused")
    assert not (leaks := case.leaks()), leaks


@pytest.mark.parametrize("kind", [sa.exc.SQLAlchemyError, sa.exc.ArgumentError, sa.exc.NoSuchColumnError, sa.exc.InvalidRequestError, ValueError, TypeError])
def test_what_sqlalchemy_says_does_not_come_out(case: Case, kind: type[Exception]) -> None:
    assert case.fails_to_connect(kind(f"{PASSWORD} {SECRET_KEY}")) in ("DatabaseError", "InternalError")
    assert not (leaks := case.leaks()), leaks


def test_a_wrong_database_password_does_not_come_out(case: Case) -> None:
    with servers.server("mysql") as url:
        user = "CREATE USER IF NOT EXISTS leaktest@'%%' IDENTIFIED BY 'the right one'"
        servers.execute(url, user)
        try:
            case.configure(f"type = mysql\nhost = {url.host}:{url.port}\nname = mysql\nuser = leaktest")
            assert case.functions.run({}) == "DatabaseUnavailable"
        finally:
            servers.execute(url, "DROP USER leaktest@'%%'")
    assert "user name or password is wrong" in case.functions.report["error"]["message"]
    assert not (leaks := case.leaks()), leaks


PLACES: dict[str, Callable[[Case], object]] = {
    "log": lambda case: logger.warning(PASSWORD),
    "log of a library": lambda case: logging.getLogger("sqlalchemy.pool").error("failed with %r", PASSWORD),
    "object": lambda case: case.functions.bucket(RUNS).put("planted", base64.b64encode(PASSWORD.encode()), "text/plain"),
    "journal": lambda case: case.functions.bucket(JOURNAL).put("planted", gzip.compress(PASSWORD.encode()), "application/gzip"),
    "exception": lambda case: case.functions.left(errors.DatabaseError(f"no connection with {PASSWORD}")),
}


@pytest.mark.parametrize("place", PLACES)
def test_a_secret_that_is_planted_in_any_of_these_places_is_found(case: Case, place: str) -> None:
    assert case.functions.run({}) is None
    assert case.leaks() == ""
    PLACES[place](case)
    assert "password" in case.leaks()


def test_a_run_over_what_grafana_wrote_lets_nothing_out(case: Case, tmp_path: Path) -> None:
    with golden.loaded("12.4.0-sqlite", tmp_path, None) as database:
        case.functions.secrets["ini"] = database.ini + INI.replace(f"secret_key = {SECRET_KEY}\n", "", 1)
        for request in ({}, {**WRITE, "onUnreadable": "report"}, {"mode": "verify", "onUnreadable": "report"}):
            assert case.functions.run(request) is None
        entries = [entry for entry in database.expected["values"] if "plaintext" in entry or "plaintext_b64" in entry]
        needles = [Needle(f"plaintext of {entry['table']}.{entry['column']} {entry['pk']} {entry['path']}", _plaintext(entry)) for entry in entries]
        unwrap = {PROVIDER: lambda wrapped: case.functions.kms.decrypt(CiphertextBlob=wrapped)["Plaintext"]}
        reader = decryptor.Reader(database.engine, database.expected["secret_key"], unwrap)
        needles += [Needle(f"data key {key_id}", reader.data_key(key_id)) for key_id in reader.rows]
    searcher = Searcher(needles)
    assert case.functions.report["totals"]["already_current"] > 60
    assert (len(searcher.too_short), len(searcher.names)) == (6, 118)  # six of Grafana's plaintexts are empty, or as short as `x`
    emitted = [*case.functions.emissions, *case.functions.objects(RUNS), *case.functions.objects(JOURNAL), Emission("log", case.log.getvalue().encode())]
    leaks = searcher.search(emitted)
    assert not leaks, told(leaks)


def _plaintext(entry: dict[str, Any]) -> bytes:
    return base64.b64decode(entry["plaintext_b64"]) if "plaintext_b64" in entry else str(entry["plaintext"]).encode()
