"""What a person sees of a run on a terminal: bars, counts, pace, countdown and cost, in one screen that is gone when the run has ended."""

from __future__ import annotations

import io
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console

from cli.live_view import headline, live_view, span
from cli.progress import PassProgress, Snapshot

NOW = datetime(2026, 11, 24, 22, 20, tzinfo=UTC)


def passes() -> tuple[PassProgress, ...]:
    first = PassProgress("Process chunks", "process", "map:1", NOW - timedelta(seconds=60), done=4, total=4, ended=True, values=400, seconds=30)
    sweep = PassProgress("Sweep chunks 1", "sweep-1", "map:2", NOW - timedelta(seconds=10), done=1, total=4, values=100, seconds=10)
    return first, sweep


def snapshot(**more: object) -> Snapshot:
    facts = {
        "run": "the-move", "mode": "re-encrypt", "started": NOW - timedelta(seconds=75), "state": "Sweep chunks", "entered": ("Sweep chunks",),
        "passes": passes(), "counts": Counter(re_encrypted=399, unreadable=1), "plan": {"rows": 400, "chunks": 4},
        "columns": {"secrets.value": Counter(re_encrypted=399), "resource.value/a": Counter(unreadable=1)},
        "facts": {"engine": "MySQL 8.0", "provider": "awskms.prod"}, "cost": 0.0021,
    }  # fmt: skip
    return Snapshot(**(facts | more))  # type: ignore[arg-type]  # each key is a field of Snapshot


def shown_on_a_terminal(*snapshots: Snapshot, height: int = 40) -> str:
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=120, height=height, color_system=None, legacy_windows=False)
    with live_view(console, now=lambda: NOW) as show:
        for each in snapshots:
            show(each)
    return text.getvalue()


def test_a_terminal_shows_bars_counts_pace_time_left_and_cost() -> None:
    shown = shown_on_a_terminal(snapshot())
    for words in (
        "run the-move  re-encrypt → awskms.prod  MySQL 8.0  400 rows in 4 chunks", "Sweep chunks 1", "1 / 4", "10 values/s, 30 s left in this pass", "4 / 4",
        "secrets.value", "resource.value", "400 values so far: re-encrypted 399, unreadable 1 · 1:15 · about USD 0.002 so far",
    ):  # fmt: skip
        assert words in shown


def test_a_settle_counts_down() -> None:
    shown = shown_on_a_terminal(snapshot(state="Settle", wait_ends=NOW + timedelta(seconds=892)))
    assert "Settle: waiting for Grafana's data key caches, 14:52 left" in shown
    assert "0 s left" in shown_on_a_terminal(snapshot(state="Settle", wait_ends=NOW - timedelta(seconds=5)))


def test_a_low_screen_shows_the_columns_with_the_most_values() -> None:
    columns = {f"table{number}.value": Counter(re_encrypted=number) for number in range(1, 60)}
    shown = shown_on_a_terminal(snapshot(columns=columns), height=24)
    assert "table59.value" in shown
    assert "table1.value" not in shown
    assert "about USD 0.002 so far" in shown, "nothing has to be scrolled away"


def test_nothing_is_shown_that_is_not_known_yet() -> None:
    shown = shown_on_a_terminal(Snapshot("the-move", "plan", NOW, ""))
    assert "starting" in shown
    assert not any(words in shown for words in ("USD", "values", "left", "None"))


def test_without_a_terminal_there_is_one_line_for_each_change() -> None:
    text = io.StringIO()
    with live_view(Console(file=text, width=200), now=lambda: NOW) as show:
        for each in (snapshot(), snapshot(entered=()), snapshot(entered=())):
            show(each)
    assert len(text.getvalue().splitlines()) == 4, "the run, its state and two passes, each once"
    assert not set(text.getvalue()) & {"\x1b", "\r"}


@pytest.mark.parametrize(("seconds", "words"), [(-3, "0 s"), (0.4, "0 s"), (59, "59 s"), (60, "1:00"), (892, "14:52"), (7385, "2:03:05")])
def test_spans_of_time_are_short(seconds: float, words: str) -> None:
    assert span(seconds) == words


def test_the_first_line_has_only_what_is_known() -> None:
    assert headline(Snapshot("the-move", "plan", NOW, "")) == "run the-move  plan"
