"""The providers that a configuration has: secretKey.v1 always, one for each KMS section, none that calls AWS before it must."""

from __future__ import annotations

import pytest

from reencrypt.errors import ConfigurationError, DataKeyUnwrapFailed
from reencrypt.grafana.settings import load_settings
from reencrypt.providers import Provider
from reencrypt.providers.awskms import KmsOptions
from reencrypt.providers.registry import manager_providers_for, old_manager_providers_for, providers_for

SECRETS = ("secretKeyKnownToTests", "AKIDKNOWNTOTESTS", "secretAccessKeyKnownToTests")
INI = """
[security]
secret_key = secretKeyKnownToTests
encryption_provider = awskms.new
[security.encryption.awskms.new]
key_id = alias/new
region = eu-north-1
[security.encryption.awskms.old]
key_id = alias/old
access_key_id = AKIDKNOWNTOTESTS
secret_access_key = secretAccessKeyKnownToTests
[security.encryption.azurekv.other]
key_id = x
"""


def providers_of(ini: str, options: KmsOptions = KmsOptions()) -> dict[str, Provider]:  # noqa: B008  (frozen)
    settings = load_settings(ini)
    return providers_for(settings, settings.secret_keys[0], options)


def test_every_section_is_a_provider_by_its_id_and_secret_key_always_is() -> None:
    providers = providers_of(INI, KmsOptions(role_to_assume="arn:aws:iam::444455556666:role/grafana-kms"))  # no call of STS yet
    assert {name: provider.name for name, provider in providers.items()} == {name: name for name in ("secretKey.v1", "awskms.new", "awskms.old")}


def test_the_registrys_secret_key_is_the_candidate_that_it_was_given() -> None:
    provider = providers_of("[security]\nsecret_key = a\n")["secretKey.v1"]
    assert provider.unwrap(providers_of("[security]\nsecret_key = a\n")["secretKey.v1"].wrap(bytes(16))) == bytes(16)
    assert provider.unwrap(providers_of("[security]\nsecret_key = b\n")["secretKey.v1"].wrap(bytes(16))) != bytes(16)


def test_a_section_with_half_its_credentials_is_refused_before_anything_is_read() -> None:
    with pytest.raises(ConfigurationError, match=r"awskms\.old\] has no secret_access_key"):
        providers_of(INI.replace("secret_access_key", ";"))


MANAGER = """
[secrets_manager.encryption.secret_key.v2]
secret_key = secretKeyKnownToTests
old_secret_key = before
[secrets_manager.encryption.aws_kms.v1]
key_id = alias/new
access_key_id = AKIDKNOWNTOTESTS
secret_access_key = secretAccessKeyKnownToTests
"""


def test_the_secrets_manager_has_providers_of_its_own_each_with_its_own_key() -> None:
    providers = manager_providers_for(load_settings(MANAGER), KmsOptions())
    assert {name: provider.name for name, provider in providers.items()} == {name: name for name in ("secret_key.v1", "secret_key.v2", "aws_kms.v1")}
    wrapped = providers["secret_key.v2"].wrap(bytes(16))
    assert providers["secret_key.v2"].unwrap(wrapped) == bytes(16)
    with pytest.raises(DataKeyUnwrapFailed, match=r"secret_key\.v1"):
        providers["secret_key.v1"].unwrap(wrapped)


def test_only_providers_that_have_an_old_secret_key_are_there_with_it() -> None:
    settings = load_settings(MANAGER)
    old = old_manager_providers_for(settings)
    assert list(old) == ["secret_key.v2"]
    before = manager_providers_for(load_settings(MANAGER.replace("secretKeyKnownToTests", "before")), KmsOptions())
    assert old["secret_key.v2"].unwrap(before["secret_key.v2"].wrap(bytes(16))) == bytes(16)


def test_a_kms_section_of_the_secrets_manager_is_named_as_it_stands_in_the_file() -> None:
    with pytest.raises(ConfigurationError, match=r"\[secrets_manager\.encryption\.aws_kms\.v1\] has no secret_access_key"):
        manager_providers_for(load_settings(MANAGER.replace("secret_access_key", ";")), KmsOptions())
    provider = manager_providers_for(load_settings(MANAGER.replace("key_id = alias/new", "region = eu-north-1")), KmsOptions())["aws_kms.v1"]
    with pytest.raises(ConfigurationError, match=r"\[secrets_manager\.encryption\.aws_kms\.v1\] key_id is missing"):
        provider.wrap(bytes(16))


def test_neither_the_settings_nor_the_providers_show_a_secret() -> None:
    settings = load_settings(INI + MANAGER)
    shown = (
        f"{settings!r} {settings.kms!r} {settings.secret_keys!r} {providers_of(INI)!r} {settings.manager!r} {manager_providers_for(settings, KmsOptions())!r}"
    )
    assert not [secret for secret in SECRETS if secret in shown]
