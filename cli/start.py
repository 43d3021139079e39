"""`grafana-reencrypt start`: starts a run on a deployed stack, after its input has been checked here."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from botocore.exceptions import ClientError

from cli import ended
from cli.aws_problems import code_of
from cli.exit_codes import CannotGoOn, ExitCode
from cli.options import AsJson, Profile, Region, Session, StackName
from cli.stack import Stack
from cli.watch import follow
from reencrypt.errors import InvalidInput
from reencrypt.operations.run_input import RunInput, parse

# Of what Step Functions allows, that which CloudWatch Logs and a later restore take too.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,79}")


def start(
    stack_name: StackName,
    text: Annotated[str | None, typer.Option("--input", metavar="JSON", help="The run's input, such as '{\"mode\": \"plan\"}'; '{}' plans.")] = None,
    file: Annotated[Path | None, typer.Option("--input-file", metavar="FILE", help="A file with the input instead; - is standard input.")] = None,
    name: Annotated[str | None, typer.Option("--name", metavar="RUN", help="The run's name; by default the time (UTC) and the mode.")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Follow the run until it ends; the exit code then tells its outcome.")] = False,
    region: Region = None,
    profile: Profile = None,
    as_json: AsJson = False,
) -> None:
    """Starts a run.

    The input is checked before anything is started, with the messages that the run itself would give. A run's input is explained in the README. A plan
    ends with an estimate of what the real run takes and costs, and with the input to start it with.

    [bold]Examples[/bold]:

    ./grafana-reencrypt start --stack grafana-reencrypt --input '{}' --watch

    ./grafana-reencrypt start --stack grafana-reencrypt --name weekly-check --input '{"mode": "verify"}'

    ./grafana-reencrypt start --stack grafana-reencrypt --input-file input.json --json
    """
    session = Session(as_json=as_json)
    with session.errors_in_words():
        raw = read_input(text, file)
        # Before anything is asked of AWS. Which tables a deployment has declared is known only after that.
        checked(raw, also=tables_of(raw))
        stack = session.find_stack(stack_name, region, profile)
        request = checked(raw, also=stack.declared_tables)
        run = name or f"{datetime.now(UTC):%Y-%m-%dT%H-%M-%SZ}-{request.mode.value}"
        if not _NAME.fullmatch(run):
            raise CannotGoOn(ExitCode.NOTHING_STARTED, "--name: a run's name has 1 to 80 letters, digits, - and _, and does not begin with -")
        session.interrupted = f"interrupted; whether the run has started is to be seen in: {stack.command('runs')}"
        execution = start_execution(stack, run, raw)
        session.interrupted = f"interrupted; the run goes on. Watch it: {stack.command('watch', run)}"
        say_started(session, stack, run, request, execution, watch=watch)
        facts: dict[str, object] = {"run": run, "mode": request.mode.value, "execution": execution, "console": stack.console_url(execution)}
        code = ExitCode.ENDED_WELL
        if watch:
            described = ended.describe(stack, run)
            if described is None:  # DescribeExecution may lag a moment behind StartExecution
                raise CannotGoOn(ExitCode.AWS_PROBLEM, f"the run has started, but AWS does not show it yet. Watch it: {stack.command('watch', run)}")
            code, facts = follow(session, stack, described)
        if as_json:
            typer.echo(json.dumps(facts, indent=2))
        raise typer.Exit(code)


def read_input(text: str | None, file: Path | None) -> object:
    """What `--input` or `--input-file` gives. Raises CannotGoOn; messages do not quote it."""
    if (text is None) == (file is None):
        raise CannotGoOn(ExitCode.NOTHING_STARTED, "give the run's input with --input JSON or with --input-file FILE; --input '{}' only plans")
    source = "--input" if file is None else f"--input-file {file}"
    if file is not None:
        try:
            text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8-sig")
        except FileNotFoundError:
            raise CannotGoOn(ExitCode.NOTHING_STARTED, f"--input-file: there is no file {file}") from None
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "it is not UTF-8"
            raise CannotGoOn(ExitCode.NOTHING_STARTED, f"--input-file: {file} cannot be read: {why}") from None
    try:
        raw: object = json.loads(text or "")
    except ValueError as error:
        raise CannotGoOn(ExitCode.NOTHING_STARTED, f'{source} is not JSON: {error}. Example: --input \'{{"mode": "plan"}}\'') from None
    except RecursionError:
        raise CannotGoOn(ExitCode.NOTHING_STARTED, f"{source} is nested too deeply to be an input") from None
    return raw


def tables_of(raw: object) -> frozenset[str]:
    """The names under the input's key `tables`."""
    tables = raw.get("tables") if isinstance(raw, dict) else None
    return frozenset(name for name in tables if isinstance(name, str)) if isinstance(tables, list) else frozenset()


def checked(raw: object, also: Iterable[str] = ()) -> RunInput:
    """The input as the run will understand it; `also` are tables with secrets beside the built-in ones. Raises CannotGoOn with the run's own message."""
    known = frozenset(also)
    if isinstance(raw, dict) and tables_of(raw) & known:
        rest = [name for name in raw["tables"] if not isinstance(name, str) or name not in known]
        raw = {**raw, "tables": rest}
    try:
        return parse(raw)
    except InvalidInput as error:
        raise CannotGoOn(ExitCode.NOTHING_STARTED, str(error)) from None


def start_execution(stack: Stack, run: str, raw: object) -> str:
    """Starts the execution and returns its ARN. Started again with the same name and input while it runs, it is the same execution: AWS sees to that.

    Raises CannotGoOn where the name is taken.
    """
    try:
        started = stack.patience(lambda: stack.stepfunctions.start_execution(stateMachineArn=stack.state_machine, name=run, input=json.dumps(raw)))
    except ClientError as error:
        if code_of(error) == "ExecutionAlreadyExists":
            message = f"--name: the stack {stack.name} has a run {run} already; choose another name, or see it: {stack.command('report', run)}"
            raise CannotGoOn(ExitCode.NOTHING_STARTED, message) from None
        raise
    return started["executionArn"]


def say_started(session: Session, stack: Stack, run: str, request: RunInput, execution: str, *, watch: bool) -> None:
    """The run's name, how to watch it, and its page in the console."""
    console = session.screen.console
    console.print(f"started {run} ({request.mode.value})", markup=False)
    if not watch:
        console.print(f"  watch it: {stack.command('watch', run)}", markup=False)
    session.screen.note(f"  console:  {stack.console_url(execution)}")
