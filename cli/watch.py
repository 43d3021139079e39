"""`grafana-reencrypt watch`: follows a run of a deployed stack until it ends. Watching changes nothing; Ctrl-C leaves the run going."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from time import monotonic, sleep
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import ended
from cli.deployment import RunResult
from cli.exit_codes import ExitCode, of_run
from cli.live_view import live_view, span
from cli.options import AsJson, Profile, Region, Session, StackName
from cli.progress import Follower, interval
from cli.screen import Screen
from cli.stack import Stack

if TYPE_CHECKING:
    from mypy_boto3_stepfunctions.type_defs import DescribeExecutionOutputTypeDef

RunName = Annotated[str | None, typer.Argument(metavar="RUN", help="The run's name, as `start` and `runs` give it; the newest one if there is none.")]


def watch(
    stack_name: StackName,
    run: RunName = None,
    region: Region = None,
    profile: Profile = None,
    as_json: AsJson = False,
) -> None:
    """Follows a run until it ends, and shows what became of it.

    Shows the state, how many chunks of each pass are done, the values by outcome, the pace, the time left in this pass, and the cost so far. Ctrl-C
    ends the watching and nothing else: the run goes on. The exit code tells the run's outcome (docs/commands.md).

    [bold]Examples[/bold]:

    ./grafana-reencrypt watch --stack grafana-reencrypt

    ./grafana-reencrypt watch --stack grafana-reencrypt --region eu-north-1 move-to-kms
    """
    session = Session(as_json=as_json)
    session.interrupted = "interrupted"
    with session.errors_in_words():
        stack = session.find_stack(stack_name, region, profile)
        name = run or ended.newest(stack)
        described = ended.describe(stack, name)
        if described is None:
            raise ended.no_such_run(stack, name)
        code, facts = follow(session, stack, described)
        if as_json:
            typer.echo(json.dumps(facts, indent=2))
        raise typer.Exit(code)


def follow(session: Session, stack: Stack, described: DescribeExecutionOutputTypeDef) -> tuple[ExitCode, dict[str, Any]]:
    """Follows the execution to its end and shows the result; returns the exit code, and the facts for a program."""
    name, execution = described["name"], described["executionArn"]
    again = f"watch it again: {stack.command('watch', name)}"
    session.interrupted = f"interrupted; the run goes on. {again[0].upper()}{again[1:]}\nTo stop it: {stack.console_url(execution)}"
    session.goes_on = f"The run goes on by itself; {again}"
    if described["status"] in ended.RUNNING:
        follower, started = Follower(stack, described), monotonic()
        with live_view(session.screen.console) as show:
            while True:
                snapshot = follower.look()
                show(snapshot)
                if snapshot.ended:
                    break
                sleep(interval(monotonic() - started, snapshot, datetime.now(UTC)))
        described = follower.described
    session.interrupted = f"interrupted; the run has ended. Its report: {stack.command('report', name)}"
    session.goes_on = ""
    stored, result = ended.result(stack, described)
    show_result(session.screen, stack, stored, result, execution)
    code = of_run(result.status, outcome_of(result))
    return code, facts_of(stack, stored, result, execution) | {"exit_code": int(code)}


def show_result(screen: Screen, stack: Stack, stored: str, result: RunResult, execution: str | None) -> None:
    """The headline, bad news, counts, notes, next steps, time, cost, and where the report is."""
    screen.result(result, None)
    parts = [span(result.seconds)]
    if result.report is not None:
        dollars = result.report.get("estimated_cost_usd")
        parts += [f"about USD {dollars:.3f}" if dollars >= 0.001 else "less than USD 0.001"] if dollars is not None else []
        parts.append(f"report {stack.location(stored, 'report.html')}")
    elif execution is not None:
        parts.append(f"no report; see {stack.console_url(execution)}")
    screen.console.print()
    screen.note(" · ".join(parts))
    if result.report is not None:
        screen.note(f"fetch it: {stack.command('report', stored, '--output DIR')}")


def outcome_of(result: RunResult) -> str | None:
    """The outcome that the report states; None without one."""
    return None if result.report is None else str(result.report["outcome"])


def facts_of(stack: Stack, stored: str, result: RunResult, execution: str) -> dict[str, Any]:
    """The end of a run for a program."""
    report: Mapping[str, Any] = result.report or {}
    return {
        "run": stored, "mode": result.mode, "execution": execution, "console": stack.console_url(execution), "status": result.status,
        "outcome": outcome_of(result), "headline": result.headline, "seconds": round(result.seconds, 3), "totals": report.get("totals"),
        "estimated_cost_usd": report.get("estimated_cost_usd"), "estimate": report.get("estimate"), "next_input": report.get("next_input"),
        "report": stack.location(stored, "report.json") if result.report is not None else None,
    }  # fmt: skip
