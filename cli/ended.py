"""What became of an execution of a deployed stack: its status, its report and its files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from cli.aws_problems import code_of
from cli.deployment import FILES, RunResult, mode_of
from cli.exit_codes import CannotGoOn, ExitCode
from cli.stack import Stack
from reencrypt.operations.preflight import PREFLIGHT

if TYPE_CHECKING:
    from mypy_boto3_stepfunctions.type_defs import DescribeExecutionOutputTypeDef

RUNNING = frozenset({"RUNNING", "PENDING_REDRIVE"})
_GONE = frozenset({"ExecutionDoesNotExist", "InvalidArn"})


def describe(stack: Stack, run: str) -> DescribeExecutionOutputTypeDef | None:
    """The execution, or None where Step Functions knows none of that name (any more: it forgets them after 90 days)."""
    execution = stack.execution(run)
    try:
        return stack.patience(lambda: stack.stepfunctions.describe_execution(executionArn=execution))
    except ClientError as error:
        if code_of(error) in _GONE:
            return None
        raise


def no_such_run(stack: Stack, run: str) -> CannotGoOn:
    """The error for a name that no run has."""
    return CannotGoOn(ExitCode.NOTHING_STARTED, f"the stack {stack.name} has no run {run}; its runs: {stack.command('runs')}")


def newest(stack: Stack) -> str:
    """The name of the run that was started last. Raises CannotGoOn where there is none."""
    listed = stack.patience(lambda: stack.stepfunctions.list_executions(stateMachineArn=stack.state_machine, maxResults=20))["executions"]
    if not listed:
        plan = stack.command("start", more="--input '{}'")
        raise CannotGoOn(ExitCode.NOTHING_STARTED, f"the stack {stack.name} has no run yet; start one that only plans: {plan}")
    return max(listed, key=lambda entry: entry["startDate"])["name"]


def stored_name(stack: Stack, name: str, redrives: int) -> str:
    """Under which name the run's objects lie: an execution that was redriven begins anew as `<name>-redrive-<n>` (infra/run_definition.py)."""
    for number in range(redrives, 0, -1):
        again = f"{name}-redrive-{number}"
        if stack.patience(partial(stack.store(again).exists, PREFLIGHT)):
            return again
    return name


def files_of(stack: Stack, stored: str) -> dict[str, str]:
    """What the run has left for people, by name, exactly as it is in the bucket: the certificate has the report's SHA-256."""
    found = {file: stack.patience(partial(stack.text, stored, file)) for file in FILES}
    return {file: text for file, text in found.items() if text is not None}


def result(stack: Stack, described: DescribeExecutionOutputTypeDef) -> tuple[str, RunResult]:
    """The name of its objects, and what became of an execution that has ended."""
    stored = stored_name(stack, described["name"], described.get("redriveCount", 0))
    files = files_of(stack, stored)
    seconds = (described.get("stopDate", datetime.now(UTC)) - described["startDate"]).total_seconds()
    return stored, RunResult(
        run=stored,
        mode=input_mode(described.get("input", "")),
        status=described["status"],
        error=described.get("error", ""),
        cause=described.get("cause", ""),
        seconds=seconds,
        report=json.loads(files["report.json"]) if "report.json" in files else None,
        files=files,
    )


def from_files(stored: str, files: Mapping[str, str]) -> RunResult:
    """A run that only its files tell of: its execution is forgotten."""
    report: dict[str, Any] = json.loads(files["report.json"])
    status = "SUCCEEDED" if str(report["outcome"]).startswith("succeeded") else "FAILED"
    return RunResult(stored, report["mode"], status, "", "", report["seconds"], report, files)


def input_mode(text: str) -> str:
    """The mode that an execution's input names."""
    try:
        return mode_of(json.loads(text))
    except ValueError:
        return mode_of(None)
