"""What people see of a rehearsal: steps with their times, a progress bar on a terminal (plain lines elsewhere), tables of counts, the outcome."""

from __future__ import annotations

import contextlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from cli.deployment import Progress as RunProgress
from cli.deployment import RunResult
from reencrypt.operations import reasons

# report.json's counts, and what the table calls them: the six outcomes of a value add up to the first.
COUNTS = {
    "values": "values",
    "re_encrypted": "re-encrypted",
    "already_current": "current",
    "empty": "empty",
    "changed_by_grafana": "changed",
    "plaintext": "plaintext",
    "unreadable": "unreadable",
}
OUTCOME_STYLES = {"succeeded": "bold green", "succeeded-with-unreadable": "bold yellow"}
_UNREADABLE_SHOWN = 10
_MODES_ABOUT_KMS_KEYS = frozenset({"rewrap-data-keys", "rollback", "prune-data-keys"})
_WIDTH_OF_FILES = 160  # a table in a log file need not fit 80 columns


class Screen:
    """Prints to standard output; errors to standard error. `console` is for tests."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False, soft_wrap=True)
        if console is None and not self.console.is_terminal:
            self.console.width = _WIDTH_OF_FILES
        self._errors = console or Console(stderr=True, highlight=False, soft_wrap=True)

    def note(self, text: str) -> None:
        self.console.print(Text(text, style="dim"))

    def error(self, text: str) -> None:
        self._errors.print(Text.assemble(("error: ", "bold red"), text))

    @contextlib.contextmanager
    def steps(self) -> Iterator[Callable[[str], None]]:
        """Gives a function that names the step that now begins ("": none), and prints each step's seconds when it has ended."""
        current, started = "", time.monotonic()
        with self._bar() as bar:
            shown = bar.add_task("", total=None, visible=False)

            def step(name: str) -> None:
                nonlocal current, started
                if current:
                    bar.console.print(Text(f"{time.monotonic() - started:6.1f} s  {current}", style="dim"))
                current, started = name, time.monotonic()
                bar.update(shown, description=name, visible=bool(name) and bar.console.is_terminal)
                if not name:
                    bar.stop()

            yield step

    @contextlib.contextmanager
    def run(self, title: str) -> Iterator[Callable[[RunProgress], None]]:
        """Gives a function that shows how far the run is: a bar on a terminal, else a line for each new state."""
        with self._bar() as bar:
            shown = bar.add_task(title, total=None)
            last = ""

            def on_progress(progress: RunProgress) -> None:
                nonlocal last
                if bar.console.is_terminal:
                    bar.update(shown, description=f"{title}: {progress.state}", completed=progress.done, total=progress.total or None)
                elif progress.state != last:
                    bar.console.print(f"          {title}: {progress.state}", markup=False)
                last = progress.state

            yield on_progress

    def result(self, result: RunResult, html: Path | None) -> None:
        """One run: the outcome, bad news, and a table of counts per column."""
        report = result.report
        self.console.print()
        self.console.print(Text.assemble((f"{result.mode}: ", "bold"), _outcome(result), f"  ({result.seconds:.1f} s)"))
        if report is None:
            return
        if error := report.get("error"):
            self.console.print(Text(f"  {error['name']}: {error['message']}", style="red"))
        for place in report["unreadable"][:_UNREADABLE_SHOWN]:
            self.console.print(Text(f"  unreadable: {_place(place)}: {place['reason']}", style="yellow"))
        if (more := len(report["unreadable"]) - _UNREADABLE_SHOWN) > 0:
            self.console.print(Text(f"  and {more} more unreadable values, listed in the report", style="yellow"))
        if report["totals"].get("values"):
            self.console.print(counts_table(report))
        for text, style in key_lines(report):
            self.console.print(Text(f"  {text}", style=style))
        for text in [*report.get("notes", ()), *report.get("next_steps", ())]:
            self.console.print(Text(f"  {text}"))
        if report.get("next_input") is not None:
            self.console.print(Text(f"    {json.dumps(report['next_input'])}", style="bold"))
        if html is not None:
            self.note(f"  {html}")

    def summary(self, results: Sequence[RunResult], pages: Sequence[Path]) -> None:
        """The end: the outcome of each run, failed ones first, and the path of the page to look at."""
        self.console.print()
        for result, page in sorted(zip(results, pages, strict=True), key=lambda pair: pair[0].ended_well):
            self.console.print(Text.assemble(_outcome(result), f" · {result.mode} · {result.seconds:.1f} s", f" · {page}" if page.exists() else ""))

    def _bar(self) -> Progress:
        return Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )


def key_lines(report: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What the run says about keys: (line, style). Bad news first: columns that nobody knows, and data keys that could not be wrapped anew."""
    for place in report.get("unknown_ciphertext") or ():
        keys = ", ".join(f"{key}: {count:,}" for key, count in place["data_keys"].items())
        yield f"unknown ciphertext: {place['table']}.{place['column']} ({keys})", "yellow"
    rewrapped, removed = report.get("rewrapped"), report.get("removed")
    for failed in rewrapped["failed"] if rewrapped else ():
        yield f"data key {failed['id']} was not wrapped anew: {failed['why']}", "red"
    if rewrapped:
        ways = ", ".join(f"{number:,} by {way}" for way, number in rewrapped["rewrapped"].items()) or "none"
        yield f"data keys wrapped anew: {ways}; as they should be already: {rewrapped['left']:,}", ""
    if removed:
        kept = ", ".join(f"{number:,} {why}" for why, number in Counter(entry["why"] for entry in removed["kept"]).items()) or "none"
        yield f"data keys removed: {len(removed['removed']):,}; kept: {kept}", ""
    if report.get("mode") in _MODES_ABOUT_KMS_KEYS:
        for key in report.get("kms_keys") or ():
            yield f"{key['kms_key']}: safe to disable: {'yes' if key['safe_to_disable'] else 'no'}, because {key['because']}", ""


def counts_table(report: Mapping[str, Any]) -> Table:
    """The counts of each column that holds values, and their totals. Of the six outcomes only those that occur."""
    shown = [count for count in COUNTS if count == "values" or report["totals"].get(count)]
    said = reasons.words(str(report.get("mode")), COUNTS)
    table = Table(box=None, pad_edge=True, show_footer=True, header_style="dim")
    table.add_column("column", footer="in all", overflow="fold")
    for count in shown:
        table.add_column(
            said[count].shown if count in said else COUNTS[count],
            footer=f"{report['totals'][count]:,}",
            justify="right",
            no_wrap=True,
            min_width=len(COUNTS[count]),
            style="yellow" if count == "unreadable" else "",
        )
    for column in report["columns"]:
        if column["present"] and column["values"]:
            table.add_row(f"{column['table']}.{column['column']}", *(f"{column[count]:,}" for count in shown))
    return table


def _outcome(result: RunResult) -> Text:
    outcome = str(result.report["outcome"]) if result.report else ""
    style = OUTCOME_STYLES.get(outcome, "bold red") if result.ended_well else "bold red"
    headline = result.headline
    return Text(headline if not outcome or headline.lower().startswith(outcome) else f"{outcome}: {headline}", style=style)


def _place(place: Mapping[str, Any]) -> str:
    key = ", ".join(f"{name} {value}" for name, value in place["primary_key"].items())
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place["path"] or ())
    return f"{place['table']}.{place.get('column', '?')} {key}{f' at {path}' if path else ''}"
