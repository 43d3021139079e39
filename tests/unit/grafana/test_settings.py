"""Settings come out as Grafana 12.4 understands them, and no message or repr ever shows a secret."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reencrypt.errors import ConfigurationError, InvalidIni, ReencryptError
from reencrypt.grafana.settings import GrafanaSettings, load_settings

SECRET = "hunter2-secret"
KMS = "[security]\nencryption_provider = awskms.x\n[security.encryption.awskms.x]\nkey_id = alias/k\n"


def _files(files: Mapping[str, str]) -> Any:
    def read(path: str) -> str:
        if path not in files:
            raise FileNotFoundError(path)
        return files[path]

    return read


def _load(ini: str = "", environment: Mapping[str, str] | None = None, files: Mapping[str, str] | None = None, hostname: str = "") -> GrafanaSettings:
    return load_settings(ini, environment or {}, read_file=_files(files or {}), hostname=hostname)


def _keys(settings: GrafanaSettings) -> list[tuple[str, str]]:
    return [(key.value, key.source) for key in settings.secret_keys]


def test_an_empty_file_gives_grafanas_defaults() -> None:
    settings = _load()
    assert _keys(settings) == [("SW2YcwTIb9zpOOhoPsMm", "[security] secret_key")]
    assert (settings.encryption_provider, settings.available_encryption_providers, settings.kms) == ("secretKey.v1", (), {})
    assert (settings.data_keys_cache_ttl, settings.algorithm, settings.warnings) == (timedelta(minutes=15), "aes-cfb", ())
    database = settings.database
    assert (database.type, database.path, database.data_path, database.ssl_mode) == ("sqlite3", "grafana.db", None, "disable")


def test_grafanas_documented_kms_configuration_is_read() -> None:
    settings = _load(
        "[security]\nsecret_key = AaaaAaaa ; still needed\nencryption_provider = awskms.example-encryption-key\n"
        "available_encryption_providers = awskms.example-encryption-key secretKey\n"
        "[security.encryption.awskms.example-encryption-key]\nkey_id = 1234abcd\naccess_key_id = AKIA\nsecret_access_key = s/k+y=\n"
        "session_token = t0ken\nregion = eu-north-1\n"
    )
    section = settings.kms["awskms.example-encryption-key"]
    assert (section.provider, section.key_id, section.region) == ("awskms.example-encryption-key", "1234abcd", "eu-north-1")
    assert (section.access_key_id, section.secret_access_key, section.session_token) == ("AKIA", "s/k+y=", "t0ken")
    assert settings.encryption_provider == "awskms.example-encryption-key"
    assert settings.available_encryption_providers == ("awskms.example-encryption-key", "secretKey.v1")
    assert settings.warnings == ()


@pytest.mark.parametrize(
    ("ini", "environment", "key"),
    [
        ("[security]\nsecret_key = fromfile", {}, ("fromfile", "[security] secret_key")),
        ("[security]\nsecret_key =", {}, ("SW2YcwTIb9zpOOhoPsMm", "[security] secret_key")),
        ("[security]\nsecret_key = %(x)s", {}, ("%(x)s", "[security] secret_key")),
        ("[security]\nsecret_key = fromfile", {"GF_SECURITY_SECRET_KEY": "fromenv"}, ("fromenv", "GF_SECURITY_SECRET_KEY")),
        ("[security]\nsecret_key = fromfile", {"GF_SECURITY_SECRET_KEY": ""}, ("fromfile", "[security] secret_key")),
        ("", {"GF_SECURITY_SECRET_KEY__FILE": "/f"}, ("fromdisk", "GF_SECURITY_SECRET_KEY")),
        ("[security]\nsecret_key = $__file{/f}", {}, ("fromdisk", "[security] secret_key")),
        ("[security]\nsecret_key = a${X}b$__env{X}", {"X": "1"}, ("a1b1", "[security] secret_key")),
        ("[security]\nsecret_key = $__env{HOSTNAME}${UNSET}", {}, ("host", "[security] secret_key")),
        ("[security]\nsecret_key = ${P}", {"P": "$__file{/f}"}, ("fromdisk", "[security] secret_key")),
        ("[security.encryption]\nsecret_key = child", {}, ("child", "[security] secret_key")),
    ],
)
def test_the_secret_key_is_the_one_that_grafana_uses(ini: str, environment: dict[str, str], key: tuple[str, str]) -> None:
    settings = _load(ini, environment, {"/f": "fromdisk\n\n"}, "host")
    assert _keys(settings) == [key]
    assert settings.warnings == ()


@pytest.mark.parametrize(("literal", "expanded"), [("$__file{/f}", "fromdisk"), ("${Y}", "other"), ("a$__env{Y}", "aother")])
def test_an_expander_in_the_variable_gives_both_candidates_the_literal_text_first_and_a_warning(literal: str, expanded: str) -> None:
    settings = _load("", {"GF_SECURITY_SECRET_KEY": literal, "Y": "other"}, {"/f": " fromdisk\n"})
    assert _keys(settings) == [(literal, "GF_SECURITY_SECRET_KEY, literally"), (expanded, "GF_SECURITY_SECRET_KEY, expanded")]
    assert "guess" in settings.warnings[0]


def test_without_the_expanders_file_the_literal_text_is_still_tried() -> None:
    settings = _load("", {"GF_SECURITY_SECRET_KEY": "$__file{/gone}"})
    assert _keys(settings) == [("$__file{/gone}", "GF_SECURITY_SECRET_KEY, literally")]
    assert len(settings.warnings) == 2


def test_settings_that_are_not_needed_may_name_files_and_vaults_that_are_not_here() -> None:
    ini = "[smtp]\npassword = $__file{/gone}\n[security]\nadmin_password = $__vault{a:b}\n"
    environment = {"GF_SMTP_PASSWORD__FILE": "/gone", "GF_SECURITY_ADMIN_PASSWORD__FILE": "/gone", "GF_SECURITY_ADMIN_PASSWORD": "x"}
    assert _load(ini, environment).warnings == ()


@pytest.mark.parametrize(
    ("environment", "section"),
    [
        ({"GF_SECURITY_ENCRYPTION_AWSKMS_MY_KEY_SECRET_ACCESS_KEY": "env"}, ("id", "env", None)),
        ({"GF_SECURITY_ENCRYPTION_AWSKMS_MY_KEY_SECRET_ACCESS_KEY__FILE": "/f"}, ("id", "fromdisk", None)),
        ({"GF_SECURITY_ENCRYPTION_AWSKMS_MY_KEY_KEY_ID": "env"}, ("env", "file", None)),
    ],
)
def test_variables_override_the_keys_that_a_kms_section_has(environment: dict[str, str], section: tuple[str, str, str | None]) -> None:
    settings = _load("[security.encryption.awskms.my-key]\nkey_id = id\nsecret_access_key = file\n", environment, {"/f": "fromdisk\n"})
    found = settings.kms["awskms.my-key"]
    assert (found.key_id, found.secret_access_key, found.session_token) == section
    assert settings.warnings == ()


def test_a_variable_for_a_key_that_the_section_lacks_is_ignored_with_a_warning() -> None:
    settings = _load(KMS, {"GF_SECURITY_ENCRYPTION_AWSKMS_X_SESSION_TOKEN": SECRET})
    assert settings.kms["awskms.x"].session_token is None
    assert "GF_SECURITY_ENCRYPTION_AWSKMS_X_SESSION_TOKEN is ignored" in settings.warnings[0]
    assert SECRET not in settings.warnings[0]


@pytest.mark.parametrize("name", ["secretKey", "secretKey.v1"])
def test_the_old_spelling_of_the_default_provider_is_normalised(name: str) -> None:
    assert _load(f"[security]\nencryption_provider = {name}").encryption_provider == "secretKey.v1"
    assert _load("", {"GF_SECURITY_ENCRYPTION_PROVIDER": name}).encryption_provider == "secretKey.v1"


@pytest.mark.parametrize(
    ("ini", "message"),
    [
        ("[security]\nencryption_provider = awskms.x", r"no section \[security\.encryption\.awskms\.x\]"),
        ("[security]\nencryption_provider = awskms.x\n[security.encryption.awskms.x]\nregion = a", r"\[security\.encryption\.awskms\.x\] key_id"),
        ("[security]\nencryption_provider = awskms.x\n[security.encryption.awskms.x]\nkey_id =", r"\[security\.encryption\.awskms\.x\] key_id"),
        ("[security]\nencryption_provider = awskms\n[security.encryption.awskms]\nkey_id = a", "no <kind>.<name>"),
        ("[security]\nencryption_provider = azurekv.x\n[security.encryption.azurekv.x]\nkey_id = a", "azurekv.x: this product knows"),
        ("[security]\nencryption_provider = hashicorpvault.x", "hashicorpvault.x: this product knows"),
        (f"[security]\nencryption_provider = awskms.{'n' * 44}\n[security.encryption.awskms.{'n' * 44}]\nkey_id = a", "50 characters"),
        ("[security]\nsecret_key = $__vault{a:b}", r"\[security\] secret_key uses \$__vault.*Enterprise.*GF_SECURITY_SECRET_KEY"),
        ("[security]\nsecret_key = $__file{/gone}", r"\[security\] secret_key names a file"),
        ("[database]\ntype = oracle", r"\[database\] type: 'oracle'"),
        ("[database]\nurl = postgresql://u:hunter2-secret@h/db", "url: 'postgresql' is unknown.*postgres$"),
        ("[database]\nurl = mysql://u:hunter2-secret@[h/db", "url is no URL"),
        ("[database]\ntype = mysql\nhost = h:port", "port"),
        ("[database]\ntype = mysql\nhost = h\nport = " + "9" * 5000, "port"),
        ("[database]\nconnection_string = hunter2-secret", "connection_string"),
    ],
)
def test_what_cannot_work_is_refused_by_the_name_of_the_setting(ini: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as raised:
        _load(ini)
    assert SECRET not in str(raised.value)


def test_a_variable_and_its_file_at_once_are_refused_as_the_container_does() -> None:
    with pytest.raises(ConfigurationError, match="both GF_SECURITY_SECRET_KEY and GF_SECURITY_SECRET_KEY__FILE"):
        _load("", {"GF_SECURITY_SECRET_KEY": SECRET, "GF_SECURITY_SECRET_KEY__FILE": "/f"}, {"/f": "x"})


def test_a_secret_where_a_path_belongs_is_not_shown() -> None:
    with pytest.raises(ConfigurationError) as raised:
        _load("", {"GF_SECURITY_SECRET_KEY__FILE": SECRET})
    assert SECRET not in str(raised.value)
    assert raised.value.__suppress_context__


def test_sections_of_other_kinds_are_only_warned_about() -> None:
    settings = _load(KMS + "".join(f"[security.encryption.{kind}.y]\nkey = v\n" for kind in ("azurekv", "googlekms", "hashicorpvault")))
    assert (list(settings.kms), len(settings.warnings)) == (["awskms.x"], 3)


@pytest.mark.parametrize(
    ("text", "ttl", "warned"),
    [
        ("15m", timedelta(minutes=15), False),
        ("1h30m", timedelta(minutes=90), False),
        ("1.5h", timedelta(minutes=90), False),
        (".5s", timedelta(milliseconds=500), False),
        ("250ms", timedelta(milliseconds=250), False),
        ("0", timedelta(0), False),
        ("-5m", timedelta(0), False),
        ("15", timedelta(minutes=15), True),
        ("1d", timedelta(minutes=15), True),
        ("5 m", timedelta(minutes=15), True),
        ("9" * 400 + "h", timedelta(minutes=15), True),
        ("9999999999h", timedelta(minutes=15), True),
        ("${TTL}", timedelta(minutes=1), False),
    ],
)
def test_the_cache_ttl_is_a_go_duration_or_grafanas_default_with_a_warning(text: str, ttl: timedelta, warned: bool) -> None:
    settings = _load(f"[security.encryption]\ndata_keys_cache_ttl = {text}\n", {"TTL": "1m"})
    assert (settings.data_keys_cache_ttl, bool(settings.warnings)) == (ttl, warned)


def test_the_cache_ttl_in_the_section_security_is_ignored_but_the_algorithm_there_is_not() -> None:
    settings = _load("[security]\ndata_keys_cache_ttl = 1m\nalgorithm = aes-gcm\n")
    assert (settings.data_keys_cache_ttl, settings.algorithm) == (timedelta(minutes=15), "aes-gcm")
    assert _load("", {"GF_SECURITY_ENCRYPTION_ALGORITHM": "aes-gcm"}).algorithm == "aes-gcm"


def test_an_expander_in_the_ttls_variable_counts_literally_as_grafana_reads_it() -> None:
    settings = _load("", {"GF_SECURITY_ENCRYPTION_DATA_KEYS_CACHE_TTL": "${TTL}", "TTL": "1m"})
    assert (settings.data_keys_cache_ttl, len(settings.warnings)) == (timedelta(minutes=15), 1)


@pytest.mark.parametrize(
    ("ini", "environment", "expected"),
    [
        (
            "type = mysql\nhost = h:3307\nname = n\nuser = u\npassword = p",
            {},
            {"type": "mysql", "host": "h", "port": 3307, "name": "n", "user": "u", "password": "p"},
        ),
        ("type = mysql\nhost = h", {}, {"host": "h", "port": 3306, "name": "grafana", "user": "root"}),
        ("type = mysql\nhost = h\nport = 3308", {}, {"host": "h", "port": 3308}),
        ("type = mysql\nhost = /run/mysqld.sock", {}, {"host": "", "port": None, "unix_socket": "/run/mysqld.sock"}),
        ("type = postgres\nhost = h", {}, {"host": "h", "port": 5432, "ssl_mode": "disable"}),
        ("type = postgres\nhost = [::1]:5433", {}, {"host": "::1", "port": 5433}),
        ("type = postgres\nhost = ::1", {}, {"host": "::1", "port": 5432}),
        ('type = mysql\nhost = h\npassword = "a#b"', {}, {"password": '"a'}),
        ("type = mysql\nhost = h\npassword = `a#b`", {}, {"password": "a#b"}),
        ("type = mysql\nhost = %(domain)s\ndomain = db.example", {}, {"host": "db.example"}),
        ("type = mysql\nhost = h", {"GF_DATABASE_HOST": "e:1", "GF_DATABASE_PASSWORD": "p"}, {"host": "e", "port": 1, "password": "p"}),
        ("type = mysql\nhost = h", {"GF_DATABASE_PASSWORD__FILE": "/f"}, {"password": "fromdisk"}),
        (
            "type = sqlite3\nurl = mysql://u%40x:p%2Fw@h:3307/db/more?tls=true&a=b\nhost = other\nport = 9\nssl_mode = skip-verify",
            {},
            {"type": "mysql", "host": "h", "port": 3307, "name": "db", "user": "u@x", "password": "p/w", "ssl_mode": "skip-verify"}
            | {"query": {"tls": "true", "a": "b"}},
        ),
        ("url = postgres://u:p@h/db?sslmode=verify-full\nconnection_string = ignored", {}, {"port": 5432, "query": {"sslmode": "verify-full"}}),
        ("url = sqlite3://ignored\npath = /x/g.db", {}, {"type": "sqlite3", "path": "/x/g.db"}),
        ("type = sqlite3\nhost = h:port\nport = x", {}, {"type": "sqlite3", "host": "", "port": None, "path": "grafana.db"}),
        (
            "type = mysql\nssl_mode = true\nca_cert_path = /ca\nclient_cert_path = /c\nclient_key_path = /k\nserver_cert_name = s",
            {},
            {"ssl_mode": "true", "ca_cert_path": "/ca", "client_cert_path": "/c", "client_key_path": "/k", "server_cert_name": "s"},
        ),
        ("path = g.db\n[paths]\ndata = /var/lib/grafana", {}, {"path": "g.db", "data_path": "/var/lib/grafana"}),
        ("path = g.db", {"GF_PATHS_DATA": "/env"}, {"data_path": "/env"}),
    ],
)
def test_the_database_is_where_grafana_finds_it(ini: str, environment: dict[str, str], expected: dict[str, object]) -> None:
    database = _load(f"[database]\n{ini}\n", environment, {"/f": "fromdisk\n"}).database
    assert {key: getattr(database, key) for key in expected} == expected


def test_no_repr_shows_a_secret() -> None:
    keys = "access_key_id = AKIA\nsecret_access_key = hunter2-secret\nsession_token = hunter2-secret\n"
    settings = _load(f"{KMS}{keys}[security]\nsecret_key = {SECRET}\n[database]\ntype = mysql\npassword = {SECRET}\n")
    assert SECRET not in repr(_load(f"[database]\nurl = postgres://u:{SECRET}@h/db?sslpassword={SECRET}").database)
    assert settings.kms["awskms.x"].secret_access_key == settings.secret_keys[0].value == settings.database.password == SECRET
    assert SECRET not in repr(settings)


def test_a_file_that_cannot_be_parsed_is_refused_by_line() -> None:
    with pytest.raises(InvalidIni, match="line 2"):
        _load("[security]\nhunter2-secret")


_NAMES = st.sampled_from(
    ["GF_SECURITY_SECRET_KEY", "GF_DATABASE_URL", "GF_DATABASE_TYPE", "GF_DATABASE_HOST", "GF_SECURITY_ENCRYPTION_DATA_KEYS_CACHE_TTL", "X"]
)
_VALUES = st.one_of(
    st.text(st.characters(), max_size=20),
    st.sampled_from(["${X}", "$__file{X}", "$__vault{X}", "mysql://[", "mysql", "9h9", "postgres://u:p@h:x/%zz"]),
)
_LINES = st.tuples(st.sampled_from(["[database]", "[security]", "[security.encryption.awskms.x]", "url = ", "type = ", "host = ", "key_id = ", "x"]), _VALUES)


@given(st.lists(_LINES.map("".join)).map("\n".join), st.dictionaries(_NAMES, _VALUES))
def test_any_configuration_is_loaded_or_refused_by_our_own_errors(ini: str, environment: dict[str, str]) -> None:
    try:
        settings = _load(ini, environment)
        settings.secret_keys[0].value.encode()
    except ReencryptError:
        pass


@pytest.mark.parametrize("value", ["${" * 200_000, "$__file{" * 100_000, "${}" * 200_000, "$__env{X}" + "${" * 200_000])
def test_a_value_of_nothing_but_open_expanders_is_read_in_one_pass(value: str) -> None:
    """Looking from each for its end would take minutes, which this test would take."""
    assert _load(f"[security]\nsecret_key = {value}", {"X": ""}).secret_keys[0].value == value.removeprefix("$__env{X}")
