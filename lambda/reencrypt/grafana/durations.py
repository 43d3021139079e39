"""Go's durations, as grafana.ini writes them: `15m`, `1h30m`, `1.5h`, `0`. Source: Go time.ParseDuration."""

from __future__ import annotations

import re
from datetime import timedelta

_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}  # U+00B5 and U+03BC
_PART = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)")
_MAXIMUM_SECONDS = 2**63 / 1e9  # an int64 of nanoseconds
_MAXIMUM_LENGTH = 100


def parse_duration(text: str) -> timedelta | None:
    """The duration, to the microsecond; None where Go would report an error."""
    unsigned = text[1:] if text.startswith(("+", "-")) else text
    if unsigned == "0":
        return timedelta(0)
    parts = _PART.findall(unsigned[: _MAXIMUM_LENGTH + 1])
    if not parts or "".join(number + unit for number, unit in parts) != unsigned:
        return None
    seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    if seconds >= _MAXIMUM_SECONDS:
        return None
    return timedelta(seconds=-seconds if text.startswith("-") else seconds)
