"""One execution of the state machine: its steps in their order, each a worker that may die, come late or come twice.

Retries and catches as infra/run_definition.py has them: what died is delivered again or narrowed, what waiting can cure is tried again, a chunk that
fails leaves the others to go on, and every other error ends in a report of the failure.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bench.simulation.scheduler import Actor, Killed, Scheduler
from bench.simulation.storage import MemoryBucket
from bench.simulation.world import World, derive
from reencrypt.errors import DatabaseBusy, DatabaseUnavailable, ReencryptError
from reencrypt.operations import report, run_input
from reencrypt.operations import work as working
from reencrypt.operations.choose_data_key import choose_data_key
from reencrypt.operations.judge_pass import Next, judge_pass
from reencrypt.operations.narrow import narrow
from reencrypt.operations.plan_chunks import MANIFEST, plan_chunks
from reencrypt.operations.preflight import preflight
from reencrypt.operations.report import Times
from reencrypt.operations.safeguards import LEASE_SECONDS, CountingPulse, LeasePulse
from reencrypt.operations.work import Delivery, Phase
from reencrypt.operations.workspace import Workspace
from reencrypt.storage.journal import Journal
from reencrypt.storage.lease import Lease
from reencrypt.storage.objects import RunStore

_TRIES = 40


@dataclass
class Faults:
    """How often what goes wrong, as shares of the occasions."""

    duplicates: float = 0.0
    late: float = 0.0
    out_of_time: float = 0.0
    narrow: float = 0.0


@dataclass
class Site:
    """What the executions of one deployment share. `settle` passes the time of a Wait state, `quiet` waits for requests that are under way."""

    scheduler: Scheduler
    world: World
    bucket: MemoryBucket
    journals: MemoryBucket
    lease: Lease
    faults: Faults
    settle: Callable[[float], None]
    quiet: Callable[[], None]


class Aborted(Exception):
    """A person or a quota has stopped the execution; workers that are under way finish by themselves."""


class Execution:
    """A run. `report` is there afterwards, or not if it was aborted."""

    def __init__(self, site: Site, name: str, *, leased: bool = True, direct: bool = False, **options: Any) -> None:
        """`direct` runs the steps one after the other in the caller, with nobody else about."""
        self.name, self.leased, self.report = name, leased, dict[str, Any]()
        self.aborted = False
        self.disturbed = False  # a worker died, came late or came twice
        self.error: ReencryptError | None = None
        self.chunk_errors: list[ReencryptError] = []
        self._site, self._direct = site, direct
        self._scheduler = site.scheduler
        self._input = options
        self._request = run_input.parse(options)
        self._store = RunStore(site.bucket, name)

    def run(self) -> None:
        """Every step, up to the report."""
        started = self._scheduler.clock.now()
        try:
            self._steps()
            self.report = self._step("report", lambda: report.build(self.name, self._request, self._store, Times(started, self._scheduler.clock.now(), 1024)))
        except Aborted:
            return
        except ReencryptError as error:
            self.error = error
            failure = {"name": type(error).__name__, "message": str(error)}
            times = Times(started, self._scheduler.clock.now(), 1024)
            self.report = report.build_failure(self.name, self._request.mode.value, self._store, times, failure)
        if self.leased:
            self._site.lease.release(self.name)

    def _steps(self) -> None:
        summary = self._step("preflight", lambda: preflight(self._request, self._workspace()))
        plan = self._step("plan", lambda: plan_chunks(self._request, self._workspace(), 3))
        if not plan["chunks"]:
            return
        if self.leased:
            self._step("lease", lambda: self._site.lease.acquire(self.name, LEASE_SECONDS))
        if summary["encrypts"]:
            self._step("data key", lambda: choose_data_key(self._request, self._workspace()))
        self._pass(Phase.PROCESS, plan["max_concurrency"])
        judged = self._judge(0)
        while judged["next"] != Next.VERIFY:
            if judged["next"] == Next.SETTLE:
                self._site.settle(judged["seconds"])
            self._pass(Phase(judged["phase"]), plan["max_concurrency"])
            self._site.quiet()
            judged = self._judge(judged["number"])
        self._pass(Phase.VERIFY, plan["max_concurrency"])

    def _judge(self, number: int) -> dict[str, Any]:
        def judge() -> dict[str, Any]:
            judged = judge_pass(self._request, self._store, number)
            if self.leased:
                self._site.lease.renew(self.name, (judged["seconds"] if judged["next"] == Next.SETTLE else 0) + LEASE_SECONDS)
            return judged

        answer: dict[str, Any] = self._step("judge", judge)
        return answer

    def _pass(self, phase: Phase, workers: int) -> None:
        """The map: `workers` chunks at a time; one that fails leaves the others to go on."""
        waiting = list(self._store.iter_lines(MANIFEST))

        def drive() -> None:
            while waiting:
                chunk = waiting.pop(0)
                try:
                    self._chunk(phase, chunk)
                except ReencryptError as error:
                    self.chunk_errors.append(error)
                except Aborted:
                    return

        if workers == 1 or self._direct:
            drive()
        else:
            drivers = [self._scheduler.spawn(f"{self.name} driver {number}", drive, critical=True) for number in range(workers)]
            self._wait(lambda: all(driver.done for driver in drivers))
        if self.aborted:
            raise Aborted

    def _chunk(self, phase: Phase, chunk: dict[str, Any]) -> None:
        position, limit, done = None, None, False
        while not done:
            delivery = Delivery(phase, chunk, None if position is None else tuple(position), limit)
            answer = self._deliver(delivery)
            position, limit, done = answer["position"], answer["limit"], answer["done"]

    def _deliver(self, delivery: Delivery) -> dict[str, Any]:
        label = f"{delivery.phase.value} {delivery.chunk['id']}"

        def call() -> dict[str, Any]:
            return working.work(self._request, delivery, self._workspace(), self._out_of_time, derive)

        if not self._direct and self._chance(self._site.faults.duplicates):
            self.disturbed = True
            self._scheduler.spawn(f"{self.name} {label} again", call, killable=True)

        def died() -> Callable[[], dict[str, Any]] | None:
            restores = self._request.run is not None and delivery.phase == Phase.PROCESS
            return (lambda: narrow(self._request, delivery, self._workspace())) if not restores and self._chance(self._site.faults.narrow) else None

        answer: dict[str, Any] = self._step(label, call, died)
        return answer

    def _step(self, label: str, call: Callable[[], Any], died: Callable[[], Callable[[], Any] | None] = lambda: None) -> Any:
        """A task with its Retry. `died` says what to do instead of another try after a worker has died."""
        if self._direct:
            return call()
        error: BaseException | None = None
        for attempt in range(_TRIES):
            if self.aborted:
                raise Aborted
            worker = self._scheduler.spawn(f"{self.name} {label}" + (f" try {attempt + 1}" if attempt else ""), call, killable=True)
            self._await(worker)
            if worker.done and worker.error is None:
                return worker.result
            error = worker.error
            if worker.done and not isinstance(error, Killed | DatabaseUnavailable | DatabaseBusy):
                break
            self.disturbed = True
            if not isinstance(error, DatabaseUnavailable | DatabaseBusy):
                call = died() or call
        if error is None:
            raise AssertionError(f"{label} came late {_TRIES} times")
        raise error

    def _await(self, worker: Actor) -> None:
        """Until the worker is done, or for less: then it is taken for dead, and comes late."""
        if self._chance(self._site.faults.late):
            until = self._scheduler.steps + self._scheduler.rng.randrange(5, 60)
            self._wait(lambda: worker.done or self._scheduler.steps >= until)
        else:
            self._wait(lambda: worker.done)
        if self.aborted:
            raise Aborted

    def _wait(self, ready: Callable[[], bool]) -> None:
        self._scheduler.wait_until(lambda: self.aborted or ready())

    def _chance(self, share: float) -> bool:
        return share > 0 and self._scheduler.rng.random() < share

    def _out_of_time(self) -> bool:
        return not self._direct and self._chance(self._site.faults.out_of_time)

    def _workspace(self) -> Workspace:
        clock = self._scheduler.clock
        return Workspace(
            settings=self._site.world.settings,
            providers=self._site.world.providers,
            open_database=lambda read_only: self._site.world.database(read_only, self._scheduler.sleep),
            store=self._store,
            now=clock.now,
            journal=Journal(self._site.journals, self.name, clock.seconds),
            pulse=(lambda: LeasePulse(self._site.lease, self.name, clock.seconds)) if self.leased else CountingPulse,
        )
