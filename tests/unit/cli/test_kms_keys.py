"""Every form of `key_id` that Grafana documents names one key, and credentials name one user."""

from __future__ import annotations

import pytest

from cli.kms_keys import WantedKey, kms_sections, wanted_key, wanted_users
from reencrypt.errors import ConfigurationError
from reencrypt.grafana.settings import KmsSection, load_settings

ID = "1234abcd-12ab-34cd-56ef-1234567890ab"
HERE = "000000000000"


def _section(key_id: str, *, name: str = "k", **keys: str) -> KmsSection:
    lines = "".join(f"{key} = {value}\n" for key, value in keys.items())
    ini = f"[security.encryption.awskms.{name}]\nkey_id = {key_id}\n{lines}"
    return next(iter(load_settings(ini).kms.values()))


@pytest.mark.parametrize(
    ("key_id", "key"),
    [
        (ID, WantedKey(HERE, "eu-north-1", ID)),
        ("mrk-1234abcd12ab34cd56ef1234567890ab", WantedKey(HERE, "eu-north-1", "mrk-1234abcd12ab34cd56ef1234567890ab")),
        (f"arn:aws:kms:eu-north-1:{HERE}:key/{ID}", WantedKey(HERE, "eu-north-1", ID)),
        (f"arn:aws:kms:us-west-2:111122223333:key/{ID}", WantedKey("111122223333", "us-west-2", ID)),
    ],
)
def test_key_ids_and_key_arns_of_any_account_name_that_key(key_id: str, key: WantedKey) -> None:
    assert wanted_key(_section(key_id, region="eu-north-1")) == key


def test_an_alias_and_its_arn_name_the_same_key() -> None:
    by_name = wanted_key(_section("alias/ExampleAlias", region="eu-north-1"))
    assert by_name == wanted_key(_section(f"arn:aws:kms:eu-north-1:{HERE}:alias/ExampleAlias"))
    assert by_name.alias == "alias/ExampleAlias"
    assert by_name != wanted_key(_section("alias/ExampleAlias", region="us-east-1"))


def test_without_a_region_the_key_is_where_the_functions_are() -> None:
    assert wanted_key(_section(ID)).region == "us-east-1"


@pytest.mark.parametrize("key_id", ["my-key", "alias/", f"key/{ID}", "arn:aws:s3:::bucket", f"arn:aws:kms:eu-north-1:1:key/{ID}", f"{ID}0"])
def test_anything_else_is_refused_with_the_sections_name_and_the_forms(key_id: str) -> None:
    with pytest.raises(ConfigurationError, match=r"security\.encryption\.awskms\.k\].*alias/NAME"):
        wanted_key(_section(key_id))


def test_sections_with_one_access_key_are_one_user_with_both_keys() -> None:
    credentials = {"access_key_id": "AKIA1", "secret_access_key": "s3cret", "region": "eu-north-1"}
    (user,) = wanted_users([_section(ID, **credentials), _section("alias/other", name="o", **credentials), _section(ID, name="role")])
    assert (user.access_key_id, len(user.arns)) == ("AKIA1", 2)
    assert "s3cret" not in repr(user)


def test_one_access_key_with_two_secrets_is_refused_without_showing_them() -> None:
    sections = [_section(ID, access_key_id="AKIA1", secret_access_key=secret) for secret in ("first", "second")]
    with pytest.raises(ConfigurationError) as raised:
        wanted_users(sections)
    assert "first" not in str(raised.value)
    assert "second" not in str(raised.value)


def test_the_keys_of_both_stores_are_made_and_each_refusal_names_its_own_section() -> None:
    ini = (
        f"[security.encryption.awskms.old]\nkey_id = {ID}\n[security.encryption.awskms.new]\nkey_id = alias/new\nregion = eu-north-1\n"
        "[secrets_manager.encryption.aws_kms.k]\nkey_id = {}\nregion = eu-west-1\n"
    )
    keys = [wanted_key(section) for section in kms_sections(load_settings(ini.format("alias/secrets")))]
    assert [(key.region, key.alias) for key in keys] == [("us-east-1", None), ("eu-north-1", "alias/new"), ("eu-west-1", "alias/secrets")]
    assert len({key.arn for key in keys}) == 3
    with pytest.raises(ConfigurationError, match=r"\[secrets_manager\.encryption\.aws_kms\.k\] key_id is none of"):
        wanted_key(kms_sections(load_settings(ini.format("my-key")))[-1])
