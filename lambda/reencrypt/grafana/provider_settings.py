"""What both of Grafana's secret stores configure alike: a `secret_key`, the one before it, and the sections of KMS keys.

Source: Grafana pkg/setting/setting.go, setting_secrets_manager.go, conf/defaults.ini (12.4). `old_secret_key` is this product's own: Grafana ignores it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from reencrypt.errors import ConfigurationError
from reencrypt.grafana.environment import Environment, has_expander, variable
from reencrypt.grafana.ini import Ini

# Grafana's public default, in every installation that has not set its own: [security] and [secrets_manager.encryption.secret_key.v1].
DEFAULT_SECRET_KEY = "SW2YcwTIb9zpOOhoPsMm"  # noqa: S105  (conf/defaults.ini)
OLD_SECRET_KEY = "old_secret_key"  # noqa: S105  (a setting's name)
GRAFANA_SECTIONS = "security.encryption"
_KMS_KEYS = ("key_id", "region", "access_key_id", "secret_access_key", "session_token")

ReadKey = Callable[[str, str], str | None]
"""(section, key) -> its effective value, or None."""


@dataclass(frozen=True)
class KmsSection:
    """A section of one KMS key; `provider` is its id: `awskms.<name>`, or `aws_kms.<name>` where `sections` is the secrets manager's."""

    provider: str
    key_id: str
    region: str | None = None
    access_key_id: str | None = field(default=None, repr=False)
    secret_access_key: str | None = field(default=None, repr=False)
    session_token: str | None = field(default=None, repr=False)
    sections: str = GRAFANA_SECTIONS

    @property
    def title(self) -> str:
        """The section as it stands in grafana.ini."""
        return f"[{self.sections}.{self.provider}]"


@dataclass(frozen=True)
class SecretKeyCandidate:
    """A text that may be the effective `secret_key`; `source` says where it comes from."""

    value: str = field(repr=False)
    source: str


def kms_section(read: ReadKey, variables: Environment, sections: str, provider: str) -> tuple[KmsSection, list[str]]:
    """The section `[<sections>.<provider>]`, and what to warn about. Raises ConfigurationError."""
    section = f"{sections}.{provider}"
    values = {key: read(section, key) for key in _KMS_KEYS}
    ignored = [
        f"{variable(section, key)} is ignored, as Grafana ignores it: [{section}] has no {key} for it to override; give it some value there"
        for key, value in values.items()
        if value is None and variables.is_set(variable(section, key))
    ]
    given = {key: value or None for key, value in values.items()}
    return KmsSection(provider, given.pop("key_id") or "", **given, sections=sections), ignored


def old_secret_keys(given: Ini, variables: Environment, section: str) -> tuple[tuple[SecretKeyCandidate, ...], list[str]]:
    """The secret_key that Grafana used until now, as `section` of the file `given` or a variable has it, and what to warn about.

    Where an expander stands, a second candidate is that text itself, under which Grafana 12.3 and 12.4 may have encrypted (`settings.py` explains
    that trap). Unlike with Grafana's own keys, the variable needs no key in the file. Raises ConfigurationError.
    """
    name = variable(section, OLD_SECRET_KEY)
    variables_value = variables.get(name)
    stands = given.owner(section, OLD_SECRET_KEY) == section
    written = variables_value or (given.raw(section, OLD_SECRET_KEY) if stands else None)
    if not written:
        return (), []
    source = name if variables_value else f"[{section}] {OLD_SECRET_KEY}"
    if not has_expander(written):
        return (SecretKeyCandidate(written, source),), []
    literally = SecretKeyCandidate(written, f"{source}, literally")
    try:
        expanded = variables.expand(written, f"[{section}] {OLD_SECRET_KEY}")
    except ConfigurationError as error:
        return (literally,), [f"{source} is only tried literally: {error}"]
    return (SecretKeyCandidate(expanded, f"{source}, expanded"), literally) if expanded else (literally,), []
