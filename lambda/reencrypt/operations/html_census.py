"""Who is encrypted by what, as two bars: the census of a report, grouped so that hundreds of data keys stay readable.

Grafana creates a data key per day and provider: the chart shows groups (what kind of key, of which provider), the table of data keys shows each.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from reencrypt.grafana.secret_columns import System
from reencrypt.operations.modes import Mode

Census = Mapping[str, int]  # values by the name of the data key, or SECRET_KEY
SECRET_KEY = "secret_key"  # noqa: S105  (the name of the key in a census, not a key)

# From where the values should be to where they must not be: the order of the segments, left to right.
_KINDS = ("current", "other", "inactive", "legacy", "missing")


_THINNEST = 0.6  # percent: nine lost values among twenty thousand are what the reader must see


@dataclass(frozen=True, slots=True)
class Segment:
    """One group in one bar: `start` and `width` in percent of the longer bar. None is too thin to be seen."""

    kind: str
    name: str
    values: int
    start: float
    width: float


@dataclass(frozen=True, slots=True)
class Group:
    """One row of the chart's table; `after` is None where there is but one picture."""

    kind: str
    name: str
    before: int
    after: int | None


@dataclass(frozen=True, slots=True)
class Chart:
    """`bars` are (title, sum of values, segments): one bar where there is but one picture, else two."""

    bars: tuple[tuple[str, int, tuple[Segment, ...]], ...]
    groups: tuple[Group, ...]
    writes: bool


def chart(report: Mapping[str, Any], counts: tuple[Census, Census | None], data_keys: Mapping[str, Mapping[str, Any]]) -> Chart:
    """The chart of `counts` (before; after, None where there is but one picture). `data_keys` are the report's, by name."""
    before, after = ({_group(key, report, data_keys): 0 for key in side or ()} for side in counts)
    for side, sums in zip(counts, (before, after), strict=True):
        for key, values in (side or {}).items():
            sums[_group(key, report, data_keys)] += values
    writes = counts[1] is not None
    order = sorted({*before, *after}, key=lambda group: (_KINDS.index(group[0]), group[1]))
    longest = max(sum(before.values()), sum(after.values()), 1)
    titles = [("Before", before), ("After", after)] if writes else [("Now", before)]
    return Chart(
        bars=tuple((title, sum(side.values()), _segments(order, side, longest)) for title, side in titles),
        groups=tuple(Group(*group, before.get(group, 0), after.get(group, 0) if writes else None) for group in order),
        writes=writes,
    )


def _group(key: str, report: Mapping[str, Any], data_keys: Mapping[str, Mapping[str, Any]]) -> tuple[str, str]:
    back = report.get("mode") == Mode.ROLLBACK  # there, directly under secret_key is where the values should be
    if key == SECRET_KEY:
        return "current" if back else "legacy", "secret_key directly, no data key"
    row = data_keys.get(key)
    if row is None:
        return "missing", "data keys missing from data_keys"
    provider = str(row.get("provider") or "an unnamed provider")
    if row.get("system") == System.MANAGER:
        provider += " in the secrets manager"
    if not row.get("active"):
        return "inactive", f"{provider}, inactive data keys"
    if not back and (key == report.get("data_key") or provider == report.get("provider")):
        return "current", f"{provider}, active data keys"
    return "other", f"{provider}, active data keys"


def _segments(order: list[tuple[str, str]], side: Mapping[tuple[str, str], int], longest: int) -> tuple[Segment, ...]:
    shown = [(kind, name, side[kind, name]) for kind, name in order if side.get((kind, name))]
    widths = [max(100 * values / longest, _THINNEST) for _, _, values in shown]
    shrink = 100 * sum(values for _, _, values in shown) / longest / sum(widths) if shown else 1.0
    starts = accumulate((width * shrink for width in widths), initial=0.0)
    return tuple(Segment(*group, round(start, 3), round(width * shrink, 3)) for group, start, width in zip(shown, starts, widths, strict=False))
