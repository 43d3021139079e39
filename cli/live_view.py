"""How a run that is going on is shown: on a terminal a picture that is drawn anew, elsewhere one line for each change and no control characters."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from cli.progress import PassProgress, Snapshot
from cli.screen import COUNTS, counts_table

_BAR_WIDTH = 30
_LINES_BESIDE_THE_TABLE = 14

Show = Callable[[Snapshot], None]


@contextlib.contextmanager
def live_view(console: Console, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> Iterator[Show]:
    """Gives a function that shows a snapshot."""
    if not console.is_terminal:
        yield _Lines(console, now).show
        return
    latest: Snapshot | None = None
    spinner = Spinner("dots")

    def picture() -> RenderableType:
        return Text("") if latest is None else _picture(latest, now(), spinner, max(3, console.height - _LINES_BESIDE_THE_TABLE))

    def show(snapshot: Snapshot) -> None:
        nonlocal latest
        latest = snapshot

    # Drawn anew by itself, so that a countdown counts between two rounds.
    with Live(get_renderable=picture, console=console, transient=True, refresh_per_second=4):
        yield show


def headline(snapshot: Snapshot) -> str:
    """The run in one line, as far as it is known."""
    facts, plan = snapshot.facts, snapshot.plan
    parts = [f"run {snapshot.run}", f"{snapshot.mode} → {facts['provider']}" if facts.get("provider") else snapshot.mode]
    parts += [str(facts["engine"])] if facts.get("engine") else []
    parts += [f"{plan['rows']:,} rows in {plan['chunks']:,} chunks"] if plan else []
    return "  ".join(parts)


def counted(snapshot: Snapshot) -> str:
    """The values so far by outcome; of the outcomes those that occur, and unreadable ones always. Empty before there are any."""
    values = sum(snapshot.counts.values())
    if not values:
        return ""
    shown = [f"{COUNTS[name]} {count:,}" for name, count in snapshot.counts.items() if name in COUNTS and (count or name == "unreadable")]
    return f"{values:,} values so far: {', '.join(shown)}"


def spent(cost: float | None) -> str:
    """USD so far, in words; empty where it is not known."""
    return "" if cost is None else f"about USD {cost:.3f} so far" if cost >= 0.001 else "less than USD 0.001 so far"


def span(seconds: float) -> str:
    """`41 s`, `14:52`, `2:03:05`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"


def pace(found: PassProgress) -> str:
    """`612 values/s, 1:05 left in this pass`, as far as it is known."""
    rate = f"{found.values_per_second:,.0f} values/s" if found.values_per_second else ""
    eta = f"{span(found.eta)} left in this pass" if found.eta is not None else ""
    return ", ".join(filter(None, (rate, eta)))


class _Lines:
    """One line for a state that begins, and for each whole percent of a pass."""

    def __init__(self, console: Console, now: Callable[[], datetime]) -> None:
        self._console, self._now, self._named = console, now, False
        self._shown: dict[str, int] = {}

    def show(self, snapshot: Snapshot) -> None:
        if not self._named and snapshot.plan:
            self._named = True
            self._say(headline(snapshot))
        for state in snapshot.entered:
            self._say(state)
        if snapshot.entered and snapshot.wait_ends is not None:
            self._say(f"  waiting for Grafana's data key caches until {snapshot.wait_ends:%H:%M:%S} UTC")
        for found in snapshot.passes:
            percent = 100 * found.done // found.total if found.total else 0
            if found.done and self._shown.get(found.map_run) != percent:
                self._shown[found.map_run] = percent
                parts = (f"{found.title}: {found.done:,}/{found.total:,} chunks", pace(found), counted(snapshot), spent(snapshot.cost))
                self._say("  " + " · ".join(filter(None, parts)))

    def _say(self, text: str) -> None:
        self._console.print(Text(f"{self._now():%H:%M:%S}  {text}"))


def _picture(snapshot: Snapshot, now: datetime, spinner: Spinner, rows: int) -> RenderableType:
    spinner.update(text=Text(f" {snapshot.state or 'starting'}{_waiting(snapshot, now)}"))
    parts: list[RenderableType] = [Text(headline(snapshot), style="bold"), spinner]
    if snapshot.passes:
        parts.append(_bars(snapshot))
    if snapshot.counts and sum(snapshot.counts.values()):
        parts.append(counts_table(_as_report(snapshot, rows)))
    elapsed = span((now - snapshot.started).total_seconds())
    parts.append(Text(" · ".join(filter(None, (counted(snapshot), elapsed, spent(snapshot.cost)))), style="dim"))
    return Group(*parts)


def _waiting(snapshot: Snapshot, now: datetime) -> str:
    if snapshot.wait_ends is None:
        return ""
    return f": waiting for Grafana's data key caches, {span(max(timedelta(), snapshot.wait_ends - now).total_seconds())} left"


def _bars(snapshot: Snapshot) -> Table:
    table = Table.grid(padding=(0, 2))
    for found in snapshot.passes:
        bar = ProgressBar(total=found.total or None, completed=found.done, width=_BAR_WIDTH, pulse=not found.total and not found.ended)
        table.add_row(f"  {found.title}", bar, f"{found.done:,} / {found.total:,}", "" if found.ended else pace(found))
    return table


def _as_report(snapshot: Snapshot, rows: int) -> Mapping[str, Any]:
    """The counts so far in the form of a report's, for its table: the `rows` columns with the most values."""
    merged: dict[tuple[str, str], dict[str, int]] = {}
    for column_id, counts in snapshot.columns.items():
        table, _, rest = column_id.partition(".")
        entry = merged.setdefault((table, rest.partition("/")[0]), dict.fromkeys(COUNTS, 0))
        for name, count in counts.items():
            entry[name] += count
            entry["values"] += count
    largest = sorted(merged.items(), key=lambda item: -item[1]["values"])[:rows]
    totals = {"values": sum(snapshot.counts.values()), **snapshot.counts}
    columns = [{"table": table, "column": column, "present": True, **counts} for (table, column), counts in sorted(largest)]
    return {"mode": snapshot.mode, "totals": totals, "columns": columns}
