"""`grafana-reencrypt runs`: the runs of a deployed stack, newest first."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from cli import ended
from cli.live_view import span
from cli.options import AsJson, Profile, Region, Session, StackName
from cli.screen import OUTCOME_STYLES
from cli.stack import Stack
from reencrypt.operations.report import REPORT_JSON

if TYPE_CHECKING:
    from mypy_boto3_stepfunctions.type_defs import ExecutionListItemTypeDef, ListExecutionsOutputTypeDef

_READERS = 4
_PAGE = 100


def runs(
    stack_name: StackName,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, metavar="N", help="At most so many.")] = 20,
    region: Region = None,
    profile: Profile = None,
    as_json: AsJson = False,
) -> None:
    """Lists the runs: mode, outcome, start, duration, values, unreadable values; newest first.

    Step Functions forgets a run 90 days after its end; its report stays in the run bucket for 400 days, and `report` still fetches it by name.

    [bold]Example[/bold]: ./grafana-reencrypt runs --stack grafana-reencrypt --limit 5
    """
    session = Session(as_json=as_json)
    session.interrupted = "interrupted"
    with session.errors_in_words():
        stack = session.find_stack(stack_name, region, profile)
        listed = sorted(itertools.islice(_listed(stack), limit), key=lambda entry: entry["startDate"], reverse=True)
        with ThreadPoolExecutor(_READERS) as pool:
            found = list(pool.map(partial(run_facts, stack), listed))
        if as_json:
            typer.echo(json.dumps(found, indent=2))
        elif not found:
            plan = stack.command("start", more="--input '{}'")
            session.screen.console.print(f"the stack {stack.name} has no run yet; start one that only plans: {plan}", markup=False)
        else:
            session.screen.console.print(_table(found))


def run_facts(stack: Stack, listed: ExecutionListItemTypeDef) -> dict[str, Any]:
    """One run: what its report says, or what Step Functions knows of one that left none."""
    status, name = listed["status"], listed["name"]
    going = status in ended.RUNNING
    stored = ended.stored_name(stack, name, listed.get("redriveCount", 0))
    text = None if going else stack.patience(partial(stack.text, stored, REPORT_JSON))
    report: Mapping[str, Any] = json.loads(text) if text else {}
    described = None if report else ended.describe(stack, name)
    until = datetime.now(UTC) if going else listed.get("stopDate") or listed["startDate"]
    totals = report.get("totals", {})
    return {
        "run": stored,
        "mode": report.get("mode") or ended.input_mode(described.get("input", "") if described else ""),
        "status": status,
        "outcome": report.get("outcome"),
        "started": f"{listed['startDate'].astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}",
        "seconds": round((until - listed["startDate"]).total_seconds(), 3),
        "values": totals.get("values"),
        "unreadable": len(report["unreadable"]) if report else None,
        "estimated_cost_usd": report.get("estimated_cost_usd"),
        "execution": listed["executionArn"],
    }


def _listed(stack: Stack) -> Iterator[ExecutionListItemTypeDef]:
    token: str | None = None
    while True:
        page = stack.patience(partial(_page, stack, token))
        yield from page["executions"]
        token = page.get("nextToken")
        if token is None:
            return


def _page(stack: Stack, token: str | None) -> ListExecutionsOutputTypeDef:
    if token is None:
        return stack.stepfunctions.list_executions(stateMachineArn=stack.state_machine, maxResults=_PAGE)
    return stack.stepfunctions.list_executions(stateMachineArn=stack.state_machine, maxResults=_PAGE, nextToken=token)


def _table(found: list[dict[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("run", "mode", "outcome", "started (UTC)"):
        table.add_column(heading, no_wrap=True)
    for heading in ("duration", "values", "unreadable"):
        table.add_column(heading, justify="right", no_wrap=True)
    for run in found:
        outcome = run["outcome"] or run["status"].lower().replace("_", " ")
        table.add_row(
            run["run"],
            run["mode"],
            outcome,
            run["started"].replace("T", " ").removesuffix("Z"),
            span(run["seconds"]),
            "" if run["values"] is None else f"{run['values']:,}",
            "" if run["unreadable"] is None else f"{run['unreadable']:,}",
            style="" if run["status"] in ended.RUNNING else OUTCOME_STYLES.get(outcome, "red"),
        )
    return table
