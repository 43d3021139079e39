"""Where an execution is, from its history: read a few events at a time, each once.

A Distributed Map's children have histories of their own, so that of a run has some hundred events whatever the database holds.
Source: https://docs.aws.amazon.com/step-functions/latest/apireference/API_GetExecutionHistory.html
"""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from cli.stack import Stack

if TYPE_CHECKING:
    from mypy_boto3_stepfunctions.type_defs import GetExecutionHistoryOutputTypeDef, HistoryEventTypeDef

# Pass and Choice states take no time; nobody need see them.
_WORKING = frozenset({"TaskStateEntered", "MapStateEntered", "WaitStateEntered"})
_ENDED = frozenset({"ExecutionSucceeded", "ExecutionFailed", "ExecutionAborted", "ExecutionTimedOut"})
_GOES_ON = "Go on after a redrive"  # infra/run_definition.py: the run begins anew
_FIRST_PAGE, _PAGE = 1000, 50


class History:
    """What an execution has come to. `state` has been its state since `since`; `waits` and `maps` say of what kind it is.

    `attempt` is when a redrive has let the run begin anew (None: never), `redrives` how often that was asked for, `passes` how many maps the
    attempt has entered.
    """

    def __init__(self, stack: Stack, execution: str) -> None:
        self.state = ""
        self.since: datetime | None = None
        self.waits = self.maps = self.ended = False
        self.attempt: datetime | None = None
        self.redrives = self.passes = 0
        self._stack, self._execution, self._seen = stack, execution, 0

    def read_on(self) -> list[str]:
        """Reads the events since the last time; returns the names of the states that were entered meanwhile, in order."""
        entered = []
        for event in self._new_events():
            self._seen = event["id"]
            kind = event["type"]
            if kind in _WORKING:
                self.state, self.since = event["stateEnteredEventDetails"]["name"], event["timestamp"]
                self.waits, self.maps = kind == "WaitStateEntered", kind == "MapStateEntered"
                self.passes += self.maps
                entered.append(self.state)
            elif kind == "PassStateEntered" and event["stateEnteredEventDetails"]["name"] == _GOES_ON:
                self.attempt, self.passes = event["timestamp"], 0
            elif kind == "ExecutionRedriven":
                self.ended = False
                self.redrives = event.get("executionRedrivenEventDetails", {}).get("redriveCount", self.redrives + 1)
            elif kind in _ENDED:
                self.ended = True
        return entered

    def _new_events(self) -> list[HistoryEventTypeDef]:
        """Newest first is the only order in which the new ones come without the old ones."""
        found: list[HistoryEventTypeDef] = []
        token: str | None = None
        while True:
            page = self._stack.patience(partial(self._page, token))
            found += [event for event in page["events"] if event["id"] > self._seen]
            token = page.get("nextToken")
            if token is None or not page["events"] or page["events"][-1]["id"] <= self._seen:
                return sorted(found, key=lambda event: event["id"])

    def _page(self, token: str | None) -> GetExecutionHistoryOutputTypeDef:
        size = _PAGE if self._seen else _FIRST_PAGE
        # Without the data: inputs and outputs of states are of no use here.
        if token is None:
            return self._stack.stepfunctions.get_execution_history(executionArn=self._execution, reverseOrder=True, maxResults=size, includeExecutionData=False)
        return self._stack.stepfunctions.get_execution_history(
            executionArn=self._execution, reverseOrder=True, maxResults=size, includeExecutionData=False, nextToken=token
        )
