"""One interleaving: a small database, its users, a run with everything that may befall it, then rest, and the checks."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from bench.live_grafana import LiveGrafana
from bench.simulation import past, traffic
from bench.simulation.checks import Census, Findings, Inspector, check_counts
from bench.simulation.execution import Execution, Site
from bench.simulation.hooks import Interruptions
from bench.simulation.scenario import Restore, Scenario, Second, draw
from bench.simulation.scheduler import Scheduler
from bench.simulation.secrets_service import CACHE_TTL, SECRET_KEY_PROVIDER, SecretsService
from bench.simulation.storage import MemoryBucket, MemoryDynamo
from bench.simulation.truth import Truth
from bench.simulation.world import SECRET_KEY, World, derive
from reencrypt.errors import LeaseHeld
from reencrypt.storage.lease import Lease
from tests.support.local_run import KMS

_PATIENCE = 3000  # Grafana's tries at a locked database: here a try takes no time
_KMS_KEY = "cf9q4l0s6d2u8y"
_LEASE_OUT = 3600
_JUST_NOW = 4  # as many requests while a page is about to be written
_RESTART_AFTER = CACHE_TTL * 0.9  # the replica with the old configuration is restarted before the caches have expired


@dataclass
class Interleaving:
    """The interleaving of `seed`; `play` fills `findings`."""

    seed: int
    world: World
    interruptions: Interruptions
    findings: Findings = field(default_factory=Findings)
    events: Counter[str] = field(default_factory=Counter)
    truth: Truth = field(default_factory=Truth)
    scenario: Scenario = field(init=False)
    scheduler: Scheduler = field(init=False)

    def play(self) -> Findings:
        """From the first row to the last check."""
        self.scheduler = Scheduler(self.seed)
        rng = self.scheduler.rng
        self.scenario = draw(rng)
        self._prepare(rng)
        with self._interruptible():
            self._act()
        self._count_events()
        self._check_rest("at rest")
        self._settle_down()
        return self.findings

    # --- before ---

    def _prepare(self, rng: random.Random) -> None:
        scenario, clock, engine = self.scenario, self.scheduler.clock, self.world.engine
        self.world.fresh(scenario.present)
        self.truth.rows.update({table: {} for table in sorted(scenario.present)})
        old = LiveGrafana(engine, past.PastSecrets(engine, SECRET_KEY, clock.now, derive=derive), self.truth, rng, clock.now, _PATIENCE)
        past.fill(old, rows=scenario.rows, tables=scenario.tables)
        self.replicas = [self._replica(KMS), self._replica(SECRET_KEY_PROVIDER)]
        self.replicas[0].secrets.insert_key(_KMS_KEY, KMS, active=True, age=timedelta(hours=25 if scenario.midnight else 2))
        self._restarted = False
        if scenario.rotated and not scenario.midnight:
            for replica in self.replicas:  # both have today's key in their caches, and go on with it
                _through(replica.secrets.encrypt(b""))
            _through(self._replica(KMS).secrets.rotate())
        clock.advance(rng.uniform(0, CACHE_TTL.total_seconds() / 2))
        self.inspector = Inspector(engine, self.truth, self._secrets(KMS))
        dynamo = MemoryDynamo(self.scheduler.pause)
        self.site = Site(
            self.scheduler, self.world, MemoryBucket("runs", self.scheduler.pause), MemoryBucket("journals", self.scheduler.pause),
            Lease("lease", dynamo, clock.seconds),  # type: ignore[arg-type]  # the three calls that a lease makes
            scenario.faults, self._settle, self._quiet,
        )  # fmt: skip
        self.before = Census.take(self.truth, self.inspector.under_old_keys())
        self.originals = self.inspector.stored()
        self.operations = scenario.operations

    def _replica(self, provider: str) -> LiveGrafana:
        clock = self.scheduler.clock
        return LiveGrafana(self.world.engine, self._secrets(provider), self.truth, self.scheduler.rng, clock.now, _PATIENCE)

    def _secrets(self, provider: str) -> SecretsService:
        return SecretsService(self.world.engine, SECRET_KEY, provider, {KMS: self.world.kms}, self.scheduler.clock.now, derive=derive)

    # --- what happens ---

    def _act(self) -> None:
        scheduler, scenario = self.scheduler, self.scenario
        scheduler.kill_share, scheduler.kills_left, scheduler.stickiness = scenario.kill_share, scenario.kills, scenario.stickiness
        scheduler.between = self._users
        self.runs = [self._run("run-1", chunkRows=scenario.chunk_rows)]
        scheduler.spawn("operator", self._operate, critical=True)
        scheduler.run()

    def _operate(self) -> None:
        scheduler, scenario, first = self.scheduler, self.scenario, self.runs[0]
        if scenario.second is Second.NONE:
            first.run()
            self.after = Census.take(self.truth)
        else:
            begun = scheduler.spawn("the first run", first.run, critical=True)
            scheduler.wait_until(lambda: begun.done or scheduler.steps >= scenario.abort_after)
            if scenario.second is Second.AFTER_A_CRASH:
                first.aborted = True
                scheduler.wait_until(lambda: begun.done)
                scheduler.clock.advance(_LEASE_OUT)
            second = self._run("run-2", chunkRows=2)
            self.runs.append(second)
            second.run()
            self.after = Census.take(self.truth)
            scheduler.wait_until(lambda: begun.done)
        if scenario.restore is not Restore.NONE:
            self._restore(first)

    def _run(self, name: str, *, direct: bool = False, **options: Any) -> Execution:
        leased = self.scenario.second is not Second.OVERLAPPING
        options |= {"mode": "re-encrypt", "providerReady": True, "tables": sorted(self.scenario.present)}
        return Execution(self.site, name, leased=leased, direct=direct, **options)

    def _restore(self, first: Execution) -> None:
        if self.scenario.restore is Restore.AT_REST:
            self.operations = 0
            self.scheduler.wait_until(lambda: self.scheduler.alone and not self.scheduler.steppers)
        touched = dict(self.truth.writes)
        restore = Execution(self.site, "undo", mode="restore", run=first.name)
        self.runs.append(restore)
        restore.run()
        if self.scenario.restore is Restore.AT_REST and self.scenario.second is Second.NONE and restore.error is None:
            for place, payload in self.inspector.stored().items():
                if self.originals.get(place) != payload and self.before.writes.get(place.table) == touched.get(place.table):
                    self.findings.add("unrestored", f"{place} is not as it was before the run")

    def _users(self) -> None:
        """Called at each step: now and then a user makes a request of one of the replicas."""
        scheduler = self.scheduler
        if not self._restarted and scheduler.clock.elapsed >= _RESTART_AFTER:
            self._restarted = True
            self.replicas[1].secrets.forget()
            self.replicas[1].secrets.provider = KMS
        share = self.scenario.operation_share * (_JUST_NOW if scheduler.about_to_write else 1)
        if self.operations and len(scheduler.steppers) < 3 and scheduler.rng.random() < share:
            self.operations -= 1
            operation = traffic.operation(scheduler.rng.choice(self.replicas), scheduler.rng)
            if operation is not None:
                scheduler.steppers.append(operation)

    def _settle(self, seconds: float) -> None:
        """A Wait state, in three parts: users go on meanwhile, and requests that were under way when it began have long ended."""
        for _ in range(3):
            self._quiet()
            self.scheduler.clock.advance(seconds / 3)
        self._quiet()

    def _quiet(self) -> None:
        """A step of the state machine takes longer than a user's request: those that are under way end."""
        if self.scheduler.current() is not None:
            under_way = list(self.scheduler.steppers)
            self.scheduler.wait_until(lambda: not any(stepper in self.scheduler.steppers for stepper in under_way))

    def _count_events(self) -> None:
        """What has really happened, so that one can see that it does happen."""
        happened = Counter(step.rpartition(": ")[2] for step in self.scheduler.trace)
        self.events += Counter({"workers killed": happened["killed"], "connections lost": happened["connection lost"]})
        for run in self.runs:
            totals, sweeps = run.report.get("totals", {}), run.report.get("sweeps", [])
            self.events["values that Grafana changed first"] += totals.get("changed_by_grafana", 0)
            self.events["values swept"] += sum(sweep["moved"] for sweep in sweeps)
            self.events["values restored" if run.name == "undo" else "values re-encrypted"] += totals.get("re_encrypted", 0)
            self.events["runs refused"] += isinstance(run.error, LeaseHeld)
            self.events["rows set apart"] += sum(entry["reason"] == "worker-died" for entry in run.report.get("unreadable", []))

    # --- after ---

    def _check_rest(self, moment: str) -> None:
        self.inspector.check_values(self.findings, moment)
        for replica in self.replicas:
            for place in replica.wrong_reads:
                self.findings.add("lost", f"{moment}: a Grafana read something else at {place} than what users had stored")
            replica.wrong_reads.clear()
        first, scenario = self.runs[0], self.scenario
        if scenario.second is Second.NONE:
            sound = scenario.faults.narrow == 0
            if first.error is not None:
                self.findings.add("unfinished", f"the run failed: {first.error!r} {first.chunk_errors}")
            else:
                alone = not first.disturbed and not self.scenario.kills
                check_counts(self.findings, first.report, self.truth, self.before, self.after, alone=alone, sound=sound)
        self._check_sweeps()

    def _check_sweeps(self) -> None:
        """After a run that ended well, nothing that users write falls back under an old key."""
        scenario, first = self.scenario, self.runs[0]
        swept = first.report.get("sweeps") or [{"moved": 1, "changed_by_grafana": 0}]
        clean = not swept[-1]["moved"] and not swept[-1]["changed_by_grafana"]
        if clean and first.error is None and scenario.second is Second.NONE and scenario.restore is Restore.NONE and not scenario.faults.narrow:
            for place in self.inspector.under_old_keys():
                self.findings.add("unswept", f"{place} is under an old key after the last sweep")

    def _settle_down(self) -> None:
        """Nobody else is about: a run brings everything under a current key, and one that finds nothing to do writes nothing."""
        self.scheduler.clock.advance(_LEASE_OUT)
        self.scheduler.kills_left = self.operations = 0
        found = self.inspector.under_old_keys()
        if found:
            again, _ = self._calm_run("again")
            left = self.inspector.under_old_keys()
            if again.error is not None or left or again.report["left_under_old_keys"]:
                self.findings.add("unfinished", f"after another run {left} are under an old key ({again.error!r} {again.chunk_errors})")
        idle, updates = self._calm_run("idle")
        if idle.error is not None or updates or idle.report["totals"]["re_encrypted"]:
            self.findings.add("unfinished", f"a run with nothing to do wrote {updates} times ({idle.error!r} {idle.chunk_errors})")
        self.inspector.check_values(self.findings, "in the end")

    def _calm_run(self, name: str) -> tuple[Execution, int]:
        """A run with nobody else about, and how often it wrote."""
        run = self._run(name, direct=True, settleSeconds=0)
        with self._interruptible():
            self.interruptions.updates, self.interruptions.drops_left, self.scheduler.stickiness = 0, 0, 1.0
            self.scheduler.spawn("operator", run.run, critical=True)
            self.scheduler.run()
        return run, self.interruptions.updates

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        self.interruptions.scheduler = self.scheduler
        self.interruptions.drops_left = self.scenario.drops if self.world.engine.dialect.name != "sqlite" else 0
        self.interruptions.drop_share = 0.02
        try:
            yield
        finally:
            self.interruptions.scheduler = None


def _through(steps: Iterator[None]) -> None:
    for _ in steps:
        pass
