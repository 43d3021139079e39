"""Grafana's environment overrides and expanders: `GF_<SECTION>_<KEY>`, `GF_…__FILE`, `${NAME}`, `$__env{NAME}`, `$__file{/path}`.

Everything is looked up only when a setting is read: a worker has none of the files that Grafana's other settings name, and needs none of them.
Source: Grafana pkg/setting/setting.go (EnvKey), expanders.go; packaging/docker/run.sh for `__FILE`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from reencrypt.errors import ConfigurationError
from reencrypt.grafana.ini import SPACE

ReadFile = Callable[[str], str]

_EXPANDER = re.compile(r"\$(|__\w+)\{([^}]+)\}", re.ASCII)
_FILE_SUFFIX = "__FILE"


def variable(section: str, key: str) -> str:
    """The name of the variable that overrides `key` of `section`: in a section `.` and `-` become `_`, in a key only `.` does."""
    return f"GF_{section.replace('.', '_').replace('-', '_')}_{key.replace('.', '_')}".upper()


def has_expander(value: str) -> bool:
    """Whether `value` holds an expander."""
    return _EXPANDER.search(value, 0, _end_of_expanders(value)) is not None


class Environment:
    """The variables of the Grafana process. `repr` shows none of them."""

    def __init__(self, variables: Mapping[str, str], read_file: ReadFile, hostname: str) -> None:
        self._variables, self._read_file, self._hostname = variables, read_file, hostname

    def __repr__(self) -> str:
        return f"<Environment of {len(self._variables)} variables>"

    def get(self, name: str) -> str:
        """The variable, or the content of the file that `GF_…__FILE` names, without trailing newlines, as the container's start script sets it.

        '' where there is neither. Raises ConfigurationError where there are both, or no such file.
        """
        value = self._variables.get(name, "")
        path = self._variables.get(name + _FILE_SUFFIX, "") if name.startswith("GF_") else ""
        if value and path:
            raise ConfigurationError(f"both {name} and {name}{_FILE_SUFFIX} are set; Grafana's container refuses that: remove one")
        return _utf8(self._read(path, name + _FILE_SUFFIX).rstrip("\n") if path else value, name)

    def is_set(self, name: str) -> bool:
        """Whether there is such a variable, or its `__FILE`; the file need not be readable."""
        return bool(self._variables.get(name) or self._variables.get(name + _FILE_SUFFIX))

    def effective(self, section: str, key: str, value: str) -> str:
        """What Grafana makes of `value` in [section] key: its variable wins, then expanders are applied. Raises ConfigurationError."""
        return self.expand(self.get(variable(section, key)) or value, f"[{section}] {key}")

    def expand(self, value: str, where: str) -> str:
        """`value` with its expanders applied: variables first, then files. `where` names the setting for messages.

        Raises ConfigurationError for `$__vault{}` (Grafana Enterprise asks Vault, this product cannot) and for a file that cannot be read.
        """
        if "$" not in value:
            return value
        return _replaced(lambda found: self._from_file(found, where), _replaced(self._from_variable, value))

    def _from_variable(self, found: re.Match[str]) -> str:
        kind, name = found.groups()
        if kind not in ("", "__env"):
            return found.group(0)
        return self.get(name) or (self._hostname if name == "HOSTNAME" else "")

    def _from_file(self, found: re.Match[str], where: str) -> str:
        kind, path = found.groups()
        if kind == "__vault":
            raise ConfigurationError(
                f"{where} uses $__vault{{}}, which only Grafana Enterprise can expand: put the value itself into the grafana.ini that this product "
                f"reads, or into {_variable_hint(where)}"
            )
        return self._read(path, where).strip(SPACE) if kind == "__file" else found.group(0)

    def _read(self, path: str, where: str) -> str:
        try:
            return _utf8(self._read_file(path), where)
        except (OSError, ValueError):
            # Without the path: people do put the secret itself there.
            raise ConfigurationError(f"{where} names a file that cannot be read here: put its content into the configuration instead") from None


def _replaced(replace: Callable[[re.Match[str]], str], value: str) -> str:
    end = _end_of_expanders(value)
    return _EXPANDER.sub(replace, value[:end]) + value[end:]


def _end_of_expanders(value: str) -> int:
    """Behind the last `}`. The pattern would look for one from each `${` to the end: ten seconds for 60 000 of them."""
    return value.rfind("}") + 1


def _variable_hint(where: str) -> str:
    section, _, key = where.removeprefix("[").rpartition("] ")
    return variable(section, key)


def _utf8(value: str, where: str) -> str:
    """`value`, unless it has lone surrogates (JSON can spell them): no driver and no cipher could encode it."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ConfigurationError(f"{where} is not valid Unicode text") from None
    return value
