"""What AWS and boto3 refuse, in words for a person: which action on which resource, and what to do. Never a secret.

AWS's own messages are not repeated: that of SignatureDoesNotMatch, for one, quotes the session token. Only what they are known to say is picked out.
Source: https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot_access-denied.html
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from botocore import exceptions as boto
from botocore.exceptions import BotoCoreError, ClientError

_DENIED = frozenset({"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "403", "Forbidden"})
_EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired"})
_UNKNOWN = frozenset({"InvalidClientTokenId", "UnrecognizedClientException", "InvalidAccessKeyId", "AuthFailure", "InvalidToken"})
_WRONG_SIGNATURE = frozenset({"SignatureDoesNotMatch", "InvalidSignatureException", "IncompleteSignature", "RequestTimeTooSkewed"})
_THROTTLED = frozenset(
    {
        "Throttling",
        "ThrottlingException",
        "ThrottledException",
        "RequestThrottled",
        "RequestThrottledException",
        "TooManyRequestsException",
        "RequestLimitExceeded",
        "SlowDown",
    }
)
_ACTION = re.compile(r"not authorized to perform: (?P<action>[a-z0-9-]+:[A-Za-z]+)")
_RESOURCE = re.compile(r"on resource: (?P<resource>\S+?)(?=[\s,]|$)")
_USER = re.compile(r"User: (?P<user>arn:\S+)")
_AN_OPERATIONS_ACTION = {"ListObjectsV2": "s3:ListBucket", "HeadObject": "s3:GetObject"}
_SERVICES = {"DescribeStacks": "cloudformation", "GetObject": "s3"}
Answer = TypeVar("Answer")
_TRIES, _LONGEST_SECONDS = 8, 30.0


def explain(error: ClientError | BotoCoreError, *, resource: str = "", profile: str | None = None) -> str:
    """The message for `error`. `resource` is what the call was about, for services that do not say it; `profile` the one that was asked for."""
    if isinstance(error, ClientError):
        return _refused(error, resource, profile)
    match error:
        case boto.NoCredentialsError():
            return f"there are no AWS credentials: {_sign_in(profile)}, or name a profile with --profile"
        case boto.PartialCredentialsError():
            return f"the AWS credentials are not complete: {error.kwargs.get('cred_var')} is missing"
        case boto.ProfileNotFound():
            return f"there is no AWS profile {error.kwargs.get('profile')}: `aws configure list-profiles` lists those of this machine"
        case boto.NoRegionError():
            return "no AWS region: give --region, or set AWS_REGION or the profile's region"
        case boto.SSOError() | boto.TokenRetrievalError() | boto.UnauthorizedSSOTokenError():
            return f"the sign-in of this profile has expired: {_sign_in(profile)}"
        case boto.CredentialRetrievalError():
            return "the AWS credentials could not be fetched from where the profile says (its credential_process, or the role that it assumes)"
        case boto.SSLError():
            return f"no trusted TLS connection to {_endpoint(error)}: a proxy's certificate may be missing (AWS_CA_BUNDLE)"
        case boto.HTTPClientError() | boto.ConnectionError():
            return f"AWS does not answer at {_endpoint(error)}: check the network, the proxy and the region"
        case _:
            return f"the AWS SDK refuses with {type(error).__name__}"


class Patience:
    """Calls AWS; where it throttles or does not answer, tries again, each time after twice as long a wait, for about two minutes in all."""

    def __init__(self, pause: Callable[[float], None] = time.sleep) -> None:
        self._pause = pause

    def __call__(self, call: Callable[[], Answer]) -> Answer:
        """What `call` returns. Raises its error if that is no passing one, or does not pass."""
        for attempt in range(1, _TRIES):
            try:
                return call()
            except (ClientError, boto.HTTPClientError, boto.ConnectionError) as error:
                if not _passing(error):
                    raise
            self._pause(min(2.0**attempt / 2, _LONGEST_SECONDS))
        return call()


def code_of(error: ClientError) -> str:
    """AWS's word for the error."""
    return str(error.response.get("Error", {}).get("Code", ""))


def _passing(error: ClientError | BotoCoreError) -> bool:
    if isinstance(error, ClientError):
        status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        return code_of(error) in _THROTTLED or status == 429 or status >= 500
    return not isinstance(error, boto.SSLError)


def _refused(error: ClientError, resource: str, profile: str | None) -> str:
    code, said = code_of(error), str(error.response.get("Error", {}).get("Message", ""))
    if code in _DENIED:
        action = _found(_ACTION, said, "action") or _action(error.operation_name)
        on = _found(_RESOURCE, said, "resource") or resource or "a resource that it does not name"
        user = _found(_USER, said, "user")
        return f"AWS denies {action} on {on}{f' to {user}' if user else ''}: allow it in the policy of who runs this command (docs/commands.md)"
    if code in _EXPIRED:
        return f"the AWS credentials have expired: {_sign_in(profile)}"
    if code in _UNKNOWN:
        return f"AWS does not know these credentials: check AWS_ACCESS_KEY_ID and AWS_SESSION_TOKEN, or {_sign_in(profile)}"
    if code in _WRONG_SIGNATURE:
        return "AWS does not accept the signature: the secret access key does not belong to the access key, or this machine's clock is wrong"
    if code in _THROTTLED:
        return f"AWS throttles {_action(error.operation_name)} and did so at every try: try again in some minutes"
    if code == "NoSuchBucket":
        return f"{resource or 'the run bucket'} does not exist: is the stack being deleted?"
    return f"AWS answers {_action(error.operation_name)} with {code or 'an error'}{_request(error.response)}"


def _sign_in(profile: str | None) -> str:
    return f"sign in again (`aws sso login{f' --profile {profile}' if profile else ''}`, or new keys in AWS_ACCESS_KEY_ID and so on)"


def _action(operation: str) -> str:
    return _AN_OPERATIONS_ACTION.get(operation) or f"{_SERVICES.get(operation, 'states')}:{operation}"


def _found(pattern: re.Pattern[str], text: str, group: str) -> str:
    found = pattern.search(text)
    return found[group] if found else ""


def _endpoint(error: BotoCoreError) -> str:
    return str(error.kwargs.get("endpoint_url") or "its endpoint")


def _request(response: Mapping[str, Any]) -> str:
    number = response.get("ResponseMetadata", {}).get("RequestId")
    return f" (request {number})" if number else ""
