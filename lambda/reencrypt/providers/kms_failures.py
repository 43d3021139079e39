"""What KMS and STS answer when they refuse, as this product's own errors: each names the key, setting or permission at fault, and what to do.

Of AWS's own text only ARNs are repeated: the principal and the key of a denial, which nobody else can tell.
Sources: https://docs.aws.amazon.com/kms/latest/APIReference/API_Decrypt.html (Errors), API_ReEncrypt.html and CommonErrors.html there;
API_AssumeRole.html of STS.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from botocore import exceptions as aws
from botocore.exceptions import BotoCoreError, ClientError

from reencrypt.errors import ConfigurationError, DataKeyUnwrapFailed, KeyAccessDenied, KeyUnusable, ProviderError, ProviderThrottled
from reencrypt.grafana.ini import shown

Action = Literal["kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt", "sts:AssumeRole"]

# Error codes by what cures them.
THROTTLED = frozenset({"ThrottlingException", "Throttling", "LimitExceededException", "RequestLimitExceeded", "TooManyRequestsException"})
UNAVAILABLE = frozenset({"KMSInternalException", "DependencyTimeoutException", "KeyUnavailableException", "ServiceUnavailable", "InternalFailure"})
DENIED = frozenset({"AccessDeniedException", "AccessDenied", "NotAuthorized", "UnauthorizedOperation"})
BAD_CREDENTIALS = frozenset({
    "UnrecognizedClientException", "InvalidClientTokenId", "ExpiredTokenException", "ExpiredToken", "InvalidSignatureException",
    "SignatureDoesNotMatch", "IncompleteSignature", "MissingAuthenticationToken", "MissingAuthenticationTokenException",
})  # fmt: skip
UNUSABLE = {
    "DisabledException": "it is disabled; enable it",
    "KMSInvalidStateException": "it is pending deletion, import or replication; cancel the deletion, or wait",
    "NotFoundException": "there is no such key in this region and account; correct key_id or region (a key of another account needs its ARN)",
    "InvalidKeyUsageException": "it is not a symmetric encryption key; Grafana needs one",
    "InvalidArnException": "its ARN is malformed or of another region; correct key_id or region",
}
WRONG_CIPHERTEXT = frozenset({"InvalidCiphertextException", "IncorrectKeyException"})
INVALID = frozenset({"ValidationException", "ValidationError"})

_NO_CREDENTIALS = (aws.NoCredentialsError, aws.PartialCredentialsError, aws.CredentialRetrievalError)
_NO_ANSWER = (aws.ConnectionError, aws.HTTPClientError)
_BAD_REGION = (aws.BaseEndpointResolverError, aws.InvalidRegionError)
_DENIED_PRINCIPAL = re.compile(r"\bUser: (arn:[\w+=,.@:/-]+)")
_DENIED_RESOURCE = re.compile(r"\bresource: (arn:[\w+=,.@:/-]+)")


@dataclass(frozen=True)
class Caller:
    """Who calls: the provider `provider` with `key_id` in `region`, with the section's own credentials or the worker's role, through `role` if any.

    `section` is the provider's, as it stands in grafana.ini; `destination` names the new key and its section where kms:ReEncrypt is called.
    """

    provider: str
    section: str
    key_id: str
    region: str | None
    own_credentials: bool
    role: str | None
    destination: str = ""

    def explained(self, action: Action, error: ClientError | BotoCoreError) -> ProviderError | ConfigurationError:
        """The error to raise instead of `error`, with which AWS or its client ended `action`."""
        return self._answered(action, error) if isinstance(error, ClientError) else self._unanswered(action, error)

    def _answered(self, action: Action, error: ClientError) -> ProviderError | ConfigurationError:
        code = error.response.get("Error", {}).get("Code", "") or "an unknown error"
        says = f"{self.provider}: AWS says {code} to {action}"
        if code in THROTTLED:
            return ProviderThrottled(f"{says} after every retry; start again with a smaller maxConcurrency")
        if code in UNAVAILABLE or error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0) >= 500:
            return ProviderThrottled(f"{says} in {self._where} after every retry; start again later")
        if code in DENIED:
            return KeyAccessDenied(self._denial(says, action, error.response.get("Error", {}).get("Message", "")))
        if code in BAD_CREDENTIALS:
            return ConfigurationError(f"{says}: {self._credentials_at_fault()}")
        if action == "sts:AssumeRole":
            return ConfigurationError(f"{says} of {self.role}: correct kms_role_to_assume of the deployment settings")
        of_destination = "estinationKeyId" in error.response.get("Error", {}).get("Message", "")
        if code in WRONG_CIPHERTEXT or (code in INVALID and action != "kms:Encrypt" and not of_destination):
            return DataKeyUnwrapFailed(f"{says}: {self._damage()}")
        if code in INVALID:
            named = self.destination if action == "kms:ReEncrypt" else f"{self.section} key_id = {shown(self.key_id)}"
            return ConfigurationError(f"{says}: {named} is no key id, key ARN, alias/… or alias ARN")
        return KeyUnusable(f"{says} under {self._key(action)}" + (f": {UNUSABLE[code]}" if code in UNUSABLE else ""))

    def _unanswered(self, action: Action, error: BotoCoreError) -> ProviderError | ConfigurationError:
        if isinstance(error, _NO_CREDENTIALS):
            return ConfigurationError(
                f"{self.provider}: there are no AWS credentials; give {self.section} access_key_id and secret_access_key, or the worker a role"
            )
        kind = type(error).__name__
        if isinstance(error, _NO_ANSWER):
            service = "STS" if action == "sts:AssumeRole" else "KMS"
            return ProviderThrottled(
                f"{self.provider}: {service} in {self._where} does not answer ({kind}); check the region of {self.section}, "
                f"and the subnets' route or VPC endpoint to {service}"
            )
        if isinstance(error, _BAD_REGION):
            return ConfigurationError(f"{self.provider}: {self._where} is no AWS region; correct region of {self.section}")
        return ConfigurationError(
            f"{self.provider}: {action} cannot be called ({kind}); check key_id and region of {self.section}, and kms_… of the deployment settings"
        )

    @property
    def _where(self) -> str:
        return shown(self.region) if self.region else "the function's region"

    def _key(self, action: Action) -> str:
        """kms:Decrypt names no key: the data key may have been wrapped by one that the section named earlier. kms:ReEncrypt needs two."""
        if action == "kms:ReEncrypt":
            return f"the key that wrapped the data key, or under the new one, {self.destination}"
        return shown(self.key_id) if action == "kms:Encrypt" else f"the key that wrapped the data key ({self.section} now has {shown(self.key_id)})"

    def _denial(self, says: str, action: Action, text: str) -> str:
        resource, principal = _DENIED_RESOURCE.search(text), _DENIED_PRINCIPAL.search(text)
        if action == "sts:AssumeRole":
            who = principal[1] if principal else self._base_principal()
            return f"{says} of {self.role}; allow {who} that action in that role's trust policy and in its own IAM policy"
        who = principal[1] if principal else f"the role {self.role}" if self.role else self._base_principal()
        own = "in its own IAM policy" if self.role or self.own_credentials else "in its own IAM policy (kms_key_arns of the deployment settings)"
        # AWS does not tell a stranger whether a key exists.
        gone = "" if resource or action == "kms:Encrypt" else " (AWS says the same where that key is deleted or in another region)"
        return f"{says} under {resource[1] if resource else self._key(action)}; allow {who} that action in the key's policy and {own}{gone}"

    def _base_principal(self) -> str:
        return f"the owner of access_key_id in {self.section}" if self.own_credentials else "the worker's IAM role"

    def _credentials_at_fault(self) -> str:
        if not self.own_credentials:
            return f"the credentials of the worker's IAM role are not valid in {self._where}; check region of {self.section}, and whether the account uses it"
        return (
            f"access_key_id, secret_access_key or session_token of {self.section} is wrong or expired (temporary credentials need all three); "
            'renew it, or set kms_credentials = "role" in the deployment settings'
        )

    def _damage(self) -> str:
        return (
            f"the data key was wrapped in another region than {self._where} or under another encryption context "
            "(kms_encryption_context of the deployment settings), or its row is damaged"
        )
