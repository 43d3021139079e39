"""How far a run is: one `Snapshot` a round, made of the execution's history, its Map Runs and the outcomes in the run bucket.

Polite: one DescribeExecution or DescribeMapRun a round at most, and rounds that come less often the longer a run takes (`interval`).
Quotas: https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html (API action throttling)
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from cli.counts import Counts
from cli.ended import RUNNING, input_mode, stored_name
from cli.history import History
from cli.stack import Stack
from reencrypt.operations import cost
from reencrypt.operations.passes import Pass

if TYPE_CHECKING:
    from mypy_boto3_stepfunctions.type_defs import DescribeExecutionOutputTypeDef, MapRunListItemTypeDef

# By the labels of infra/run_states.py, which cannot be imported here: the CDK starts Node. (A test holds the two against each other.)
PHASES = {"ProcessChunks": "process", "SweepChunks": "sweep", "VerifyChunks": "verify", "ScanEveryColumn": "scan"}
_TITLES = {"process": "Process chunks", "sweep": "Sweep chunks", "verify": "Verify chunks", "scan": "Scan every column"}
_LONG_WAIT = 60.0


@dataclass
class PassProgress:
    """One pass over the chunks: `done` of `total` since `started`. `phase` names its outcomes; `values` it has gone through so far."""

    title: str
    phase: str
    map_run: str
    started: datetime
    done: int = 0
    total: int = 0
    ended: bool = False
    values: int = 0
    seconds: float = 0.0
    counted: bool = False  # it has ended, and all that its workers have left has been read

    @property
    def values_per_second(self) -> float | None:
        """None before there is anything to measure."""
        return self.values / self.seconds if self.values and self.seconds > 0 else None

    @property
    def eta(self) -> float | None:
        """Seconds until this pass ends at the rate so far; None before a chunk is done."""
        if self.ended or not self.done or not self.total:
            return None
        return self.seconds / self.done * (self.total - self.done)


@dataclass(frozen=True)
class Snapshot:
    """How far a run is. `counts` is by outcome of a value; `cost` in USD so far, None where it cannot be known; `wait_ends` while it waits."""

    run: str
    mode: str
    started: datetime
    state: str
    entered: tuple[str, ...] = ()
    passes: tuple[PassProgress, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    columns: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    plan: Mapping[str, Any] = field(default_factory=dict)
    wait_ends: datetime | None = None
    cost: float | None = None
    ended: bool = False

    @property
    def current(self) -> PassProgress | None:
        """The pass that is going on."""
        return next((each for each in reversed(self.passes) if not each.ended), None)


def interval(watched: float, snapshot: Snapshot, now: datetime) -> float:
    """Seconds until the next round, for who has watched for `watched` seconds: a second at first, ten in the end, never past the end of a wait."""
    pace = next(pace for limit, pace in ((60, 1.0), (600, 2.0), (3600, 5.0), (float("inf"), 10.0)) if watched < limit)
    if snapshot.wait_ends is None:
        return pace
    left = (snapshot.wait_ends - now).total_seconds()
    return max(pace, 10.0) if left > _LONG_WAIT else pace


class Follower:
    """Follows one execution; `look()` is one round. `described` is what DescribeExecution said at first."""

    def __init__(
        self,
        stack: Stack,
        described: DescribeExecutionOutputTypeDef,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.described = described
        self._stack, self._now, self._clock = stack, now, clock
        self._execution, self._started = described["executionArn"], described["startDate"]
        self._mode = input_mode(described.get("input", ""))
        self._history = History(stack, self._execution)
        self._counts = Counts(stack, described["name"], clock)
        self._passes: dict[str, PassProgress] = {}
        self._attempt: datetime | None = None

    def look(self) -> Snapshot:
        """How far the run is now. `ended` is true once; `described` then says how."""
        entered = tuple(self._history.read_on())
        if self._history.attempt != self._attempt:
            self._begin_anew()
        self._find_passes(entered)
        open_pass = next((each for each in self._passes.values() if not each.ended), None)
        if open_pass is not None and not self._history.ended:
            self._describe_pass(open_pass)
        else:
            self.described = self._stack.patience(partial(self._stack.stepfunctions.describe_execution, executionArn=self._execution))
        # DescribeExecution may lag behind the history: the end is when it says so too.
        ended = self.described["status"] not in RUNNING
        open_passes = [each for each in self._passes.values() if not each.counted]
        whole = self._counts.read_on([each.phase for each in open_passes])
        for each in open_passes:
            each.counted = each.ended and each.phase in whole
        return self._snapshot(entered, ended)

    def _begin_anew(self) -> None:
        """A redrive has let the run begin anew, under another name and with passes of its own."""
        self._attempt = self._history.attempt
        self._passes.clear()
        name = stored_name(self._stack, self.described["name"], self._history.redrives)
        self._counts = Counts(self._stack, name, self._clock)

    def _find_passes(self, entered: tuple[str, ...]) -> None:
        """Lists the Map Runs when a map was entered whose Map Run is not known yet: it appears a moment after the state."""
        if len(self._passes) >= self._history.passes or not (self._history.maps or entered):
            return
        listed = self._stack.patience(self._map_runs)
        for run in sorted(listed, key=lambda run: run["startDate"]):
            if run["mapRunArn"] in self._passes or (self._attempt and run["startDate"] < self._attempt):
                continue
            kind = PHASES.get(run["mapRunArn"].split("/")[-1].partition(":")[0])
            if kind is not None:
                self._passes[run["mapRunArn"]] = self._new_pass(kind, run["mapRunArn"], run["startDate"])

    def _map_runs(self) -> list[MapRunListItemTypeDef]:
        pages = self._stack.stepfunctions.get_paginator("list_map_runs").paginate(executionArn=self._execution)
        return [run for page in pages for run in page["mapRuns"]]

    def _new_pass(self, kind: str, map_run: str, started: datetime) -> PassProgress:
        number = 1 + sum(each.title.startswith(_TITLES[kind]) for each in self._passes.values())
        if kind == "sweep":
            return PassProgress(f"{_TITLES[kind]} {number}", f"sweep-{number}", map_run, started)
        if kind == "scan":  # the first look is the survey, the second one decides what may go
            again = number > 1
            return PassProgress(f"{_TITLES[kind]}{', again' if again else ''}", "scan" if again else "survey", map_run, started)
        return PassProgress(_TITLES[kind], kind, map_run, started)

    def _describe_pass(self, found: PassProgress) -> None:
        described = self._stack.patience(partial(self._stack.stepfunctions.describe_map_run, mapRunArn=found.map_run))
        items = described["itemCounts"]
        found.total = items["total"]
        found.done = items["total"] - items["pending"] - items["running"]
        found.ended = described["status"] != "RUNNING"
        found.seconds = ((described.get("stopDate") if found.ended else None) or self._now()).timestamp() - found.started.timestamp()

    def _snapshot(self, entered: tuple[str, ...], ended: bool) -> Snapshot:
        counts, history = self._counts, self._history
        for each in self._passes.values():
            each.values = sum(counts.by_phase.get(each.phase, Pass()).totals().values())
        first = counts.by_phase.get("process", Pass())
        return Snapshot(
            run=counts.run, mode=self._mode, started=self._started, state=history.state, entered=entered,
            passes=tuple(self._passes.values()), counts=Counter(first.totals()), columns=first.counts, facts=counts.facts, plan=counts.plan,
            wait_ends=None if ended else self._wait_ends(), cost=self._cost(), ended=ended,
        )  # fmt: skip

    def _wait_ends(self) -> datetime | None:
        """Every wait of a run is for Grafana's caches, and as long as its preflight has found."""
        settle = self._counts.facts.get("settle_seconds")
        if not self._history.waits or self._history.since is None or settle is None:
            return None
        return self._history.since + timedelta(seconds=int(settle))

    def _cost(self) -> float | None:
        """By the report's formula, from what the workers have left so far."""
        megabytes, (seconds, deliveries) = self._stack.worker_megabytes, self._counts.total()
        if megabytes is None or not deliveries:
            return None
        return cost.estimate_usd(seconds, deliveries, len(self._counts.facts.get("data_keys", ())), megabytes)
