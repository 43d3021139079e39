"""When a function stops of its own accord, before Lambda stops it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_MARGIN_SHARE = 0.25
_MARGIN_LIMIT_MILLISECONDS = 60_000


def out_of_time(context: Any) -> Callable[[], bool]:
    """True once a quarter of the time, a minute at most, is left: a page takes seconds."""
    margin = min(context.get_remaining_time_in_millis() * _MARGIN_SHARE, _MARGIN_LIMIT_MILLISECONDS)
    return lambda: context.get_remaining_time_in_millis() < margin
