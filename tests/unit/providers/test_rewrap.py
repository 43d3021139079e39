"""A data key goes from one KMS key to another inside KMS where that is allowed, through the worker's memory where not, and never under the wrong key."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.config import Config
from botocore.stub import Stubber

from reencrypt.errors import ConfigurationError, DataKeyUnwrapFailed, KeyAccessDenied, KeyUnusable, ProviderThrottled, ReencryptError
from reencrypt.grafana.settings import KmsSection
from reencrypt.providers.awskms import AwsKmsProvider, KmsOptions
from reencrypt.providers.rewrap import How, Rewrapped, rewrap
from reencrypt.providers.secret_key import SecretKeyProvider
from tests.support.local_run import FakeKms

if TYPE_CHECKING:
    from mypy_boto3_kms import KMSClient

OLD_KEY = "arn:aws:kms:eu-north-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
NEW_KEY = "arn:aws:kms:eu-north-1:444455556666:key/99999999-12ab-34cd-56ef-1234567890ab"
DATA_KEY = bytes(range(0xF0, 0x100))
OLD = b"\x01\x02\x02\x00o" + bytes(range(150))
NEW = b"\x01\x02\x02\x00n" + bytes(range(150))
SECRET = "not for people"
CONTEXT = {"purpose": "grafana"}

SESSION = boto3.Session("testing", "testing", region_name="eu-north-1")  # loads each service's model once


class Side:
    """The credentials of one section: a client of its own, whose answers are given beforehand and must all be used, in order."""

    def __init__(self, name: str, key_id: str, options: KmsOptions, region: str | None = "eu-north-1") -> None:
        self.client: KMSClient = SESSION.client("kms", config=Config(retries={"total_max_attempts": 1}))
        self.stub = Stubber(self.client)
        self.provider = AwsKmsProvider(KmsSection(name, key_id, region), options, self.client)

    def answers(self, action: str, answer: dict[str, Any], expected: dict[str, Any]) -> None:
        self.stub.add_response(action, answer, expected)

    def refuses(self, action: str, code: str = "AccessDeniedException", message: str = SECRET) -> None:
        self.stub.add_client_error(action, code, message, http_status_code=400)


Pair = Callable[..., tuple[Side, Side]]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """(source, target), made as the test says; at the end each must have been called as often as it was told."""
    sides: list[Side] = []

    def make(source: str = OLD_KEY, target: str = NEW_KEY, options: KmsOptions = KmsOptions(), region: str | None = "eu-north-1") -> tuple[Side, Side]:  # noqa: B008  (frozen)
        sides.extend((Side("awskms.old", source, options), Side("awskms.new", target, options, region)))
        for side in sides:
            side.stub.activate()
        return sides[0], sides[1]

    yield make
    for side in sides:
        side.stub.assert_no_pending_responses()


@pytest.mark.parametrize("target_key", [NEW_KEY, "alias/grafana", "99999999-12ab-34cd-56ef-1234567890ab"])
def test_between_two_kms_keys_the_data_key_never_leaves_kms(pair: Pair, target_key: str) -> None:
    source, target = pair(target=target_key)
    target.answers("re_encrypt", {"CiphertextBlob": NEW}, {"CiphertextBlob": OLD, "DestinationKeyId": target_key})  # no SourceKeyId: the blob names it
    assert rewrap(source.provider, target.provider, OLD) == Rewrapped(NEW, How.RE_ENCRYPT)


def test_a_blob_that_was_stored_as_base64_is_sent_raw(pair: Pair) -> None:
    source, target = pair()
    target.answers("re_encrypt", {"CiphertextBlob": NEW}, {"CiphertextBlob": OLD, "DestinationKeyId": NEW_KEY})
    assert rewrap(source.provider, target.provider, base64.b64encode(OLD)).wrapped == NEW


def test_the_encryption_context_stands_on_both_sides(pair: Pair) -> None:
    source, target = pair(options=KmsOptions(encryption_context=CONTEXT))
    request = {"CiphertextBlob": OLD, "DestinationKeyId": NEW_KEY, "SourceEncryptionContext": CONTEXT, "DestinationEncryptionContext": CONTEXT}
    target.answers("re_encrypt", {"CiphertextBlob": NEW}, request)
    assert rewrap(source.provider, target.provider, OLD) == Rewrapped(NEW, How.RE_ENCRYPT)


def test_where_the_targets_credentials_may_not_the_sources_are_tried(pair: Pair) -> None:
    source, target = pair()
    target.refuses("re_encrypt")
    source.answers("re_encrypt", {"CiphertextBlob": NEW}, {"CiphertextBlob": OLD, "DestinationKeyId": NEW_KEY})
    assert rewrap(source.provider, target.provider, OLD) == Rewrapped(NEW, How.RE_ENCRYPT)


def test_where_neither_may_the_source_unwraps_and_the_target_wraps(pair: Pair) -> None:
    """The keys are in two accounts, and each section's credentials know only theirs."""
    source, target = pair()
    target.refuses("re_encrypt")
    source.refuses("re_encrypt")
    source.answers("decrypt", {"Plaintext": DATA_KEY}, {"CiphertextBlob": OLD})
    target.answers("encrypt", {"CiphertextBlob": NEW}, {"KeyId": NEW_KEY, "Plaintext": DATA_KEY})
    assert rewrap(source.provider, target.provider, OLD) == Rewrapped(NEW, How.UNWRAP_AND_WRAP)


@pytest.mark.parametrize("target_key", ["alias/grafana", "99999999-12ab-34cd-56ef-1234567890ab"])
def test_a_target_that_does_not_name_its_account_is_never_looked_up_in_the_sources(pair: Pair, target_key: str) -> None:
    """There `alias/grafana` may be the old key: everything would decrypt, and the key that is to be given up would still be needed."""
    source, target = pair(source="alias/grafana", target=target_key)
    target.refuses("re_encrypt")
    source.answers("decrypt", {"Plaintext": DATA_KEY}, {"CiphertextBlob": OLD})
    target.answers("encrypt", {"CiphertextBlob": NEW}, {"KeyId": target_key, "Plaintext": DATA_KEY})
    assert rewrap(source.provider, target.provider, OLD) == Rewrapped(NEW, How.UNWRAP_AND_WRAP)


def test_keys_of_two_regions_go_through_the_worker_at_once(pair: Pair) -> None:
    source, target = pair(region="eu-west-1")
    source.answers("decrypt", {"Plaintext": DATA_KEY}, {"CiphertextBlob": OLD})
    target.answers("encrypt", {"CiphertextBlob": NEW}, {"KeyId": NEW_KEY, "Plaintext": DATA_KEY})
    assert rewrap(source.provider, target.provider, OLD) == Rewrapped(NEW, How.UNWRAP_AND_WRAP)


def test_the_new_key_of_one_section_replaces_its_earlier_one_and_is_asked_once(pair: Pair) -> None:
    _, target = pair()
    target.refuses("re_encrypt")
    target.answers("decrypt", {"Plaintext": DATA_KEY}, {"CiphertextBlob": OLD})
    target.answers("encrypt", {"CiphertextBlob": NEW}, {"KeyId": NEW_KEY, "Plaintext": DATA_KEY})
    assert rewrap(target.provider, target.provider, OLD) == Rewrapped(NEW, How.UNWRAP_AND_WRAP)


@pytest.mark.parametrize(
    ("code", "text", "kind", "words"),
    [
        ("ThrottlingException", "", ProviderThrottled, ("maxConcurrency",)),
        ("KMSInternalException", "", ProviderThrottled, ("later",)),
        ("DisabledException", "", KeyUnusable, ("the key that wrapped the data key", NEW_KEY, "[security.encryption.awskms.new]", "enable it")),
        ("KMSInvalidStateException", "", KeyUnusable, ("pending deletion",)),
        ("NotFoundException", "", KeyUnusable, ("no such key",)),
        ("InvalidCiphertextException", "", DataKeyUnwrapFailed, ("damaged", "encryption context")),
        ("ValidationException", "1 validation error: Value at 'ciphertextBlob'", DataKeyUnwrapFailed, ("damaged",)),
        ("ValidationException", "1 validation error: Value at 'destinationKeyId'", ConfigurationError, (NEW_KEY, "no key id")),
        ("ExpiredTokenException", "", ConfigurationError, ("the worker's IAM role",)),
    ],
)
def test_every_other_answer_is_an_error_that_names_both_keys_or_what_to_do_and_no_second_way_is_tried(
    pair: Pair, code: str, text: str, kind: type[ReencryptError], words: tuple[str, ...]
) -> None:
    source, target = pair()
    target.refuses("re_encrypt", code, f"{SECRET} {text}")
    with pytest.raises(kind) as failure:
        rewrap(source.provider, target.provider, OLD)
    assert type(failure.value) is kind
    for word in ("awskms.new", "kms:ReEncrypt", code, *words):
        assert word in str(failure.value)
    assert SECRET not in repr(failure.value)


def test_a_denial_of_both_ways_names_the_action_the_key_and_who_may_not(pair: Pair) -> None:
    principal = "arn:aws:sts::111122223333:assumed-role/Worker/rewrap"
    source, target = pair()
    target.refuses("re_encrypt")
    source.refuses("re_encrypt")
    source.refuses("decrypt", message=f"User: {principal} is not authorized to perform: kms:Decrypt on resource: {OLD_KEY} because")
    with pytest.raises(KeyAccessDenied, match=rf"awskms\.old: .* kms:Decrypt under {OLD_KEY}; allow {principal}"):
        rewrap(source.provider, target.provider, OLD)


def test_a_denial_of_re_encrypt_names_both_keys_and_the_principal(pair: Pair) -> None:
    source, target = pair()
    target.refuses("re_encrypt")
    with pytest.raises(KeyAccessDenied) as failure:
        target.provider.re_encrypt(OLD, source.provider, target.provider)
    for word in ("kms:ReEncrypt", NEW_KEY, "the key that wrapped the data key", "the worker's IAM role", "the key's policy"):
        assert word in str(failure.value)


def test_a_target_without_a_key_id_is_named_before_anything_is_asked(pair: Pair) -> None:
    source, target = pair(target="")
    with pytest.raises(ConfigurationError, match=r"\[security\.encryption\.awskms\.new\] key_id is missing"):
        rewrap(source.provider, target.provider, OLD)


def test_an_empty_row_is_a_damaged_row(pair: Pair) -> None:
    source, target = pair()
    target.refuses("re_encrypt", "ValidationException", "ciphertextBlob")
    with pytest.raises(DataKeyUnwrapFailed):
        rewrap(source.provider, target.provider, b"\x00")
    with pytest.raises(DataKeyUnwrapFailed, match=r"awskms\.old .*empty"):
        rewrap(source.provider, target.provider, b"")


def test_a_key_that_unwraps_to_anything_but_sixteen_bytes_is_not_wrapped_again(pair: Pair) -> None:
    source, target = pair(region="eu-west-1")
    source.answers("decrypt", {"Plaintext": bytes(17)}, {"CiphertextBlob": OLD})
    with pytest.raises(DataKeyUnwrapFailed, match="17 bytes"):
        rewrap(source.provider, target.provider, OLD)


def test_from_and_to_secret_key_and_between_plain_providers_it_is_unwrapped_and_wrapped() -> None:
    secret_key, kms, other = SecretKeyProvider("a"), FakeKms(), FakeKms("awskms.other")
    wrapped = secret_key.wrap(DATA_KEY)
    for source, target in ((secret_key, kms), (kms, other), (other, secret_key)):
        rewrapped = rewrap(source, target, wrapped)
        assert rewrapped.how is How.UNWRAP_AND_WRAP
        wrapped = rewrapped.wrapped
        assert target.unwrap(wrapped) == DATA_KEY
    assert repr(wrapped)[2:-1] not in repr(rewrapped)
