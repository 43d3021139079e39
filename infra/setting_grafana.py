"""Where the functions find Grafana's own configuration: the S3 object among the ways, and how much of an environment fits."""

from __future__ import annotations

import json
from collections.abc import Mapping

from infra.setting_types import Strict, setting

# Lambda takes 4 KB of environment variables in all; the rest of ours needs less than the half of it.
# https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
_ENVIRONMENT_BYTES = 2048


class IniObject(Strict):
    """`[grafana_ini_object]`: an existing S3 object that holds grafana.ini's text."""

    bucket: str = setting(..., "the name of an existing S3 bucket", pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")
    key: str = setting(..., 'the key of an existing object, without * and ?, such as "grafana/grafana.ini"', pattern=r"^[^*?$\s][^*?$]{0,1023}$")
    version: str | None = setting(None, "the ID of a version of it; without one, the current version", pattern=r"^[A-Za-z0-9._-]{1,1024}$")


def fits(references: Mapping[str, str]) -> bool:
    """Whether `[grafana_environment]` has room in a function's environment."""
    return len(json.dumps(dict(references))) <= _ENVIRONMENT_BYTES
