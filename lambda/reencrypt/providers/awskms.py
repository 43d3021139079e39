"""`awskms.<name>` and the secrets manager's `aws_kms.<name>`: data keys wrapped by an AWS KMS key, as Grafana Enterprise configures it.

The stored blob is KMS's CiphertextBlob, unchanged, and it is decrypted without naming a key: the blob names it itself, so that rows made under a
key that the section named earlier stay readable. Sources: Grafana docs "Encrypt database secrets using AWS KMS"; gocloud.dev/secrets/awskms;
https://docs.aws.amazon.com/kms/latest/APIReference/API_Decrypt.html, API_ReEncrypt.html
"""

from __future__ import annotations

import binascii
import functools
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from reencrypt.errors import ConfigurationError, DataKeyUnwrapFailed, ProviderError
from reencrypt.grafana.ini import shown
from reencrypt.grafana.settings import KmsSection
from reencrypt.providers import Provider, sixteen_bytes
from reencrypt.providers.kms_failures import Action, Caller

if TYPE_CHECKING:
    from mypy_boto3_kms import KMSClient

Answer = TypeVar("Answer")

# At worst three minutes (nine tries, back-off up to 20 s between them): less than the shortest time limit of a function that unwraps.
_RETRIES = Config(retries={"mode": "standard", "max_attempts": 8}, connect_timeout=5, read_timeout=10)
_SESSION_NAME = "grafana-reencrypt"
# How a KMS ciphertext begins, raw (grafana-format.md, section 9).
_RAW_STARTS = (b"\x01\x02\x02\x00", b"\x01\x02\x03\x00")


@dataclass(frozen=True)
class KmsOptions:
    """What the deployment says about every KMS provider.

    `credentials`: the section's own ("configured-first", where it has some) or always the worker's role ("role"). `role_to_assume`: the ARN of
    a role that those credentials assume. `encryption_context`: one constant context, empty by default, as Grafana has none.
    """

    credentials: Literal["configured-first", "role"] = "configured-first"
    role_to_assume: str | None = None
    encryption_context: Mapping[str, str] = field(default_factory=dict)


class AwsKmsProvider:
    """One section with a KMS key. AWS is first called when a data key is wrapped or unwrapped.

    An assumed role's credentials last an hour and are not renewed here: whoever keeps a provider makes a new one before.
    """

    def __init__(self, section: KmsSection, options: KmsOptions, client: KMSClient | None = None) -> None:
        """Raises ConfigurationError where the section's credentials are wanted and only a part of them is set."""
        self.name = section.provider
        self._section, self._options, self._given = section, options, client
        self._keys: dict[bytes, str] = {}
        self._context: dict[str, Any] = {"EncryptionContext": dict(options.encryption_context)} if options.encryption_context else {}
        self._caller = Caller(
            section.provider,
            section.title,
            section.key_id,
            section.region or _region_of(section.key_id),
            own_credentials=_uses_own_credentials(section, options),
            role=options.role_to_assume,
        )

    def __repr__(self) -> str:
        return f"<{self.name} {shown(self._section.key_id)}>"

    def wrap(self, data_key: bytes) -> bytes:
        """The raw CiphertextBlob of kms:Encrypt under the section's key."""
        self._require_key_id()
        return self._call("kms:Encrypt", lambda: self._kms.encrypt(KeyId=self._section.key_id, Plaintext=data_key, **self._context)["CiphertextBlob"])

    def unwrap(self, wrapped: bytes) -> bytes:
        """The 16 bytes by kms:Decrypt of a raw blob, or of one that is base64 text."""
        blob = self._blob(wrapped)
        answer = self._call("kms:Decrypt", lambda: self._kms.decrypt(CiphertextBlob=blob, **self._context))
        if key := answer.get("KeyId"):
            self._keys[hashlib.sha256(blob).digest()] = key
        return sixteen_bytes(self.name, answer["Plaintext"])

    def key_of(self, wrapped: bytes) -> str | None:
        """The ARN of the KMS key that wraps what this provider has unwrapped before; None for anything else."""
        return self._keys.get(hashlib.sha256(_raw(wrapped)).digest())

    @functools.cached_property
    def configured_key(self) -> str:
        """The ARN of the section's key as kms:DescribeKey gives it for an id or alias; where that is not allowed, key_id as it stands."""
        try:
            return self._kms.describe_key(KeyId=self._section.key_id)["KeyMetadata"]["Arn"]
        except (ClientError, BotoCoreError, ProviderError):
            return shown(self._section.key_id)

    def re_encrypt(self, wrapped: bytes, source: AwsKmsProvider, target: AwsKmsProvider) -> bytes:
        """What `source` wrapped, wrapped by the key of `target`: kms:ReEncrypt with this provider's credentials, so that the data key never leaves KMS.

        The source key is not named, since the blob names it. Raises KeyAccessDenied where either key refuses, and every other error as `unwrap` and `wrap`.
        """
        target._require_key_id()
        request: dict[str, Any] = {"CiphertextBlob": source._blob(wrapped), "DestinationKeyId": target._section.key_id}
        if source._context:
            request["SourceEncryptionContext"] = source._context["EncryptionContext"]
        if target._context:
            request["DestinationEncryptionContext"] = target._context["EncryptionContext"]
        caller = replace(self._caller, destination=f"{shown(target._section.key_id)} of {target._section.title}")
        return self._call("kms:ReEncrypt", lambda: self._kms.re_encrypt(**request)["CiphertextBlob"], caller)

    @functools.cached_property
    def region(self) -> str | None:
        """Where this provider calls KMS."""
        return self._caller.region or boto3.Session().region_name

    @property
    def names_its_account(self) -> bool:
        """Whether key_id is an ARN. An id or alias means a key of whichever account calls: two accounts may have the same alias."""
        return self._section.key_id.startswith("arn:")

    def _blob(self, wrapped: bytes) -> bytes:
        if not wrapped:
            raise DataKeyUnwrapFailed(f"{self.name} cannot unwrap the data key: its encrypted_data is empty")
        return _raw(wrapped)

    def _require_key_id(self) -> None:
        if not self._section.key_id:
            raise ConfigurationError(f"{self._caller.section} key_id is missing: the id, ARN or alias of the KMS key")

    def _call(self, action: Action, call: Callable[[], Answer], caller: Caller | None = None) -> Answer:
        try:
            return call()
        except (ClientError, BotoCoreError) as error:
            raise (caller or self._caller).explained(action, error) from None

    @functools.cached_property
    def _kms(self) -> KMSClient:
        if self._given is not None:
            return self._given
        section, region = self._section, self._caller.region
        own = (section.access_key_id, section.secret_access_key, section.session_token) if self._caller.own_credentials else (None, None, None)
        session = boto3.Session(*own, region_name=region)
        if role := self._options.role_to_assume:
            # STS where the function runs: that is where its network may have an endpoint.
            sts = session.client("sts", region_name=boto3.Session().region_name or region, config=_RETRIES)
            temporary = self._call("sts:AssumeRole", lambda: sts.assume_role(RoleArn=role, RoleSessionName=_SESSION_NAME))["Credentials"]
            session = boto3.Session(temporary["AccessKeyId"], temporary["SecretAccessKey"], temporary["SessionToken"], region_name=region)
        return session.client("kms", config=_RETRIES)


def key_of(provider: Provider, wrapped: bytes) -> str | None:
    """`AwsKmsProvider.key_of`; None for other providers."""
    return provider.key_of(wrapped) if isinstance(provider, AwsKmsProvider) else None


def configured_key(provider: Provider) -> str | None:
    """`AwsKmsProvider.configured_key`; None for other providers."""
    return provider.configured_key if isinstance(provider, AwsKmsProvider) else None


def _raw(wrapped: bytes) -> bytes:
    """The blob itself. One that does not begin as KMS's do, and is base64 of something that does, was stored as text."""
    if wrapped.startswith(_RAW_STARTS):
        return wrapped
    try:
        decoded = binascii.a2b_base64(wrapped.strip(), strict_mode=True)
    except (binascii.Error, ValueError):
        return wrapped
    return decoded if decoded.startswith(_RAW_STARTS) else wrapped


def _uses_own_credentials(section: KmsSection, options: KmsOptions) -> bool:
    """Whether the section's credentials are wanted and there. Raises ConfigurationError where a part of them is missing."""
    if options.credentials == "role" or not (section.access_key_id or section.secret_access_key or section.session_token):
        return False
    for missing in ("access_key_id", "secret_access_key"):
        if not getattr(section, missing):
            raise ConfigurationError(f"{section.title} has no {missing}: set access_key_id and secret_access_key, or neither of the two")
    return True


def _region_of(key_id: str) -> str | None:
    """The region of an ARN (`arn:aws:kms:<region>:…`), or None: the function's own."""
    parts = key_id.split(":")
    return parts[3] or None if len(parts) >= 6 and parts[0] == "arn" else None
