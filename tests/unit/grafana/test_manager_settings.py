"""The secrets manager's settings, and the secret_key before this one: as Grafana 12.4 reads them, with no run ended by a section that it does not need."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reencrypt.errors import ReencryptError
from reencrypt.grafana.manager_settings import ManagerSettings
from reencrypt.grafana.settings import DEFAULT_SECRET_KEY, GrafanaSettings, load_settings

SECRET = "hunter2-secret"
V1 = "secrets_manager.encryption.secret_key.v1"
VARIABLE = "GF_SECRETS_MANAGER_ENCRYPTION_SECRET_KEY_V1_SECRET_KEY"
OLD_VARIABLE = "GF_SECRETS_MANAGER_ENCRYPTION_SECRET_KEY_V1_OLD_SECRET_KEY"
TTL = "GF_SECRETS_MANAGER_DATA_KEYS_CACHE_TTL"
KMS = "[secrets_manager]\nencryption_provider = aws_kms.v1\n[secrets_manager.encryption.aws_kms.v1]\n"


def _load(ini: str = "", environment: Mapping[str, str] | None = None, files: Mapping[str, str] | None = None) -> GrafanaSettings:
    def read(path: str) -> str:
        if path not in (files or {}):
            raise FileNotFoundError(path)
        return (files or {})[path]

    return load_settings(ini, environment or {}, read_file=read)


def _keys(manager: ManagerSettings) -> dict[str, tuple[str, str]]:
    return {provider: (key.value, key.source) for provider, key in manager.secret_keys.items()}


def test_an_empty_file_gives_grafanas_defaults_and_the_public_key() -> None:
    settings = _load()
    assert settings.manager == ManagerSettings()
    assert settings.manager.encryption_provider == "secret_key.v1"
    assert _keys(settings.manager) == {"secret_key.v1": ("SW2YcwTIb9zpOOhoPsMm", f"[{V1}] secret_key")}
    assert (settings.manager.kms, settings.manager.old_secret_keys, settings.manager.problem) == ({}, {}, None)
    assert settings.manager.data_keys_cache_ttl == timedelta(minutes=15)
    assert settings.manager.on_public_default == ("secret_key.v1",)
    assert (settings.old_secret_key, settings.old_secret_key_literally, settings.warnings) == (None, None, ())


@pytest.mark.parametrize(
    ("ini", "environment", "key"),
    [
        (f"[{V1}]\nsecret_key = own", {}, ("own", f"[{V1}] secret_key")),
        (f"[{V1}]\nsecret_key =", {}, (DEFAULT_SECRET_KEY, f"[{V1}] secret_key")),
        ("[security]\nsecret_key = other", {}, (DEFAULT_SECRET_KEY, f"[{V1}] secret_key")),
        ("[secrets_manager.encryption]\nsecret_key = parent", {}, (DEFAULT_SECRET_KEY, f"[{V1}] secret_key")),
        (f"[{V1}]\nsecret_key = %(x)s\nx = y", {}, ("%(x)s", f"[{V1}] secret_key")),
        (f"[{V1}]\nsecret_key = a${{X}}", {"X": "1"}, ("a1", f"[{V1}] secret_key")),
        (f"[{V1}]\nsecret_key = $__file{{/f}}", {}, ("fromdisk", f"[{V1}] secret_key")),
        ("", {VARIABLE: "env"}, ("env", VARIABLE)),
        ("", {VARIABLE: "$__file{/f}"}, ("fromdisk", VARIABLE)),
        ("", {f"{VARIABLE}__FILE": "/f"}, ("fromdisk", VARIABLE)),
    ],
)
def test_the_managers_secret_key_is_its_own_section_s_with_expanders_applied(ini: str, environment: dict[str, str], key: tuple[str, str]) -> None:
    settings = _load(ini, environment, {"/f": "fromdisk\n"})
    assert _keys(settings.manager) == {"secret_key.v1": key}
    assert (settings.manager.problem, settings.warnings) == (None, ())


def test_several_providers_stand_beside_each_other_under_their_ids_as_they_are_written() -> None:
    manager = _load(
        "[secrets_manager]\nencryption_provider = secret_key.v2\ndata_keys_cache_ttl = 1m\n"
        "[secrets_manager.encryption.secret_key.v2]\nsecret_key = two\nold_secret_key = before\n[secrets_manager.encryption.secretKey]\nsecret_key = x\n"
        "[secrets_manager.encryption.secret_keyring]\nsecret_key = three\n"
        "[secrets_manager.encryption.aws_kms.v1]\nregion = eu-north-1\nkey_id = alias/k\naccess_key_id = AKIA\nsecret_access_key = s\nsession_token = t\n"
    ).manager
    assert (manager.encryption_provider, manager.problem, manager.data_keys_cache_ttl) == ("secret_key.v2", None, timedelta(minutes=1))
    assert {provider: key.value for provider, key in manager.secret_keys.items()} == {
        "secret_key.v1": DEFAULT_SECRET_KEY, "secret_key.v2": "two", "secret_keyring": "three",
    }  # fmt: skip
    assert {provider: key.value for provider, key in manager.old_secret_keys.items()} == {"secret_key.v2": "before"}
    section = manager.kms["aws_kms.v1"]
    assert (section.provider, section.key_id, section.region) == ("aws_kms.v1", "alias/k", "eu-north-1")
    assert (section.access_key_id, section.secret_access_key, section.session_token) == ("AKIA", "s", "t")
    assert section.title == "[secrets_manager.encryption.aws_kms.v1]"
    assert manager.on_public_default == ("secret_key.v1",)


def test_kms_sections_take_nothing_from_their_parents_and_warn_of_variables_that_grafana_ignores() -> None:
    ini = f"[secrets_manager.encryption]\nregion = eu-west-1\n{KMS}key_id = alias/k\n"
    settings = _load(ini, {"GF_SECRETS_MANAGER_ENCRYPTION_AWS_KMS_V1_SESSION_TOKEN": SECRET, "GF_SECRETS_MANAGER_ENCRYPTION_AWS_KMS_V1_KEY_ID": "env"})
    assert (settings.manager.kms["aws_kms.v1"].key_id, settings.manager.kms["aws_kms.v1"].region) == ("env", None)
    [warning] = settings.warnings
    assert "GF_SECRETS_MANAGER_ENCRYPTION_AWS_KMS_V1_SESSION_TOKEN is ignored" in warning
    assert SECRET not in warning


# --- what cannot work ----------------------------------------------------------------------------------------------------------------------

BROKEN: list[tuple[str, str]] = [
    ("[secrets_manager]\nencryption_provider = secret_key.v2", "no section [secrets_manager.encryption.secret_key.v2]"),
    ("[secrets_manager]\nencryption_provider = aws_kms.v1", "no section [secrets_manager.encryption.aws_kms.v1]"),
    ("[secrets_manager]\nencryption_provider = secretKey.v1", "no section [secrets_manager.encryption.secretKey.v1]"),
    ("[secrets_manager]\nencryption_provider = secret_key.v2\n[secrets_manager.encryption.secret_key.v2]\nkey = x", "secret_key.v2] secret_key is missing"),
    (f"{KMS}region = eu-north-1", "[secrets_manager.encryption.aws_kms.v1] key_id is missing"),
    (f"{KMS}key_id = $__vault{{a:b}}", "[secrets_manager.encryption.aws_kms.v1] key_id uses $__vault"),
    ("[secrets_manager]\nencryption_provider = azure_keyvault.v1\n[secrets_manager.encryption.azure_keyvault.v1]\nkey_name = k", "of no kind"),
    ("[secrets_manager]\nencryption_provider = $__file{/gone}", "[secrets_manager] encryption_provider names a file"),
    (f"[{V1}]\nsecret_key = $__file{{/gone}}", f"[{V1}] secret_key names a file"),
    (f"[secrets_manager]\nencryption_provider = secret_key.{'n' * 44}\n[secrets_manager.encryption.secret_key.{'n' * 44}]\nsecret_key = a", "50 characters"),
    ("[secrets_manager]\nencryption_provider = hunter2-secret with space", "no section"),
]  # fmt: skip


@pytest.mark.parametrize(("ini", "words"), BROKEN)
def test_a_provider_that_cannot_work_is_a_problem_for_whoever_needs_it_and_ends_nothing(ini: str, words: str) -> None:
    settings = _load(ini)
    assert settings.manager.problem is not None
    assert words in settings.manager.problem
    assert SECRET not in settings.manager.problem
    assert settings.manager.problem not in settings.warnings, "it is said once, by whoever needs the manager"


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ("azure_keyvault.v1]\nkey_name = k", "no kind that this product knows"),
        ("google_kms.v1]\nkey_name = k", "no kind that this product knows"),
        ("hashicorp_vault.v1]\nkey_name = k", "no kind that this product knows"),
        ("aws_kms]\nkey_id = k", "no kind that this product knows"),
        ("awskms.v1]\nkey_id = k", "no kind that this product knows"),
        ("secret_key.v2]\nsecret_key =", "secret_key is missing"),
        ("aws_kms.v2]\nkey_id = $__vault{a:b}", "Enterprise"),
    ],
)
def test_a_section_of_another_provider_that_cannot_be_used_is_a_warning(section: str, words: str) -> None:
    settings = _load(f"[secrets_manager.encryption.{section}")
    assert settings.manager.problem is None
    [warning] = settings.warnings
    assert words in warning
    assert list(settings.manager.secret_keys) == ["secret_key.v1"]
    assert settings.manager.kms == {}


@pytest.mark.parametrize(
    ("text", "environment", "minutes", "warned"),
    [("1h", {}, 60, False), ("-5m", {}, 0, False), ("soon", {}, 15, True), ("$__file{/gone}", {}, 15, True), ("1m", {TTL: "${X}", "X": "2m"}, 2, False)],
)  # fmt: skip
def test_the_managers_cache_ttl_is_a_go_duration_or_grafanas_default_with_a_warning(text: str, environment: dict[str, str], minutes: int, warned: bool) -> None:
    settings = _load(f"[secrets_manager]\ndata_keys_cache_ttl = {text}\n", environment)
    assert (settings.manager.data_keys_cache_ttl, bool(settings.warnings)) == (timedelta(minutes=minutes), warned)
    assert settings.data_keys_cache_ttl == timedelta(minutes=15), "the other store has one of its own"


# --- the secret_key before this one ----------------------------------------------------------------------------------------------------------

OLD = "GF_SECURITY_OLD_SECRET_KEY"


@pytest.mark.parametrize(
    ("ini", "environment", "old"),
    [
        ("[security]\nold_secret_key = before", {}, ("before", "[security] old_secret_key")),
        ("[security]\nold_secret_key = a#b", {}, ("a", "[security] old_secret_key")),
        ("[security]\nold_secret_key = before", {OLD: "env"}, ("env", OLD)),
        ("", {OLD: "env"}, ("env", OLD)),
        ("", {f"{OLD}__FILE": "/f"}, ("fromdisk", OLD)),
        ("[security]\nold_secret_key =", {}, None),
        ("[security.encryption]\nold_secret_key = elsewhere", {}, None),
        ("[security]\nold_secret_key = before", {OLD: ""}, ("before", "[security] old_secret_key")),
    ],
)
def test_the_old_secret_key_is_read_from_the_file_or_the_variable(ini: str, environment: dict[str, str], old: tuple[str, str] | None) -> None:
    settings = _load(ini, environment, {"/f": "fromdisk\n"})
    assert (settings.old_secret_key and (settings.old_secret_key.value, settings.old_secret_key.source)) == old
    assert (settings.old_secret_key_literally, settings.warnings) == (None, ())
    assert settings.secret_keys[0].value == DEFAULT_SECRET_KEY


@pytest.mark.parametrize(("text", "expanded"), [("$__file{/f}", "fromdisk"), ("${Y}", "other"), ("a$__env{Y}", "aother")])
def test_an_old_secret_key_with_an_expander_is_expanded_and_may_have_been_that_text_itself(text: str, expanded: str) -> None:
    """Who leaves the trap of GF_SECURITY_SECRET_KEY='$__file{…}' has encrypted under that text."""
    for ini, environment, source in ((f"[security]\nold_secret_key = {text}", {}, "[security] old_secret_key"), ("", {OLD: text}, OLD)):
        settings = _load(ini, {**environment, "Y": "other"}, {"/f": " fromdisk\n"})
        assert settings.old_secret_key is not None
        assert settings.old_secret_key_literally is not None
        assert (settings.old_secret_key.value, settings.old_secret_key.source) == (expanded, f"{source}, expanded")
        assert (settings.old_secret_key_literally.value, settings.old_secret_key_literally.source) == (text, f"{source}, literally")


def test_an_old_secret_key_whose_file_only_grafanas_machine_has_is_tried_as_it_is_written() -> None:
    settings = _load("", {OLD: "$__file{/gone}"})
    assert settings.old_secret_key is not None
    assert (settings.old_secret_key.value, settings.old_secret_key_literally) == ("$__file{/gone}", None)
    assert "only tried literally" in settings.warnings[0]
    unset = _load("", {OLD: "${UNSET}"}).old_secret_key
    assert unset is not None
    assert unset.value == "${UNSET}", "an empty key is none"


@pytest.mark.parametrize(
    ("ini", "environment", "value", "source"),
    [
        (f"[{V1}]\nold_secret_key = before", {}, "before", f"[{V1}] old_secret_key"),
        ("", {OLD_VARIABLE: "env"}, "env", OLD_VARIABLE),
        (f"[{V1}]\nold_secret_key = ${{X}}", {"X": "fromx"}, "fromx", f"[{V1}] old_secret_key, expanded"),
    ],
)  # fmt: skip
def test_a_provider_of_the_manager_may_have_an_old_secret_key(ini: str, environment: dict[str, str], value: str, source: str) -> None:
    manager = _load(ini, environment).manager
    assert {provider: (key.value, key.source) for provider, key in manager.old_secret_keys.items()} == {"secret_key.v1": (value, source)}
    assert manager.problem is None


def test_an_old_secret_key_of_a_parent_section_is_no_provider_s() -> None:
    assert _load("[secrets_manager.encryption]\nold_secret_key = parent\n").manager.old_secret_keys == {}


def test_an_old_secret_key_is_known_even_where_the_new_one_is_missing() -> None:
    manager = _load("[secrets_manager.encryption.secret_key.v2]\nold_secret_key = before\n").manager
    assert list(manager.old_secret_keys) == ["secret_key.v2"]
    assert "secret_key.v2" not in manager.secret_keys


# --- what nobody sees ------------------------------------------------------------------------------------------------------------------------


def test_no_repr_shows_a_secret() -> None:
    settings = _load(
        f"[security]\nold_secret_key = {SECRET}\n[{V1}]\nsecret_key = {SECRET}\nold_secret_key = {SECRET}\n"
        f"{KMS}key_id = k\naccess_key_id = {SECRET}\nsecret_access_key = {SECRET}\nsession_token = {SECRET}\n"
    )
    assert settings.manager.kms["aws_kms.v1"].secret_access_key == settings.manager.secret_keys["secret_key.v1"].value == SECRET
    assert SECRET not in repr(settings)
    literal = _load("", {OLD: f"{SECRET}${{X}}"})
    assert literal.old_secret_key is not None
    assert SECRET not in repr(literal)


_NAMES = st.sampled_from([VARIABLE, OLD, f"{OLD}__FILE", "GF_SECRETS_MANAGER_ENCRYPTION_PROVIDER", TTL, "X"])
_VALUES = st.one_of(st.text(st.characters(), max_size=20), st.sampled_from(["${X}", "$__file{X}", "$__vault{X}", "aws_kms.v1", "secret_key.v2", "9h9"]))
_SECTIONS = ["[secrets_manager]", f"[{V1}]", "[secrets_manager.encryption.aws_kms.v1]", "[secrets_manager.encryption."]
_KEYS = ["encryption_provider = ", "secret_key = ", "old_secret_key = ", "key_id = ", "data_keys_cache_ttl = "]
_LINES = st.tuples(st.sampled_from([*_SECTIONS, *_KEYS]), _VALUES)


@given(st.lists(_LINES.map("".join)).map("\n".join), st.dictionaries(_NAMES, _VALUES))
def test_any_configuration_is_loaded_or_refused_by_our_own_errors(ini: str, environment: dict[str, Any]) -> None:
    try:
        manager = _load(ini, environment).manager
    except ReencryptError:
        return
    assert manager.problem or manager.encryption_provider in {**manager.secret_keys, **manager.kms}
    for key in (*manager.secret_keys.values(), *manager.old_secret_keys.values()):
        assert key.value.encode()
