"""`grafana-reencrypt report`: fetches what a run has left: report.json, report.html and, where it has earned one, certificate.json."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli import ended
from cli.deployment import RunResult
from cli.exit_codes import CannotGoOn, ExitCode, of_run
from cli.options import AsJson, Profile, Region, Session, StackName
from cli.rehearse import write_report
from cli.stack import Stack
from cli.watch import RunName, show_result


def report(
    stack_name: StackName,
    run: RunName = None,
    output: Annotated[Path | None, typer.Option("--output", metavar="DIR", help="Write report.json, report.html and certificate.json here.")] = None,
    region: Region = None,
    profile: Profile = None,
    as_json: AsJson = False,
) -> None:
    """Shows what became of a run, and fetches its report.

    With --output the files are written as they are in the run bucket: the certificate has the SHA-256 of report.json. With --json, report.json goes to
    standard output. The exit code is 0 when there is a report, whatever outcome it states.

    [bold]Examples[/bold]:

    ./grafana-reencrypt report --stack grafana-reencrypt --output last-run

    ./grafana-reencrypt report --stack grafana-reencrypt --json move-to-kms
    """
    session = Session(as_json=as_json)
    session.interrupted = "interrupted"
    with session.errors_in_words():
        stack = session.find_stack(stack_name, region, profile)
        stored, result, execution = fetch(stack, run or ended.newest(stack))
        written = _write(result, output) if output is not None else []
        if as_json:
            typer.echo(result.files["report.json"], nl=not result.files["report.json"].endswith("\n"))
        else:
            show_result(session.screen, stack, stored, result, execution)
        for path in written:
            session.screen.note(f"wrote {path}")


def fetch(stack: Stack, run: str) -> tuple[str, RunResult, str | None]:
    """The name of the run's objects, the run, and its execution (None: forgotten). Raises CannotGoOn where there is no report."""
    described = ended.describe(stack, run)
    if described is None:  # older than Step Functions remembers, or the name that a redriven run has in its report
        name = stack.execution(run).rpartition(":")[2]
        files = ended.files_of(stack, name)
        if "report.json" not in files:
            raise ended.no_such_run(stack, run)
        return name, ended.from_files(name, files), None
    name, execution = described["name"], described["executionArn"]
    if described["status"] in ended.RUNNING:
        raise CannotGoOn(ExitCode.STILL_GOING, f"{name} is still going, so it has no report yet; watch it: {stack.command('watch', name)}")
    stored, result = ended.result(stack, described)
    if result.report is None:
        message = f"{name} {result.headline}; it has left no report. See {stack.console_url(execution)}"
        raise CannotGoOn(of_run(result.status, None), message)
    return stored, result, execution


def _write(result: RunResult, folder: Path) -> list[Path]:
    if folder.exists() and not folder.is_dir():
        raise CannotGoOn(ExitCode.NOTHING_STARTED, f"--output: {folder} is not a folder")
    try:
        write_report(result, folder)
    except OSError as error:
        raise CannotGoOn(ExitCode.NOTHING_STARTED, f"--output: {folder} cannot be written: {error.strerror}") from None
    return [folder / name for name in result.files]
