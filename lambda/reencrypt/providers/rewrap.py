"""Wraps a data key anew under another provider's key; between two KMS keys inside KMS, where that is allowed.

Whoever stores the result proves it first: nothing here has seen that what comes out still is the same data key.
Source: https://docs.aws.amazon.com/kms/latest/APIReference/API_ReEncrypt.html
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from reencrypt.errors import KeyAccessDenied
from reencrypt.providers import Provider
from reencrypt.providers.awskms import AwsKmsProvider


class How(StrEnum):
    """The way a data key went."""

    RE_ENCRYPT = "kms:ReEncrypt"  # it never left KMS
    UNWRAP_AND_WRAP = "unwrap and wrap"  # it was in this process's memory


@dataclass(frozen=True)
class Rewrapped:
    """A row's new `encrypted_data`, and how it came about."""

    wrapped: bytes = field(repr=False)
    how: How


def rewrap(source: Provider, target: Provider, wrapped: bytes) -> Rewrapped:
    """What `source` wrapped, wrapped by `target`. Raises ProviderErrors and ConfigurationError, each naming the provider at fault.

    Between KMS keys of one region kms:ReEncrypt is tried with the target's credentials, then with the source's. Where neither may do it (the keys are
    in two accounts, or the permission is missing), and everywhere else, the source's credentials unwrap and the target's wrap.
    """
    if isinstance(source, AwsKmsProvider) and isinstance(target, AwsKmsProvider) and source.region == target.region:
        for caller in _callers(source, target):
            try:
                return Rewrapped(caller.re_encrypt(wrapped, source, target), How.RE_ENCRYPT)
            except KeyAccessDenied:
                continue
    return Rewrapped(target.wrap(source.unwrap(wrapped)), How.UNWRAP_AND_WRAP)


def _callers(source: AwsKmsProvider, target: AwsKmsProvider) -> list[AwsKmsProvider]:
    """Whose credentials are tried. The source's only where the target key's account is told: its own may have the same alias, which means the old key."""
    return [target, source] if target.names_its_account and source is not target else [target]
