"""What the exit code of `start`, `watch`, `report` and `runs` says: one table that the code, its tests and docs/commands.md go by.

`rehearse` has its own, smaller one (cli/rehearse.py). Where both use a number, it means the same kind of thing.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from types import MappingProxyType

_STOPPED = frozenset({"TIMED_OUT", "ABORTED"})


class ExitCode(IntEnum):
    """How a command ended. A run's own outcome is told by `watch` and `start --watch`; `report` is 0 when it has the report, whatever that says."""

    ENDED_WELL = 0
    RUN_FAILED = 1
    NOTHING_STARTED = 2  # typer's own code for wrong arguments
    AWS_PROBLEM = 3
    STOPPED = 4
    WITH_UNREADABLE = 5
    NOTHING_FOUND = 6
    STILL_GOING = 7
    INTERRUPTED = 130  # 128 + SIGINT, as shells have it


MEANINGS: Mapping[ExitCode, str] = MappingProxyType(
    {
        ExitCode.ENDED_WELL: "the run succeeded; without `--watch`, it was started; `report` and `runs` have what was asked for",
        ExitCode.RUN_FAILED: "the run failed",
        ExitCode.NOTHING_STARTED: "the input, an argument or the name of a run is wrong; nothing was started",
        ExitCode.AWS_PROBLEM: "no such stack, no credentials, a missing permission, or AWS does not answer",
        ExitCode.STOPPED: "the run timed out, or somebody aborted it",
        ExitCode.WITH_UNREADABLE: "the run succeeded with unreadable values, which its input allowed",
        ExitCode.NOTHING_FOUND: "the run found not one secret",
        ExitCode.STILL_GOING: "the run has not ended, so there is no report yet",
        ExitCode.INTERRUPTED: "interrupted by Ctrl-C or SIGTERM; the run goes on",
    }
)

_OF_OUTCOMES: Mapping[str, ExitCode] = MappingProxyType(
    {
        "succeeded": ExitCode.ENDED_WELL,
        "succeeded-with-unreadable": ExitCode.WITH_UNREADABLE,
        "failed": ExitCode.RUN_FAILED,
        "nothing-found": ExitCode.NOTHING_FOUND,
    }
)


class CannotGoOn(Exception):
    """What was asked for cannot be done; `str()` is the whole message for a person, `code` the exit code."""

    def __init__(self, code: ExitCode, message: str) -> None:
        super().__init__(message)
        self.code = code


def of_run(status: str, outcome: str | None) -> ExitCode:
    """The code of an execution with Step Functions' `status` and the `outcome` of its report (None: it left none).

    Success is claimed only where both say so.
    """
    if status in _STOPPED:
        return ExitCode.STOPPED
    code = _OF_OUTCOMES.get(outcome or "", ExitCode.RUN_FAILED)
    if status != "SUCCEEDED" and code in (ExitCode.ENDED_WELL, ExitCode.WITH_UNREADABLE):
        return ExitCode.RUN_FAILED
    return code
