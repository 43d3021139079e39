"""kms:ReEncrypt on an emulated KMS that enforces IAM: who may do what decides the way of a data key, and only the new key opens what comes out."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.config import Config

from localaws import aws as localaws
from localaws.aws import ACCOUNT, REGION, LocalAws
from reencrypt.errors import DataKeyUnwrapFailed, KeyAccessDenied, KeyUnusable
from reencrypt.grafana.settings import KmsSection
from reencrypt.providers.awskms import AwsKmsProvider, KmsOptions
from reencrypt.providers.rewrap import How, rewrap

if TYPE_CHECKING:
    from mypy_boto3_kms import KMSClient

OTHER_ACCOUNT = "111122223333"
DATA_KEY = bytes(range(0xF0, 0x100))
ALL = ("kms:Encrypt", "kms:Decrypt", "kms:ReEncryptFrom", "kms:ReEncryptTo")


@dataclass
class Kms:
    """The emulated KMS. `sections` counts the users that were made."""

    aws: LocalAws
    sections: int = field(default=0)

    def key(self, account: str = ACCOUNT) -> str:
        """The ARN of a new key, with AWS's default policy: the account's own IAM decides."""
        arn: str = self.aws.client("kms", account=account).create_key()["KeyMetadata"]["Arn"]
        return arn

    def provider(self, key_id: str, allowed: Mapping[str, tuple[str, ...]], account: str = ACCOUNT, **options: Any) -> AwsKmsProvider:
        """A section of grafana.ini with credentials of its own: those of a user who may do what `allowed` says, by the key's ARN."""
        self.sections += 1
        name = f"section-{self.sections}"
        iam = self.aws.client("iam", account=account)
        iam.create_user(UserName=name)
        statements = [{"Effect": "Allow", "Action": list(actions), "Resource": key} for key, actions in allowed.items()]
        iam.put_user_policy(UserName=name, PolicyName="kms", PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": statements}))
        made = iam.create_access_key(UserName=name)["AccessKey"]
        client: KMSClient = boto3.Session().client(
            "kms", region_name=REGION, endpoint_url=self.aws.url, verify=str(self.aws.certificate), config=Config(proxies={}),
            aws_access_key_id=made["AccessKeyId"], aws_secret_access_key=made["SecretAccessKey"],
        )  # fmt: skip
        return AwsKmsProvider(KmsSection(f"awskms.{name}", key_id, REGION), KmsOptions(**options), client)


@pytest.fixture(scope="module")
def kms(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kms]:
    folder = tmp_path_factory.mktemp("aws") / "local"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(localaws, "install_runtime", lambda runtime: runtime)  # no function runs here
        with LocalAws(folder) as aws:
            yield Kms(aws)


def test_who_may_re_encrypt_from_the_old_key_to_the_new_one_does_it_inside_kms(kms: Kms) -> None:
    old, new = kms.key(), kms.key()
    source = kms.provider(old, {old: ("kms:Encrypt", "kms:Decrypt")})
    # Neither decrypts with the old key nor encrypts with the new one: only KMS itself could have.
    target = kms.provider(new, {old: ("kms:ReEncryptFrom",), new: ("kms:ReEncryptTo", "kms:Decrypt")})
    rewrapped = rewrap(source, target, source.wrap(DATA_KEY))
    assert rewrapped.how is How.RE_ENCRYPT
    assert target.unwrap(rewrapped.wrapped) == DATA_KEY
    with pytest.raises(KeyAccessDenied):
        source.unwrap(rewrapped.wrapped)


def test_the_sources_credentials_do_it_where_the_targets_may_not(kms: Kms) -> None:
    old, new = kms.key(), kms.key()
    source = kms.provider(old, {old: ALL, new: ("kms:ReEncryptTo",)})
    target = kms.provider(new, {new: ("kms:Decrypt",)})
    rewrapped = rewrap(source, target, source.wrap(DATA_KEY))
    assert (rewrapped.how, target.unwrap(rewrapped.wrapped)) == (How.RE_ENCRYPT, DATA_KEY)


@pytest.mark.parametrize("missing", ["kms:ReEncryptFrom", "kms:ReEncryptTo"])
def test_without_one_of_the_two_permissions_the_worker_unwraps_and_wraps(kms: Kms, missing: str) -> None:
    old, new = kms.key(), kms.key()
    actions = tuple(action for action in ALL if action != missing)
    source, target = (kms.provider(key, {old: actions, new: actions}) for key in (old, new))
    rewrapped = rewrap(source, target, source.wrap(DATA_KEY))
    assert (rewrapped.how, target.unwrap(rewrapped.wrapped)) == (How.UNWRAP_AND_WRAP, DATA_KEY)


def test_keys_of_two_accounts_that_know_nothing_of_each_other_go_by_both_credentials(kms: Kms) -> None:
    old, new = kms.key(), kms.key(OTHER_ACCOUNT)
    source, target = kms.provider(old, {"*": ALL}), kms.provider(new, {"*": ALL}, OTHER_ACCOUNT)
    wrapped = source.wrap(DATA_KEY)
    rewrapped = rewrap(source, target, wrapped)
    assert (rewrapped.how, target.unwrap(rewrapped.wrapped)) == (How.UNWRAP_AND_WRAP, DATA_KEY)
    with pytest.raises(KeyAccessDenied):
        target.unwrap(wrapped)


def test_the_same_alias_in_two_accounts_means_the_targets_key(kms: Kms) -> None:
    old, new = kms.key(), kms.key(OTHER_ACCOUNT)
    for key, account in ((old, ACCOUNT), (new, OTHER_ACCOUNT)):
        kms.aws.client("kms", account=account).create_alias(AliasName="alias/grafana", TargetKeyId=key)
    source, target = kms.provider("alias/grafana", {"*": ALL}), kms.provider("alias/grafana", {"*": ALL}, OTHER_ACCOUNT)
    rewrapped = rewrap(source, target, source.wrap(DATA_KEY))
    kms.aws.client("kms").disable_key(KeyId=old)
    assert target.unwrap(rewrapped.wrapped) == DATA_KEY, "the old key is not needed any more"


def test_an_encryption_context_goes_over_to_the_new_blob(kms: Kms) -> None:
    old, new = kms.key(), kms.key()
    rights = {old: ALL, new: ALL}
    context = {"purpose": "grafana"}
    source, target = (kms.provider(key, rights, encryption_context=context) for key in (old, new))
    rewrapped = rewrap(source, target, source.wrap(DATA_KEY))
    assert (rewrapped.how, target.unwrap(rewrapped.wrapped)) == (How.RE_ENCRYPT, DATA_KEY)
    with pytest.raises(DataKeyUnwrapFailed):
        kms.provider(new, rights).unwrap(rewrapped.wrapped)


def test_a_disabled_key_on_either_side_is_said_and_no_second_way_hides_it(kms: Kms) -> None:
    old, new = kms.key(), kms.key()
    source, target = (kms.provider(key, {old: ALL, new: ALL}) for key in (old, new))
    wrapped = source.wrap(DATA_KEY)
    client = kms.aws.client("kms")
    for key in (new, old):
        client.disable_key(KeyId=key)
        with pytest.raises(KeyUnusable, match="kms:ReEncrypt under the key that wrapped the data key, or under the new one, "):
            rewrap(source, target, wrapped)
        client.enable_key(KeyId=key)


def test_a_damaged_row_is_a_damaged_row(kms: Kms) -> None:
    old, new = kms.key(), kms.key()
    source, target = (kms.provider(key, {old: ALL, new: ALL}) for key in (old, new))
    wrapped = bytearray(source.wrap(DATA_KEY))
    wrapped[-1] ^= 1
    with pytest.raises(DataKeyUnwrapFailed, match="damaged"):
        rewrap(source, target, bytes(wrapped))
