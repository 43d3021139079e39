"""The secrets manager's configuration: `[secrets_manager]` and its `[secrets_manager.encryption.<id>]` sections, one for each provider.

A section that cannot be used ends no run that does not need it: it becomes a warning, or the `problem` of the whole where it is the current provider's.
Provider ids are taken as they stand. A section's keys are its own: none is looked up in a parent, and no `%(name)s` is substituted in them.
Source: Grafana pkg/setting/setting_secrets_manager.go, pkg/registry/apis/secret/encryption/kmsproviders, conf/defaults.ini (12.4).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from reencrypt.errors import ConfigurationError
from reencrypt.grafana.data_keys import MAXIMUM_PROVIDER_LENGTH
from reencrypt.grafana.durations import parse_duration
from reencrypt.grafana.environment import Environment, variable
from reencrypt.grafana.ini import Ini, shown
from reencrypt.grafana.provider_settings import DEFAULT_SECRET_KEY, KmsSection, SecretKeyCandidate, kms_section, old_secret_keys

SECTION = "secrets_manager"
SECTIONS = f"{SECTION}.encryption"
DEFAULT_PROVIDER = "secret_key.v1"
_TTL = "data_keys_cache_ttl"
_DEFAULT_CACHE_TTL = timedelta(minutes=15)

# conf/defaults.ini of 12.4, the keys that are read here. This secret_key is a literal of its own, not [security]'s.
DEFAULTS: dict[str, dict[str, str]] = {
    SECTION: {"encryption_provider": DEFAULT_PROVIDER, _TTL: "15m"},
    f"{SECTIONS}.{DEFAULT_PROVIDER}": {"secret_key": DEFAULT_SECRET_KEY},
}


def _default_keys() -> Mapping[str, SecretKeyCandidate]:
    return {DEFAULT_PROVIDER: SecretKeyCandidate(DEFAULT_SECRET_KEY, f"[{SECTIONS}.{DEFAULT_PROVIDER}] secret_key")}


@dataclass(frozen=True)
class ManagerSettings:
    """What a run needs of the secrets manager's configuration; as it is made without arguments, Grafana's defaults.

    The mappings are by provider id. `problem` says why new secrets cannot be encrypted with this configuration, or is None: whoever needs to must raise it.
    """

    encryption_provider: str = DEFAULT_PROVIDER
    secret_keys: Mapping[str, SecretKeyCandidate] = field(default_factory=_default_keys)
    old_secret_keys: Mapping[str, SecretKeyCandidate] = field(default_factory=dict)
    kms: Mapping[str, KmsSection] = field(default_factory=dict)
    data_keys_cache_ttl: timedelta = _DEFAULT_CACHE_TTL
    problem: str | None = None

    @property
    def on_public_default(self) -> tuple[str, ...]:
        """The providers whose secret_key is Grafana's public default: whoever has the database has their secrets."""
        return tuple(provider for provider, key in self.secret_keys.items() if key.value == DEFAULT_SECRET_KEY)


def read(settings: Ini, given: Ini, variables: Environment, warnings: list[str]) -> ManagerSettings:
    """From `settings` (the file over the defaults, DEFAULTS among them) and the file as it is `given`. Raises nothing: see `ManagerSettings.problem`."""
    found = _Sections(settings, given, variables, warnings)
    provider, problem = DEFAULT_PROVIDER, None
    try:
        provider = settings.text(SECTION, "encryption_provider")
        problem = _problem_of(provider, found)
    except ConfigurationError as error:
        problem = str(error)
    ttl, warning = _cache_ttl(settings)
    warnings += [text for text in (*found.problems.values(), warning) if text and text != problem]
    return ManagerSettings(provider, found.secret_keys, found.old_secret_keys, found.kms, ttl, problem)


class _Sections:
    """Every `[secrets_manager.encryption.<id>]`, by id, and what is wrong with those that cannot be used."""

    def __init__(self, settings: Ini, given: Ini, variables: Environment, warnings: list[str]) -> None:
        self._settings, self._given, self._variables, self._warnings = settings, given, variables, warnings
        self.secret_keys: dict[str, SecretKeyCandidate] = {}
        self.old_secret_keys: dict[str, SecretKeyCandidate] = {}
        self.kms: dict[str, KmsSection] = {}
        self.problems: dict[str, str] = {}
        for section in settings.sections():
            provider = section.removeprefix(f"{SECTIONS}.")
            if provider and provider != section:
                try:
                    self._add(section, provider)
                except ConfigurationError as error:
                    self.problems[provider] = str(error)

    def _add(self, section: str, provider: str) -> None:
        if provider.startswith("secret_key"):
            self._add_secret_key(section, provider)
        elif provider.startswith("aws_kms.") and provider != "aws_kms.":
            self.kms[provider], ignored = kms_section(self._own, self._variables, SECTIONS, provider)
            self._warnings += ignored
        else:
            raise ConfigurationError(
                f"[{shown(section)}] is of no kind that this product knows (secret_key.<name>, aws_kms.<name>): data keys of that provider are unreadable"
            )

    def _add_secret_key(self, section: str, provider: str) -> None:
        # The old key first: where the new one is missing, it is still known.
        old, warnings = old_secret_keys(self._given, self._variables, section)
        self._warnings += warnings
        if old:
            self.old_secret_keys[provider] = old[0]
        value = self._own(section, "secret_key")
        if not value:
            raise ConfigurationError(f"[{section}] secret_key is missing; Grafana does not start without it")
        name = variable(section, "secret_key")
        self.secret_keys[provider] = SecretKeyCandidate(value, name if self._variables.is_set(name) else f"[{section}] secret_key")

    def _own(self, section: str, key: str) -> str | None:
        return self._settings.raw(section, key) if self._settings.owner(section, key) == section else None


def _problem_of(provider: str, found: _Sections) -> str | None:
    """Why `provider` cannot encrypt; None where it can."""
    setting = f"[{SECTION}] encryption_provider"
    if provider in found.problems:
        return found.problems[provider]
    if provider not in found.secret_keys and provider not in found.kms:
        return f"{setting} is {shown(provider)}, but there is no section [{SECTIONS}.{shown(provider)}]"
    if provider in found.kms and not found.kms[provider].key_id:
        return f"{found.kms[provider].title} key_id is missing: the id, ARN or alias of the KMS key"
    if len(provider) > MAXIMUM_PROVIDER_LENGTH:
        return f"{setting} = {shown(provider)} is longer than the {MAXIMUM_PROVIDER_LENGTH} characters that secret_data_key.provider holds"
    return None


def _cache_ttl(settings: Ini) -> tuple[timedelta, str | None]:
    """Unlike `[security.encryption]`'s this one is read without a helper, so that expanders are applied to a variable too."""
    try:
        ttl = parse_duration(settings.text(SECTION, _TTL))
    except ConfigurationError as error:
        return _DEFAULT_CACHE_TTL, f"{error}; this run takes 15m"
    if ttl is None:
        return _DEFAULT_CACHE_TTL, f"[{SECTION}] {_TTL} is no duration such as 15m; Grafana takes 15m then, and so does this run"
    return max(ttl, timedelta(0)), None
