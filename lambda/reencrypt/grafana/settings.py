"""Grafana's configuration, as far as its secrets and its database need it: `grafana.ini` and the environment, in Grafana's order.

Later wins: defaults, the file (a key that is present but empty does not reset a default), `GF_…` variables (for keys that exist), expanders.
Only what is read here is expanded: the file of `[smtp] password = $__file{…}` need not exist for us.
Source: Grafana pkg/setting/setting.go, conf/defaults.ini, pkg/services/secrets/manager/manager.go (12.4).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from reencrypt.errors import ConfigurationError
from reencrypt.grafana import database_settings, manager_settings, provider_settings
from reencrypt.grafana.data_keys import MAXIMUM_PROVIDER_LENGTH, SECRET_KEY_PROVIDER, normalise_provider
from reencrypt.grafana.database_settings import DatabaseSettings
from reencrypt.grafana.durations import parse_duration
from reencrypt.grafana.environment import Environment, ReadFile, has_expander, variable
from reencrypt.grafana.ini import Ini, parse, shown
from reencrypt.grafana.manager_settings import ManagerSettings
from reencrypt.grafana.provider_settings import DEFAULT_SECRET_KEY, KmsSection, SecretKeyCandidate

__all__ = ["DEFAULT_SECRET_KEY", "DatabaseSettings", "GrafanaSettings", "KmsSection", "ManagerSettings", "SecretKeyCandidate", "load_settings"]

_ENCRYPTION = provider_settings.GRAFANA_SECTIONS
_NO_ENVIRONMENT: Mapping[str, str] = {}

# conf/defaults.ini of 12.4, the keys that are read here.
_DEFAULTS: dict[str, dict[str, str]] = {
    "paths": {"data": "data"},
    "database": {
        "type": "sqlite3", "host": "127.0.0.1:3306", "name": "grafana", "user": "root", "password": "", "url": "", "ssl_mode": "disable",
        "ca_cert_path": "", "client_key_path": "", "client_cert_path": "", "server_cert_name": "", "path": "grafana.db",
    },
    "security": {"secret_key": DEFAULT_SECRET_KEY, "encryption_provider": SECRET_KEY_PROVIDER, "available_encryption_providers": ""},
    _ENCRYPTION: {"data_keys_cache_ttl": "15m"},
    **manager_settings.DEFAULTS,
}  # fmt: skip
_DEFAULT_ALGORITHM = "aes-cfb"  # not in defaults.ini, so that `algorithm` of the parent [security] applies too
_DEFAULT_CACHE_TTL = timedelta(minutes=15)


@dataclass(frozen=True)
class GrafanaSettings:
    """What a run needs of Grafana's configuration. `secret_keys` has two candidates only in the trap that `_secret_keys` explains.

    `old_secret_key` is the one that Grafana used until now, of [security] too, which only this product reads. Where it is written with an expander,
    `old_secret_key_literally` is that text itself: who fell into that trap encrypted under it.
    """

    secret_keys: tuple[SecretKeyCandidate, ...]
    encryption_provider: str
    available_encryption_providers: tuple[str, ...]
    kms: Mapping[str, KmsSection]
    database: DatabaseSettings
    data_keys_cache_ttl: timedelta
    algorithm: str
    warnings: tuple[str, ...]
    old_secret_key: SecretKeyCandidate | None = None
    old_secret_key_literally: SecretKeyCandidate | None = None
    manager: ManagerSettings = field(default_factory=ManagerSettings)

    @property
    def old_secret_keys(self) -> tuple[SecretKeyCandidate, ...]:
        """What may be the old `secret_key`; the samples tell which it is."""
        return tuple(key for key in (self.old_secret_key, self.old_secret_key_literally) if key is not None)


def load_settings(
    ini: str,
    environment: Mapping[str, str] = _NO_ENVIRONMENT,
    *,
    read_file: ReadFile = lambda path: Path(path).read_text(encoding="utf-8"),
    hostname: str = "",
) -> GrafanaSettings:
    """The settings of the grafana.ini text `ini` under the `GF_…` (and other) variables in the `environment` of the Grafana process.

    Raises InvalidIni and ConfigurationError, naming the line or the setting, never a value that could be a secret.
    """
    variables = Environment(environment, read_file, hostname)
    given = parse(ini)
    settings = _over_defaults(given, variables)
    warnings: list[str] = []
    kms = _kms_sections(settings, given, variables, warnings)
    provider = _encryption_provider(settings, variables, warnings)
    _check_provider(provider, kms)
    old, old_warnings = provider_settings.old_secret_keys(given, variables, "security")
    warnings += old_warnings
    data_path_given = given.raw("paths", "data") or variables.get(variable("paths", "data"))
    return GrafanaSettings(
        secret_keys=_secret_keys(settings, variables, warnings),
        encryption_provider=provider,
        available_encryption_providers=tuple(map(normalise_provider, settings.text("security", "available_encryption_providers").split())),
        kms=kms,
        database=database_settings.read(settings, settings.text("paths", "data") if data_path_given else None),
        data_keys_cache_ttl=_cache_ttl(settings, variables, warnings),
        algorithm=variables.get(variable(_ENCRYPTION, "algorithm")) or settings.text(_ENCRYPTION, "algorithm") or _DEFAULT_ALGORITHM,
        old_secret_key=old[0] if old else None,
        old_secret_key_literally=old[1] if len(old) > 1 else None,
        manager=manager_settings.read(settings, given, variables, warnings),
        warnings=tuple(warnings),
    )


def _over_defaults(given: Ini, variables: Environment) -> Ini:
    """Defaults and file in one; variables and expanders are applied to a key when it is read."""
    merged = Ini(on_read=variables.effective)
    for section, keys in _DEFAULTS.items():
        for key, value in keys.items():
            merged.set(section, key, value)
    for section in given.sections():
        merged.add_section(section)
    for section, key, value in given.items():
        merged.merge(section, key, value)
    return merged


def _secret_keys(settings: Ini, variables: Environment, warnings: list[str]) -> tuple[SecretKeyCandidate, ...]:
    """12.3 and 12.4 read secret_key through a helper that applies the raw environment value again, after expansion.

    So with GF_SECURITY_SECRET_KEY='$__file{…}' the effective key is that literal text (proven by a run of 12.4.0); 9.4 took the file's content.
    """
    name = variable("security", "secret_key")
    literal = variables.get(name)
    if not literal or not has_expander(literal):
        return (SecretKeyCandidate(settings.raw("security", "secret_key") or "", name if literal else "[security] secret_key"),)
    warnings.append(
        f"{name} holds an expander: Grafana 12.3 and 12.4 encrypt under that text itself, which anyone can guess. Put the key there instead, "
        "in Grafana and here, and re-encrypt"
    )
    candidates = [SecretKeyCandidate(literal, f"{name}, literally")]
    try:
        expanded = settings.raw("security", "secret_key")
    except ConfigurationError as error:  # a file that only Grafana's machine has: the literal text may still be the key
        warnings.append(f"{name} is only tried literally: {error}")
        expanded = None
    if expanded and expanded != literal:
        candidates.append(SecretKeyCandidate(expanded, f"{name}, expanded"))
    return tuple(candidates)


def _encryption_provider(settings: Ini, variables: Environment, warnings: list[str]) -> str:
    name = variable("security", "encryption_provider")
    if has_expander(variables.get(name)):
        warnings.append(f"{name} holds an expander, which Grafana 12.3 and 12.4 do not expand there: put the provider's id into it")
    return normalise_provider(settings.raw("security", "encryption_provider") or SECRET_KEY_PROVIDER)


def _kms_sections(settings: Ini, given: Ini, variables: Environment, warnings: list[str]) -> dict[str, KmsSection]:
    found = {}
    for section in given.sections():
        if not section.startswith(f"{_ENCRYPTION}."):
            continue
        provider = section.removeprefix(f"{_ENCRYPTION}.")
        kind, _, name = provider.partition(".")
        if kind != "awskms" or not name:
            warnings.append(f"[{section}] is of no kind that this product knows (awskms.<name>): data keys of that provider are unreadable")
            continue
        found[provider], ignored = provider_settings.kms_section(settings.raw, variables, _ENCRYPTION, provider)
        warnings += ignored
    return found


def _check_provider(provider: str, kms: Mapping[str, KmsSection]) -> None:
    """Raises ConfigurationError where `encryption_provider` cannot work."""
    if provider == SECRET_KEY_PROVIDER:
        return
    kind, _, name = provider.partition(".")
    if not name:
        raise ConfigurationError(f"[security] encryption_provider = {shown(provider)} is no <kind>.<name>, such as awskms.example")
    if kind != "awskms":
        raise ConfigurationError(f"[security] encryption_provider = {shown(provider)}: this product knows {SECRET_KEY_PROVIDER} and awskms.<name>")
    if provider not in kms:
        raise ConfigurationError(f"[security] encryption_provider is {shown(provider)}, but there is no section [{_ENCRYPTION}.{shown(provider)}]")
    if not kms[provider].key_id:
        raise ConfigurationError(f"[{_ENCRYPTION}.{provider}] key_id is missing: the id, ARN or alias of the KMS key")
    if len(provider) > MAXIMUM_PROVIDER_LENGTH:
        raise ConfigurationError(
            f"[security] encryption_provider = {provider} is longer than the {MAXIMUM_PROVIDER_LENGTH} characters that data_keys.provider holds"
        )


def _cache_ttl(settings: Ini, variables: Environment, warnings: list[str]) -> timedelta:
    """Read by the same helper as secret_key: a variable counts as it stands, with no expander applied."""
    key = "data_keys_cache_ttl"
    ttl = parse_duration(variables.get(variable(_ENCRYPTION, key)) or settings.text(_ENCRYPTION, key))
    if ttl is None:
        warnings.append(f"[{_ENCRYPTION}] {key} is no duration such as 15m; Grafana takes 15m then, and so does this run")
        return _DEFAULT_CACHE_TTL
    return max(ttl, timedelta(0))
