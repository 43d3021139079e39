"""A KMS key wraps and unwraps data keys as Grafana's provider does, and each way to fail says what to do, without a secret."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import boto3
import botocore.session
import pytest
from botocore import exceptions as aws
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.compat import HTTPHeaders
from botocore.config import Config
from botocore.stub import Stubber

from reencrypt.errors import ConfigurationError, DataKeyUnwrapFailed, KeyAccessDenied, KeyUnusable, ProviderThrottled, ReencryptError
from reencrypt.grafana.settings import KmsSection
from reencrypt.providers import awskms, kms_failures
from reencrypt.providers.awskms import AwsKmsProvider, KmsOptions

if TYPE_CHECKING:
    from mypy_boto3_kms import KMSClient

NAME = "awskms.prod"
KEY = "arn:aws:kms:eu-north-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
ROLE = "arn:aws:iam::444455556666:role/grafana-kms"
DATA_KEY = bytes(range(0xF0, 0x100))
RAW = b"\x01\x02\x02\x00x" + bytes(range(150))
RAW_03 = b"\x01\x02\x03\x00x" + bytes(range(150))
EMULATORS = b"1234abcd-12ab-34cd-56ef-1234567890ab" + bytes(32) + bytes(range(44))

ACCESS_KEY_ID, SECRET_ACCESS_KEY, SESSION_TOKEN = "AKIDKNOWNTOTESTS", "secretAccessKeyKnownToTests", "sessionTokenKnownToTests"
SECRETS = (ACCESS_KEY_ID, SECRET_ACCESS_KEY, SESSION_TOKEN, DATA_KEY.hex(), repr(DATA_KEY), repr(RAW)[2:20], base64.b64encode(RAW).decode())
OWN = {"access_key_id": ACCESS_KEY_ID, "secret_access_key": SECRET_ACCESS_KEY, "session_token": SESSION_TOKEN}


SESSION = boto3.Session("testing", "testing", region_name="eu-north-1")  # loads each service's model once


def section(key_id: str = KEY, **values: Any) -> KmsSection:
    return KmsSection(NAME, key_id, **values)


@pytest.fixture
def kms() -> KMSClient:
    return SESSION.client("kms", config=Config(retries={"total_max_attempts": 1}))


@pytest.fixture
def stub(kms: KMSClient) -> Iterator[Stubber]:
    with Stubber(kms) as stubber:
        yield stubber
        stubber.assert_no_pending_responses()


def without_secrets(error: BaseException) -> str:
    text = f"{error} {error!r} {error.args}"
    assert not [secret for secret in SECRETS if secret in text]
    return str(error)


# --- what goes to KMS ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "key_id",
    ["1234abcd-12ab-34cd-56ef-1234567890ab", KEY, "alias/Grafana", "arn:aws:kms:eu-north-1:111122223333:alias/Grafana", "mrk-1234abcd12ab34cd56ef1234567890ab",
     "arn:aws:kms:eu-north-1:999988887777:key/1234abcd-12ab-34cd-56ef-1234567890ab"],
    ids=["id", "ARN", "alias", "alias ARN", "multi-region", "another account"],
)  # fmt: skip
def test_a_data_key_is_wrapped_under_the_key_as_the_section_names_it_and_stored_as_kms_gives_it(key_id: str, kms: KMSClient, stub: Stubber) -> None:
    stub.add_response("encrypt", {"CiphertextBlob": RAW}, {"KeyId": key_id, "Plaintext": DATA_KEY})
    assert AwsKmsProvider(section(key_id), KmsOptions(), kms).wrap(DATA_KEY) == RAW


@pytest.mark.parametrize(
    ("stored", "sent"),
    [
        (RAW, RAW),
        (RAW_03, RAW_03),
        (EMULATORS, EMULATORS),
        (base64.b64encode(RAW), RAW),
        (base64.b64encode(RAW_03) + b"\n", RAW_03),
        (base64.b64encode(RAW)[:-3], base64.b64encode(RAW)[:-3]),
        (base64.b64encode(EMULATORS), base64.b64encode(EMULATORS)),
        (b"AQIC but no base64", b"AQIC but no base64"),
    ],
    ids=["raw", "raw, 03", "a foreign beginning", "base64", "base64 with a line end", "cut base64", "base64 of something else", "only the first letters"],
)
def test_a_wrapped_key_is_sent_as_it_is_stored_unless_it_is_base64_of_what_kms_makes(stored: bytes, sent: bytes, kms: KMSClient, stub: Stubber) -> None:
    stub.add_response("decrypt", {"Plaintext": DATA_KEY}, {"CiphertextBlob": sent})  # no KeyId: the blob names its key
    assert AwsKmsProvider(section(), KmsOptions(), kms).unwrap(stored) == DATA_KEY


def test_an_encryption_context_goes_with_both_calls(kms: KMSClient, stub: Stubber) -> None:
    context = {"purpose": "grafana"}
    provider = AwsKmsProvider(section(), KmsOptions(encryption_context=context), kms)
    stub.add_response("encrypt", {"CiphertextBlob": RAW}, {"KeyId": KEY, "Plaintext": DATA_KEY, "EncryptionContext": context})
    stub.add_response("decrypt", {"Plaintext": DATA_KEY}, {"CiphertextBlob": RAW, "EncryptionContext": context})
    assert provider.unwrap(provider.wrap(DATA_KEY)) == DATA_KEY


@pytest.mark.parametrize("size", [0, 15, 17, 32])
def test_only_sixteen_bytes_are_a_data_key(size: int, kms: KMSClient, stub: Stubber) -> None:
    plaintext = os.urandom(size)
    stub.add_response("decrypt", {"Plaintext": plaintext}, {"CiphertextBlob": RAW})
    with pytest.raises(DataKeyUnwrapFailed, match=f"{size} bytes") as failure:
        AwsKmsProvider(section(), KmsOptions(), kms).unwrap(RAW)
    assert not size or repr(plaintext) not in repr(failure.value)


# --- how AWS refuses -------------------------------------------------------------------------------------------------------------------

Row = tuple[str, type[ReencryptError], tuple[str, ...]]
BOTH: list[Row] = [
    *((code, ProviderThrottled, ("maxConcurrency",)) for code in sorted(kms_failures.THROTTLED)),
    *((code, ProviderThrottled, ("eu-north-1", "later")) for code in sorted(kms_failures.UNAVAILABLE)),
    *((code, KeyAccessDenied, (KEY, "allow", "the key's policy", "kms_key_arns", "the worker's IAM role")) for code in sorted(kms_failures.DENIED)),
    *((code, ConfigurationError, ("the worker's IAM role", "eu-north-1")) for code in sorted(kms_failures.BAD_CREDENTIALS)),
    *((code, KeyUnusable, (KEY, advice)) for code, advice in kms_failures.UNUSABLE.items()),
    *((code, DataKeyUnwrapFailed, ("kms_encryption_context", "damaged", "another region")) for code in sorted(kms_failures.WRONG_CIPHERTEXT)),
    ("SomethingNewException", KeyUnusable, (KEY,)),
]
ENCRYPT: list[Row] = [*BOTH, ("ValidationException", ConfigurationError, ("key_id", KEY))]
DECRYPT: list[Row] = [*BOTH, ("ValidationException", DataKeyUnwrapFailed, ("damaged",))]


@pytest.mark.parametrize(
    ("action", "code", "kind", "words"),
    [("kms:Encrypt", *row) for row in ENCRYPT] + [("kms:Decrypt", *row) for row in DECRYPT],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_answer_of_kms_is_an_error_that_says_what_to_do(
    action: str, code: str, kind: type[ReencryptError], words: tuple[str, ...], kms: KMSClient, stub: Stubber
) -> None:
    provider = AwsKmsProvider(section(region="eu-north-1"), KmsOptions(), kms)
    stub.add_client_error(action.removeprefix("kms:").lower(), code, f"{ACCESS_KEY_ID} {SECRET_ACCESS_KEY}: not for people", http_status_code=400)
    with pytest.raises(kind) as failure:
        provider.wrap(DATA_KEY) if action == "kms:Encrypt" else provider.unwrap(RAW)
    assert type(failure.value) is kind
    message = without_secrets(failure.value)
    for word in (NAME, action, code, *words):
        assert word in message


def test_every_class_of_answers_is_in_the_table_once() -> None:
    codes = [code for code, _, _ in ENCRYPT]
    assert len(codes) == len(set(codes))


def test_an_unknown_server_error_is_worth_another_try(kms: KMSClient, stub: Stubber) -> None:
    stub.add_client_error("decrypt", "SomethingNewException", http_status_code=503)
    with pytest.raises(ProviderThrottled):
        AwsKmsProvider(section(), KmsOptions(), kms).unwrap(RAW)


@pytest.mark.parametrize(
    ("values", "options", "who", "where"),
    [
        ({}, KmsOptions(), "the worker's IAM role", "kms_key_arns"),
        (OWN, KmsOptions(), "the owner of access_key_id in [security.encryption.awskms.prod]", "in its own IAM policy"),
        (OWN, KmsOptions("role"), "the worker's IAM role", "kms_key_arns"),
        ({}, KmsOptions(role_to_assume=ROLE), f"the role {ROLE}", "in its own IAM policy"),
    ],
    ids=["role", "own", "own, not wanted", "assumed"],
)
def test_a_denial_names_who_must_be_allowed_and_where(values: dict[str, Any], options: KmsOptions, who: str, where: str, kms: KMSClient, stub: Stubber) -> None:
    stub.add_client_error("encrypt", "AccessDeniedException")
    with pytest.raises(KeyAccessDenied) as failure:
        AwsKmsProvider(section(**values), options, kms).wrap(DATA_KEY)
    message = without_secrets(failure.value)
    assert f"allow {who} that action in the key's policy and {where}" in message.replace("in its own IAM policy (kms_key_arns", "kms_key_arns")


def test_a_denial_repeats_the_principal_and_the_key_that_aws_names(kms: KMSClient, stub: Stubber) -> None:
    principal, earlier = "arn:aws:sts::111122223333:assumed-role/Worker-1A/process_chunk", KEY.replace("1234abcd", "99999999")
    text = f"User: {principal} is not authorized to perform: kms:Decrypt on resource: {earlier} because no resource-based policy allows the action"
    stub.add_client_error("decrypt", "AccessDeniedException", text)
    with pytest.raises(KeyAccessDenied) as failure:
        AwsKmsProvider(section(), KmsOptions(), kms).unwrap(RAW)
    assert f"kms:Decrypt under {earlier}; allow {principal} that action" in str(failure.value)
    assert "deleted" not in str(failure.value)


def test_a_denial_that_names_no_key_may_be_one_of_a_deleted_key(kms: KMSClient, stub: Stubber) -> None:
    stub.add_client_error("decrypt", "AccessDeniedException", "The ciphertext refers to a customer master key that does not exist")
    with pytest.raises(KeyAccessDenied, match="deleted or in another region"):
        AwsKmsProvider(section(), KmsOptions(), kms).unwrap(RAW)


@pytest.mark.parametrize("code", sorted(kms_failures.BAD_CREDENTIALS))
def test_bad_credentials_of_the_section_are_named_by_their_settings(code: str, kms: KMSClient, stub: Stubber) -> None:
    stub.add_client_error("decrypt", code)
    with pytest.raises(ConfigurationError) as failure:
        AwsKmsProvider(section(**OWN), KmsOptions(), kms).unwrap(RAW)
    message = without_secrets(failure.value)
    for word in ("access_key_id", "secret_access_key", "session_token", "[security.encryption.awskms.prod]", "kms_credentials"):
        assert word in message


# --- how AWS cannot be called ----------------------------------------------------------------------------------------------------------

_URL = "https://kms.eu-north-1.amazonaws.com/"
UNANSWERED: list[tuple[Exception, type[ReencryptError], str]] = [
    (aws.EndpointConnectionError(endpoint_url=_URL), ProviderThrottled, "KMS in eu-north-1 does not answer"),
    (aws.ConnectTimeoutError(endpoint_url=_URL), ProviderThrottled, "VPC endpoint"),
    (aws.ReadTimeoutError(endpoint_url=_URL), ProviderThrottled, "KMS in eu-north-1 does not answer"),
    (aws.ConnectionClosedError(endpoint_url=_URL), ProviderThrottled, "KMS in eu-north-1 does not answer"),
    (aws.SSLError(endpoint_url=_URL, error=OSError()), ProviderThrottled, "SSLError"),
    (aws.ProxyConnectionError(proxy_url="http://user:password@proxy"), ProviderThrottled, "ProxyConnectionError"),
    (aws.NoCredentialsError(), ConfigurationError, "no AWS credentials"),
    (aws.PartialCredentialsError(provider="env", cred_var="x"), ConfigurationError, "no AWS credentials"),
    (aws.CredentialRetrievalError(provider="x", error_msg=SECRET_ACCESS_KEY), ConfigurationError, "no AWS credentials"),
    (aws.InvalidRegionError(region_name="x"), ConfigurationError, "region"),
    (aws.ParamValidationError(report=SECRET_ACCESS_KEY), ConfigurationError, "ParamValidationError"),
    (aws.UnknownServiceError(service_name="x", known_service_names="y"), ConfigurationError, "UnknownServiceError"),
]


@pytest.mark.parametrize(("raised", "kind", "words"), UNANSWERED, ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "")
def test_each_way_not_to_reach_kms_is_an_error_that_says_where_to_look(raised: Exception, kind: type[ReencryptError], words: str, kms: KMSClient) -> None:
    def fail(**_: Any) -> None:
        raise raised

    kms.meta.events.register("before-send.kms", fail)
    provider = AwsKmsProvider(section(region="eu-north-1"), KmsOptions(), kms)
    calls: list[Callable[[], bytes]] = [lambda: provider.wrap(DATA_KEY), lambda: provider.unwrap(RAW)]
    for call in calls:
        with pytest.raises(kind) as failure:
            call()
        message = without_secrets(failure.value)
        assert words in message
        assert NAME in message
        assert "password" not in message


@pytest.mark.parametrize("region", ["eu north 1", "https://kms", "-"])
def test_a_region_that_is_none_is_named_as_the_setting_at_fault(region: str) -> None:
    with pytest.raises(ConfigurationError, match=r"no AWS region; correct region of \[security\.encryption\.awskms\.prod\]"):
        AwsKmsProvider(section(region=region, **OWN), KmsOptions()).unwrap(RAW)


def test_without_a_key_id_old_data_keys_are_still_unwrapped_but_none_is_wrapped(kms: KMSClient, stub: Stubber) -> None:
    provider = AwsKmsProvider(section(""), KmsOptions(), kms)
    stub.add_response("decrypt", {"Plaintext": DATA_KEY}, {"CiphertextBlob": RAW})
    assert provider.unwrap(RAW) == DATA_KEY
    with pytest.raises(ConfigurationError, match=r"\[security\.encryption\.awskms\.prod\] key_id is missing"):
        provider.wrap(DATA_KEY)


def test_an_empty_row_is_a_damaged_row_and_needs_no_call(kms: KMSClient) -> None:
    with pytest.raises(DataKeyUnwrapFailed, match="empty"):
        AwsKmsProvider(section(), KmsOptions(), kms).unwrap(b"")


# --- with whose credentials, and where -------------------------------------------------------------------------------------------------


class Aws:
    """Answers every client of this process; keeps who called what, and where."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, str, str | None]] = []
        self.refusals: dict[str, tuple[int, bytes]] = {}
        self.throttled = 0

    def answer(self, request: AWSPreparedRequest, **_: Any) -> AWSResponse:
        host = request.url.split("/")[2].split(".")
        header = {name: value.decode() if isinstance(value, bytes) else value for name, value in request.headers.items()}
        who = header["Authorization"].split("Credential=")[1].split("/")[0]
        self.calls.append((host[0], host[1], who, header.get("X-Amz-Security-Token")))
        if self.throttled:
            self.throttled -= 1
            return AWSResponse(request.url, 400, HTTPHeaders(), _Body(b'{"__type": "ThrottlingException"}'))
        status, body = self.refusals.get(host[0], (200, self._sts() if host[0] == "sts" else b'{"Plaintext": "%s"}' % base64.b64encode(DATA_KEY)))
        return AWSResponse(request.url, status, HTTPHeaders(), _Body(body))

    @staticmethod
    def _sts() -> bytes:
        values = {"AccessKeyId": "ASSUMED", "SecretAccessKey": "s", "SessionToken": "t", "Expiration": "2030-01-01T00:00:00Z"}
        fields = "".join(f"<{name}>{value}</{name}>" for name, value in values.items())
        return f"<AssumeRoleResponse><AssumeRoleResult><Credentials>{fields}</Credentials></AssumeRoleResult></AssumeRoleResponse>".encode()


class _Body:
    def __init__(self, body: bytes) -> None:
        self._body = body

    def stream(self) -> list[bytes]:
        return [self._body]


@pytest.fixture
def aws_calls(monkeypatch: pytest.MonkeyPatch) -> Aws:
    """Every boto3 session of the provider, answered in this process; the worker's own role is WORKER, in us-west-2."""
    fake = Aws()
    session_class, loader = boto3.Session, SESSION._session.get_component("data_loader")

    def session(*arguments: Any, **keywords: Any) -> boto3.Session:
        core = botocore.session.Session()
        core.register_component("data_loader", loader)
        made = session_class(*arguments, **{**keywords, "botocore_session": core})
        events: Any = made.events
        events.register("before-send", fake.answer)
        return made

    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in {"ACCESS_KEY_ID": "WORKER", "SECRET_ACCESS_KEY": "w", "SESSION_TOKEN": "worker-token", "DEFAULT_REGION": "us-west-2"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setattr(boto3, "Session", session)
    return fake


WORKER = ("WORKER", "worker-token")
KEYS = (ACCESS_KEY_ID, SESSION_TOKEN)


@pytest.mark.parametrize(
    ("values", "credentials", "caller"),
    [
        ({}, "configured-first", WORKER),
        ({}, "role", WORKER),
        (OWN, "configured-first", KEYS),
        (OWN, "role", WORKER),
        ({**OWN, "session_token": None}, "configured-first", (ACCESS_KEY_ID, None)),
        ({"access_key_id": ACCESS_KEY_ID}, "role", WORKER),
    ],
    ids=["none", "none, role", "own", "own, but role", "long-lived", "half, but role"],
)
def test_the_sections_credentials_are_used_where_they_are_set_and_wanted(
    values: dict[str, Any], credentials: Any, caller: tuple[str, str], aws_calls: Aws
) -> None:
    provider = AwsKmsProvider(section(region="eu-north-1", **values), KmsOptions(credentials))
    assert provider.unwrap(RAW) == provider.unwrap(RAW) == DATA_KEY
    assert aws_calls.calls == [("kms", "eu-north-1", *caller)] * 2


@pytest.mark.parametrize(
    ("key_id", "region", "expected"),
    [
        ("alias/Grafana", "eu-north-1", "eu-north-1"),
        (KEY.replace("eu-north-1", "ap-east-1"), "eu-north-1", "eu-north-1"),
        (KEY.replace("eu-north-1", "ap-east-1"), None, "ap-east-1"),
        ("arn:aws:kms:ap-east-1:111122223333:alias/Grafana", None, "ap-east-1"),
        ("alias/Grafana", None, "us-west-2"),
        ("1234abcd-12ab-34cd-56ef-1234567890ab", None, "us-west-2"),
    ],
)
def test_kms_is_called_in_the_sections_region_else_the_arns_else_the_functions(key_id: str, region: str | None, expected: str, aws_calls: Aws) -> None:
    AwsKmsProvider(section(key_id, region=region, **OWN), KmsOptions()).unwrap(RAW)
    assert [call[1] for call in aws_calls.calls] == [expected]


@pytest.mark.parametrize(("throttled", "calls"), [(8, 9), (100, 9)], ids=["for a while", "without end"])
def test_throttling_is_waited_out_for_some_time_and_is_an_error_then(throttled: int, calls: int, aws_calls: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr("botocore.endpoint.time.sleep", waits.append)
    aws_calls.throttled = throttled
    provider = AwsKmsProvider(section(), KmsOptions())
    if throttled < calls:
        assert provider.unwrap(RAW) == DATA_KEY
    else:
        with pytest.raises(ProviderThrottled, match="ThrottlingException to kms:Decrypt after every retry"):
            provider.unwrap(RAW)
    assert (len(aws_calls.calls), len(waits)) == (calls, calls - 1)
    assert sum(waits) < 120


@pytest.mark.parametrize(("values", "caller"), [({}, WORKER), (OWN, KEYS)], ids=["by the worker", "by the section's credentials"])
def test_a_role_is_assumed_once_where_the_function_runs(values: dict[str, Any], caller: tuple[str, str], aws_calls: Aws) -> None:
    provider = AwsKmsProvider(section(**values), KmsOptions(role_to_assume=ROLE))
    assert not aws_calls.calls
    assert provider.unwrap(RAW) == provider.unwrap(RAW) == DATA_KEY
    assert aws_calls.calls == [("sts", "us-west-2", *caller)] + [("kms", "eu-north-1", "ASSUMED", "t")] * 2


def _sts_error(code: str) -> bytes:
    return f"<ErrorResponse><Error><Code>{code}</Code><Message>{SECRET_ACCESS_KEY}</Message></Error></ErrorResponse>".encode()


@pytest.mark.parametrize(
    ("code", "values", "kind", "words"),
    [
        ("AccessDenied", {}, KeyAccessDenied, ("sts:AssumeRole", ROLE, "the worker's IAM role", "trust policy")),
        ("AccessDenied", OWN, KeyAccessDenied, ("the owner of access_key_id in [security.encryption.awskms.prod]",)),
        ("InvalidClientTokenId", OWN, ConfigurationError, ("session_token", "[security.encryption.awskms.prod]")),
        ("ExpiredToken", {}, ConfigurationError, ("the worker's IAM role",)),
        ("ValidationError", {}, ConfigurationError, ("kms_role_to_assume", ROLE)),
    ],
)
def test_a_role_that_cannot_be_assumed_says_why(code: str, values: dict[str, Any], kind: type[ReencryptError], words: tuple[str, ...], aws_calls: Aws) -> None:
    aws_calls.refusals["sts"] = (403, _sts_error(code))
    call: Callable[[bytes], bytes] = AwsKmsProvider(section(**values), KmsOptions(role_to_assume=ROLE)).unwrap
    with pytest.raises(kind) as failure:
        call(RAW)
    message = without_secrets(failure.value)
    for word in (NAME, "sts:AssumeRole", code, *words):
        assert word in message


@pytest.mark.parametrize(
    ("values", "missing"),
    [
        ({"access_key_id": ACCESS_KEY_ID}, "secret_access_key"),
        ({"secret_access_key": SECRET_ACCESS_KEY}, "access_key_id"),
        ({"session_token": SESSION_TOKEN}, "access_key_id"),
        ({"access_key_id": ACCESS_KEY_ID, "session_token": SESSION_TOKEN}, "secret_access_key"),
    ],
)
def test_half_set_credentials_are_refused_naming_the_missing_setting(values: dict[str, Any], missing: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"\[security\.encryption\.awskms\.prod\] has no {missing}:") as failure:
        AwsKmsProvider(section(**values), KmsOptions())
    without_secrets(failure.value)


# --- what nobody sees ------------------------------------------------------------------------------------------------------------------


def test_nothing_shows_a_credential() -> None:
    provider = AwsKmsProvider(section(**OWN), KmsOptions(role_to_assume=ROLE))
    for shown in (provider, section(**OWN), KmsOptions(role_to_assume=ROLE), provider._caller, awskms._RETRIES):
        assert not [secret for secret in SECRETS if secret in f"{shown!r} {shown}"]
    assert repr(provider) == f"<{NAME} {KEY}>"
