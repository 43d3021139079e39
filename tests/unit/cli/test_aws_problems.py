"""What AWS refuses is told in words: what, on what, and what to do; never a secret, never a traceback."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from botocore import exceptions as boto
from botocore.exceptions import BotoCoreError, ClientError

from cli.aws_problems import Patience, explain
from tests.unit.cli.conftest import Operator
from tests.unit.cli.fake_aws import BUCKET, MACHINE, SECRET, AwsSays, World

DENIED = (
    "User: arn:aws:iam::111122223333:user/ann is not authorized to perform: states:StartExecution on resource: "
    "arn:aws:states:eu-north-1:111122223333:stateMachine:Machine because no identity-based policy allows the states:StartExecution action"
)


def refusal(code: str, message: str = "", operation: str = "DescribeExecution", status: int = 400) -> ClientError:
    return ClientError(
        {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status, "RequestId": "req-1"}}, operation  # type: ignore[typeddict-item]  # the other keys play no part
    )  # fmt: skip


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (refusal("AccessDeniedException", DENIED), f"denies states:StartExecution on {MACHINE} to arn:aws:iam"),
        (refusal("AccessDenied", "Access Denied", "GetObject", 403), "denies s3:GetObject on the bucket: allow it"),
        (refusal("AccessDenied", "Access Denied", "ListObjectsV2", 403), "denies s3:ListBucket on the bucket"),
        (refusal("403", "Forbidden", "HeadObject", 403), "denies s3:GetObject on the bucket"),
        (refusal("ExpiredTokenException"), "have expired: sign in again (`aws sso login --profile ops`"),
        (refusal("UnrecognizedClientException"), "does not know these credentials"),
        (refusal("SignatureDoesNotMatch", f"The Canonical String was 'x-amz-security-token:{SECRET}'"), "clock is wrong"),
        (refusal("ThrottlingException"), "throttles states:DescribeExecution and did so at every try"),
        (refusal("NoSuchBucket", operation="GetObject"), "the bucket does not exist"),
        (refusal("StateMachineDeleting", SECRET, "StartExecution"), "AWS answers states:StartExecution with StateMachineDeleting (request req-1)"),
        (refusal("InternalError", SECRET, "DescribeStacks", 500), "answers cloudformation:DescribeStacks with InternalError"),
        (boto.NoCredentialsError(), "there are no AWS credentials"),
        (boto.PartialCredentialsError(provider="env", cred_var="AWS_SECRET_ACCESS_KEY"), "AWS_SECRET_ACCESS_KEY is missing"),
        (boto.ProfileNotFound(profile="ops"), "there is no AWS profile ops"),
        (boto.NoRegionError(), "give --region"),
        (boto.SSOTokenLoadError(error_msg=SECRET), "sign-in of this profile has expired: sign in again (`aws sso login --profile ops`"),
        (boto.TokenRetrievalError(provider="sso", error_msg=SECRET), "sign-in of this profile has expired"),
        (boto.CredentialRetrievalError(provider="custom-process", error_msg=SECRET), "could not be fetched"),
        (boto.SSLError(endpoint_url="https://states", error=Exception(SECRET)), "no trusted TLS connection to https://states"),
        (boto.EndpointConnectionError(endpoint_url="https://states"), "does not answer at https://states"),
        (boto.ReadTimeoutError(endpoint_url="https://states"), "does not answer at https://states"),
        (boto.ConfigParseError(path=SECRET, error=SECRET), "refuses with ConfigParseError"),
    ],
)  # fmt: skip
def test_each_refusal_says_what_to_do_and_no_secret(error: ClientError | BotoCoreError, words: str) -> None:
    said = explain(error, resource="the bucket", profile="ops")
    assert words in said
    assert SECRET not in said


def patient(*failures: Exception) -> tuple[Callable[[], str], list[float], Patience]:
    left, pauses = list(failures), list[float]()

    def call() -> str:
        if left:
            raise left.pop(0)
        return "answer"

    return call, pauses, Patience(pauses.append)


@pytest.mark.parametrize(
    "passing",
    [refusal("ThrottlingException"), refusal("SlowDown", status=503), refusal("Weird", status=500), boto.ReadTimeoutError(endpoint_url="https://states")],
)
def test_what_passes_is_tried_again_after_longer_and_longer_waits(passing: Exception) -> None:
    call, pauses, patience = patient(*[passing] * 5)
    assert patience(call) == "answer"
    assert pauses == [1, 2, 4, 8, 16]


def test_patience_ends() -> None:
    call, pauses, patience = patient(*[refusal("ThrottlingException")] * 50)
    with pytest.raises(ClientError):
        patience(call)
    assert (len(pauses), max(pauses)) == (7, 30)


@pytest.mark.parametrize("lasting", [refusal("AccessDenied"), refusal("ExpiredToken"), boto.SSLError(endpoint_url="https://states", error=Exception())])
def test_what_does_not_pass_is_not_tried_again(lasting: Exception) -> None:
    call, pauses, patience = patient(lasting)
    with pytest.raises(type(lasting)):
        patience(call)
    assert pauses == []


@pytest.mark.parametrize(
    ("operation", "arguments"),
    [
        ("DescribeStacks", ["runs"]),
        ("ListExecutions", ["runs"]),
        ("StartExecution", ["start", "--input", "{}"]),
        ("DescribeExecution", ["watch", "a-run"]),
        ("GetExecutionHistory", ["watch", "a-run"]),
        ("GetObject", ["report", "ended"]),
    ],
)
def test_a_permission_that_is_missing_anywhere_is_named_with_exit_code_3(world: World, operator: Operator, operation: str, arguments: list[str]) -> None:
    world.begin("a-run", {})
    world.end(world.begin("ended", {}))
    message = DENIED.replace("states:StartExecution", f"some:{operation}")
    world.fail[operation] = [AwsSays("AccessDeniedException", message, 403)]
    said = operator(*arguments)
    assert (said.code, said.output) == (3, "")
    assert f"AWS denies some:{operation} on arn:aws:states" in said.errors


def test_a_bucket_that_does_not_say_what_it_denies_is_named_too(world: World, operator: Operator) -> None:
    world.end(world.begin("ended", {}))
    world.fail["GetObject"] = [AwsSays("AccessDenied", "Access Denied", 403)]
    assert f"AWS denies s3:GetObject on the run bucket {BUCKET}" in operator("report", "ended").errors


def test_a_bug_is_named_by_place_only(world: World, operator: Operator) -> None:
    world.fail["ListExecutions"] = [RuntimeError(SECRET)]
    said = operator("runs")
    assert (said.code, SECRET in said.errors) == (3, False)
    assert "a bug: RuntimeError in fake_aws.py, line" in said.errors
