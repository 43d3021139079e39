"""report.html: the facts of report.json for people, as one self-contained file that loads nothing and runs no script.

Everything in a report may come from the database (table names, JSON paths, labels), so all of it is escaped, and characters that could
hide or reorder text are shown as escapes. Never fails for a missing key: a failed run's report may hold little more than its error.
"""

from __future__ import annotations

import json
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from reencrypt.operations import certificate, html_census, html_keys, reasons
from reencrypt.operations.modes import Mode

MOST_ROWS = 1000  # a page with more rows than that is read by nobody and printed by somebody
_MOST_NOTES = 20  # then they are folded: a hundred columns in no list are a hundred notes

_COUNTS = ("re_encrypted", "already_current", "empty", "changed_by_grafana", "plaintext", "unreadable")
# What the template asks for, so that a report without it shows nothing there instead of failing.
_FACTS = ("run", "engine", "provider", "started", "finished", "seconds", "values_per_second", "estimated_cost_usd", "data_key", "restored_run")
_PLACE = ("table", "column", "primary_key", "path", "reason")
_SWEEP = ("sweep", "values", "moved", "changed_by_grafana")
_WORDS = {name: name.replace("_", " ").replace("re encrypted", "re-encrypted") for name in _COUNTS} | {"changed_by_grafana": "changed by Grafana"}
# In these modes the values name the same keys before and after, so one picture says all.
_SAME_KEYS = frozenset({Mode.REWRAP_DATA_KEYS, Mode.ROTATE_SECRET_KEY})
_HIDING = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})  # controls, bidirectional overrides, lone surrogates, line separators


def render(report: Mapping[str, Any], certified: Mapping[str, Any] | None = None) -> str:
    """The page for `report` (report.json as a mapping), with its certificate as the last page where it has one. The same report gives the same page."""
    view = _view(_visible(report))
    view["certificate"] = None if certified is None else _visible(certified)
    # For the modes that can have one: why this run has none. A run that failed says so everywhere already.
    view["no_certificate"] = certificate.refusal(report) if certified is None and view["outcome"] == "succeeded" and report.get("columns") else None
    if report.get("next_input") is not None:  # for copying: as it is, in pure ASCII
        view["next_input"] = json.dumps(report["next_input"], indent=2)
    return _template().render(view)


@cache
def _template() -> Template:
    environment = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"number": _number, "instant": _instant, "duration": _duration, "usd": _usd}
    environment.filters |= {"place": _place, "key": _primary_key, "explain": reasons.explain, "plural": _plural}
    return environment.get_template("report.html.jinja")


def _view(report: Mapping[str, Any]) -> dict[str, Any]:
    mode = str(report.get("mode") or "run")
    known = reasons.mode_of(mode)
    outcome = str(report.get("outcome") or "failed")
    reads = known is None or known.steps.reads_values
    sums = ("rows", "values", *_COUNTS)
    columns = [{"table": "", "column": ""} | dict.fromkeys(sums, 0) | _without_nulls(column) for column in _rows(report, "columns")]
    totals = {name: sum(column[name] for column in columns) for name in sums} | _without_nulls(report.get("totals") or {})
    census = _census(report, known)
    words = reasons.words(mode, _WORDS)
    unreadable, plaintext = _rows(report, "unreadable"), _rows(report, "plaintext_values")
    anew = report.get("rewrapped") or {}
    return {
        "report": dict.fromkeys(_FACTS) | dict(report),
        "mode": mode,
        "mode_is_for": reasons.MODES[known] if known else None,
        "writes": known is not None and known.writes,
        "outcome": outcome,
        "outcome_means": reasons.explain_run(
            outcome,
            mode,
            stopped=bool(report.get("error")),
            unreadable=totals["unreadable"] > 0,
            left=bool(report.get("left_under_old_keys")),
            keys_left=bool(anew.get("failed") or anew.get("under_other_providers")),
        ),
        "headline": report.get("headline") or f"{outcome}: {_number(totals['values'])} values, {_number(totals['unreadable'])} unreadable",
        "words": {name: word.shown for name, word in words.items()},
        "counts": _COUNTS,
        "count_means": {name: word.said for name, word in words.items()},
        "sweeps": [dict.fromkeys(_SWEEP) | dict(sweep) for sweep in _rows(report, "sweeps")],
        "columns": columns if reads else [],
        "present": [column for column in columns if column.get("present", True)],
        "absent": [column for column in columns if not column.get("present", True)],
        "totals": totals,
        "adds_up": all(row["values"] == sum(row[name] for name in _COUNTS) for row in (*columns, totals)),
        "chart": html_census.chart(report, census, html_keys.by_name(report)),
        "census": (census[0], census[1] or {}),
        **html_keys.view(report, census),
        "unreadable": [dict.fromkeys(_PLACE) | dict(row) for row in unreadable[:MOST_ROWS]],
        "unreadable_more": len(unreadable[MOST_ROWS:]),
        "by_reason": Counter(str(row.get("reason")) for row in unreadable).most_common(),
        "plaintext": [dict.fromkeys(_PLACE) | dict(row) for row in plaintext[:MOST_ROWS]],
        "plaintext_more": len(plaintext[MOST_ROWS:]),
        "notes": _rows(report, "notes")[:_MOST_NOTES],
        "folded_notes": _rows(report, "notes")[_MOST_NOTES:],
        "next_steps": report.get("next_steps") or [],
        "next_input": None,
        "error": {"name": None, "message": None} | dict(report["error"]) if report.get("error") else None,
    }


def _census(report: Mapping[str, Any], mode: Mode | None) -> tuple[Mapping[str, int], Mapping[str, int] | None]:
    """The values by key, before and after; None where there is but one picture to show."""
    census = report.get("census") or {}
    before, after = (dict(census[side]) if census.get(side) is not None else None for side in ("before", "after"))
    if mode in _SAME_KEYS and after is not None:
        return after, None
    return before or {}, after


def _visible(value: Any) -> Any:
    """`value` with every character that could hide or reorder text written as an escape, in all strings and names within."""
    if isinstance(value, str):
        if value.isascii() and value.isprintable():
            return value
        return "".join(f"\\u{ord(c):04x}" if unicodedata.category(c) in _HIDING and c != "\n" else c for c in value)
    if isinstance(value, Mapping):
        return {_visible(name) if isinstance(name, str) else name: _visible(inner) for name, inner in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return [_visible(inner) for inner in value]
    return value


def _rows(report: Mapping[str, Any], name: str) -> list[Any]:
    return list(report.get(name) or [])


def _without_nulls(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if value is not None}


def _number(value: Any) -> str:
    """1 234 567, with spaces that do not break; a dash for None."""
    if value is None:
        return "–"  # noqa: RUF001  (a dash, on purpose)
    return f"{value:,}".replace(",", "\u202f")


def _instant(value: Any) -> str:
    """`2026-11-24 22:10:05 UTC` of an ISO 8601 text with any offset; what is no such text, unchanged."""
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError:
        return str(value)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _duration(seconds: float) -> str:
    """`0.4 s`, `41 s`, `2 min 05 s`, `1 h 02 min`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def _usd(cost: float) -> str:
    """`about USD 0.0021`, `about USD 1.30`; a cost too small to print is said to be one."""
    if cost < 0.0001:
        return "less than USD 0.0001"
    return f"about USD {cost:.4f}" if cost < 0.1 else f"about USD {cost:,.2f}"


def _plural(number: int, word: str) -> str:
    """`1 data key`, `1 234 data keys`."""
    return f"{_number(number)} {word}{'' if number == 1 else 's'}"


def _primary_key(key: Any) -> str:
    """`id = 5`, or `namespace = default, name = x` for a composite one."""
    if isinstance(key, Mapping):
        return ", ".join(f"{name} = {value}" for name, value in key.items())
    return "" if key is None else str(key)


def _place(path: Any) -> str:
    """`receivers[0].secureSettings.password` of a JSON path; names that are not plain words stand in quotes, as in `a["b.c"]`."""
    if path is None:
        return ""
    if isinstance(path, str) or not isinstance(path, Sequence):
        return str(path)
    text = ""
    for step in path:
        if isinstance(step, str) and step.replace("-", "_").isidentifier():
            text += f".{step}" if text else step
        elif isinstance(step, str):
            text += f'["{step}"]'
        else:
            text += f"[{step}]"
    return text
