"""What leaves a function is one of our own errors, by its name, and never the text of anything else."""

from __future__ import annotations

import io
import json
import logging
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from aws_lambda_powertools.utilities.parameters.exceptions import GetParameterError
from botocore.exceptions import BotoCoreError, ClientError, EndpointConnectionError, NoCredentialsError

from reencrypt import errors
from reencrypt.errors import AwsRefused, InternalError, PayloadError, Reason, ReencryptError
from reencrypt.grafana.ini import Ini
from reencrypt.handlers.boundary import boundary, logger

SECRET = "hunter2-secret"
EVENT = {"run": "2026-11-25T12-00-00Z", "input": {}}


def raising(error: BaseException) -> Callable[[dict[str, Any], Any], dict[str, Any]]:
    @boundary
    def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
        raise error

    return handler


def leaving(handler: Callable[[Any, Any], dict[str, Any]], event: Any = EVENT) -> ReencryptError:
    """The error that leaves `handler`, after a look at all that Lambda and the log could show of it."""
    with pytest.raises(ReencryptError) as left:
        handler(event, None)
    error = left.value
    assert error.__context__ is None
    assert error.__cause__ is None
    assert SECRET not in "".join(traceback.format_exception(error)) + repr(error) + repr(error.args)
    return error


Log = Callable[[], list[dict[str, Any]]]


@pytest.fixture(autouse=True)
def log() -> Iterator[Log]:
    """The log's lines; none of any test may hold the secret."""
    handler = logger.registered_handler
    assert isinstance(handler, logging.StreamHandler)
    written = io.StringIO()
    before = handler.setStream(written)
    yield lambda: [json.loads(line) for line in written.getvalue().splitlines()]
    handler.setStream(before)
    assert SECRET not in written.getvalue()


def client_error(code: str, operation: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": SECRET}}, operation)


def leaves(base: type[ReencryptError] = ReencryptError) -> list[type[ReencryptError]]:
    return [base, *(leaf for child in base.__subclasses__() for leaf in leaves(child))]


def test_what_a_handler_returns_passes_and_is_logged_with_its_run(log: Log) -> None:
    @boundary
    def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
        """Kept."""
        return {"rows": event["input"]["rows"]}

    assert handler({"run": "r1", "input": {"rows": 3}}, None) == {"rows": 3}
    assert (handler.__name__, handler.__doc__) == ("handler", "Kept.")
    assert [(line["message"], line["run"], line.get("summary")) for line in log()] == [("started", "r1", None), ("done", "r1", {"rows": 3})]


def test_every_line_of_a_worker_says_of_which_run_mode_pass_and_chunk_it_is_and_the_next_call_forgets_them(log: Log) -> None:
    @boundary
    def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
        logger.info("at work")
        raise errors.DatabaseBusy("locked")

    leaving(handler, {"run": "r1", "input": {"mode": "rotate"}, "phase": "sweep-2", "chunk": {"id": 7, "group": "secrets"}})
    lines = log()
    assert [line["message"] for line in lines] == ["started", "at work", "locked"]
    assert {(line["run"], line["mode"], line["phase"], line["chunk"]) for line in lines} == {("r1", "rotate", "sweep-2", 7)}
    logger.info("between")
    assert not {"run", "mode", "phase", "chunk"} & set(log()[-1])


@pytest.mark.parametrize("given", [{"mode": SECRET}, {"mode": [SECRET]}, SECRET, [SECRET]])
def test_a_mode_that_is_none_is_not_repeated_in_the_log(given: object, log: Log) -> None:
    leaving(raising(errors.InvalidInput("mode: is none")), {"run": "r1", "input": given})
    assert {line["mode"] for line in log()} == {"invalid"}


def test_a_function_with_a_line_of_its_own_says_only_that_and_its_errors(log: Log) -> None:
    def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
        logger.info("chunk 12 of secrets")
        return {}

    assert boundary(handler, tells=False)(EVENT, None) == {}
    assert [line["message"] for line in log()] == ["chunk 12 of secrets"]


@pytest.mark.parametrize("kind", [kind for kind in leaves() if kind is not PayloadError])
def test_each_of_our_errors_keeps_its_class_and_its_message(kind: type[ReencryptError], log: Log) -> None:
    left = leaving(raising(kind("[security] secret_key is wrong")))
    assert (type(left), str(left)) == (kind, "[security] secret_key is wrong")
    assert kind.__name__ in vars(errors)
    last = log()[-1]
    assert (last["level"], last["message"], last["error"], last["run"]) == ("ERROR", str(left), kind.__name__, EVENT["run"])


def test_a_payload_error_keeps_its_reason() -> None:
    left = leaving(raising(PayloadError(Reason.TOO_SHORT)))
    assert isinstance(left, PayloadError)
    assert (left.reason, str(left)) == (Reason.TOO_SHORT, "too-short")


def test_our_error_leaves_without_the_foreign_one_that_it_came_from() -> None:
    @boundary
    def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
        try:
            raise ValueError(SECRET)
        except ValueError as error:
            raise errors.DatabaseUnavailable("no connection to the database") from error

    assert type(leaving(handler)) is errors.DatabaseUnavailable


@pytest.mark.parametrize("kind", [ValueError, KeyError, TypeError, UnicodeError, RuntimeError, OSError, AssertionError, RecursionError, MemoryError])
def test_an_unexpected_exception_leaves_only_its_class_and_place(kind: type[Exception], log: Log) -> None:
    def read(section: str, key: str, value: str) -> str:
        raise kind(SECRET, value)

    @boundary
    def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
        ini = Ini(on_read=read)
        ini.set("security", "secret_key", SECRET)
        return {"value": ini.text("security", "secret_key")}

    left = leaving(handler)
    assert type(left) is InternalError
    assert str(left).startswith(f"{kind.__name__} at ini:")
    assert "(raw); this is a bug" in str(left)
    assert log()[-1]["message"] == str(left)


def test_an_exception_with_a_secret_in_its_causes_leaves_none_of_them() -> None:
    @boundary
    def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
        try:
            raise ValueError(SECRET)
        except ValueError as error:
            raise ExceptionGroup(SECRET, [KeyError(SECRET)]) from error

    assert "ExceptionGroup at" in str(leaving(handler))


@pytest.mark.parametrize(
    ("code", "operation"),
    [("AccessDenied", "PutObject"), ("ResourceNotFoundException", "GetSecretValue"), ("ProvisionedThroughputExceededException", "PutItem")],
)
def test_what_aws_refuses_is_told_by_operation_and_code_and_not_by_its_text(code: str, operation: str) -> None:
    left = leaving(raising(client_error(code, operation)))
    assert type(left) is AwsRefused
    assert str(left).startswith(f"AWS answers {code} to {operation}; ")


def test_an_answer_of_aws_without_a_code_is_still_told() -> None:
    assert "an unknown error to PutObject" in str(leaving(raising(ClientError({}, "PutObject"))))


@pytest.mark.parametrize("error", [EndpointConnectionError(endpoint_url=f"https://{SECRET}"), NoCredentialsError(), BotoCoreError()], ids=type)
def test_what_cannot_reach_aws_is_told_by_its_class(error: BotoCoreError) -> None:
    left = leaving(raising(error))
    assert type(left) is AwsRefused
    assert type(error).__name__ in str(left)


@pytest.mark.parametrize(
    ("cause", "kind", "words"),
    [
        (client_error("AccessDeniedException", "GetSecretValue"), AwsRefused, "AccessDeniedException to GetSecretValue"),
        (EndpointConnectionError(endpoint_url="https://secretsmanager"), AwsRefused, "EndpointConnectionError"),
        (KeyError("SecretString"), InternalError, "GetParameterError at"),
    ],
)
def test_what_secrets_manager_answered_is_told_although_powertools_wraps_it(cause: Exception, kind: type[ReencryptError], words: str) -> None:
    @boundary
    def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
        try:
            raise cause
        except Exception:
            raise GetParameterError(SECRET)  # noqa: B904  (as Powertools does)

    left = leaving(handler)
    assert type(left) is kind
    assert words in str(left)


@pytest.mark.parametrize("event", [[SECRET], SECRET, None])
def test_an_event_that_is_no_object_is_refused_without_a_look_at_it(event: object) -> None:
    assert type(leaving(raising(AssertionError("never called")), event)) is InternalError


def test_an_end_of_the_process_is_not_held_up() -> None:
    with pytest.raises(KeyboardInterrupt):
        raising(KeyboardInterrupt())(EVENT, None)
