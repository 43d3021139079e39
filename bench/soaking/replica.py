"""A Grafana replica as a process of its own: users' requests without end, a cache of its own, and a tally of what went wrong for them.

Several requests are under way at any time, so that there is always one between its SELECT and its UPDATE. What a replica stored is in its own
ground truth, which it hands back when it is stopped.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from multiprocessing.connection import Connection

import sqlalchemy as sa

from bench.live_grafana import GrafanaGaveUp, LiveGrafana, Operation
from bench.simulation import traffic
from bench.simulation.secrets_service import SecretsService, Wrapper
from bench.simulation.truth import Place
from bench.soaking.child import Child
from bench.soaking.stock import SECRET_KEY, ReplicaTruth, derive, grafana_engine, now

UNDER_WAY = 4
_LOCKED = "database is locked"
_ANSWER_SECONDS = 120.0


@dataclass(frozen=True)
class Order:
    """What a replica is told at its start. `steps_per_second` is how many statements or transactions it does."""

    url: sa.URL
    kms: Mapping[str, Wrapper] = field(repr=False)
    truth: ReplicaTruth = field(repr=False)
    seed: int
    cache_seconds: float
    steps_per_second: float


@dataclass
class Tally:
    """What a replica's users saw in one phase."""

    requests: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    wrong_reads: list[Place] = field(default_factory=list)
    writes: int = 0
    milliseconds: list[float] = field(default_factory=list, repr=False)

    def add(self, other: Tally) -> None:
        """Adds another replica's."""
        self.requests += other.requests
        self.errors += other.errors
        self.wrong_reads += other.wrong_reads
        self.writes += other.writes
        self.milliseconds += other.milliseconds


class Replica(Child):
    """The process, seen from outside."""

    def __init__(self, order: Order) -> None:
        super().__init__(_main, order, _ANSWER_SECONDS, "a replica has not answered")

    def ready(self) -> None:
        """Waits until it serves."""
        self._answer()

    def phase(self, name: str) -> None:
        """From now on what happens is counted under `name`; when it returns, the replica has understood."""
        self._pipe.send(("phase", name))
        self._answer()

    def rotate(self) -> None:
        """Deactivates every data key through this replica, as its `rotate-data-keys` does; the others write on with what they have cached."""
        self._pipe.send(("rotate", None))
        self._answer()

    def stop(self) -> tuple[ReplicaTruth, dict[str, Tally]]:
        """Finishes the requests under way and ends; returns what it stored, and the tallies by phase."""
        self._pipe.send(("stop", None))
        answer: tuple[ReplicaTruth, dict[str, Tally]] = self._answer()
        self._process.join()
        return answer


@dataclass
class _Request:
    name: str
    steps: Operation
    seconds: float = 0.0


class _Grafana(LiveGrafana):
    """A replica among others: organisation 1, whose history LiveGrafana activates, belongs to one of them."""

    def activate_history(self, key: int) -> Operation:
        own = self.truth.rows["alert_configuration"]
        return super().activate_history(key) if 1 in own else self.save_alerting(int(next(iter(own))))


class _Server:
    def __init__(self, order: Order) -> None:
        self._rng = random.Random(order.seed)  # noqa: S311 - which request comes next
        self._truth = order.truth
        engine = grafana_engine(order.url)
        self._secrets = SecretsService(
            engine, SECRET_KEY.encode(), next(iter(order.kms)), order.kms, now, ttl=timedelta(seconds=order.cache_seconds), derive=derive
        )
        self._grafana = _Grafana(engine, self._secrets, self._truth, self._rng, now)
        self._tallies: dict[str, Tally] = {}
        self._pause = 1 / order.steps_per_second
        self._under_way: list[_Request] = []
        self.phase("start")

    def phase(self, name: str) -> None:
        self._tally = self._tallies.setdefault(name, Tally())

    def serve(self, pipe: Connection) -> None:
        due = time.perf_counter()
        while True:
            # The pause between two steps is a wait for orders.
            if pipe.poll(max(0.0, due - time.perf_counter())):
                order, name = pipe.recv()
                if order == "stop":
                    break
                if order == "phase":
                    self.phase(name)
                else:
                    self._finish()
                    for _ in self._secrets.rotate():
                        pass
                pipe.send(None)
                continue
            due = max(due + self._pause, time.perf_counter() - 1)  # a replica that fell behind catches up for a second, no more
            if len(self._under_way) < UNDER_WAY:
                chosen = traffic.operation(self._grafana, self._rng)
                if chosen is not None:
                    self._under_way.append(_Request(*chosen))
            if self._under_way:
                self._step(self._rng.choice(self._under_way))
        self._finish()
        pipe.send((self._truth, self._tallies))

    def _finish(self) -> None:
        while self._under_way:
            self._step(self._under_way[0])

    def _step(self, request: _Request) -> None:
        """The next step of a request; what its user sees at its end, or instead of it, is counted."""
        before, began = sum(self._truth.writes.values()), time.perf_counter()
        ended = True
        try:
            next(request.steps)
            ended = False
        except StopIteration:
            self._tally.requests[request.name] += 1
        except GrafanaGaveUp:
            self._tally.errors[_LOCKED] += 1
        except sa.exc.DBAPIError as error:
            self._tally.errors[_code(error)] += 1
        request.seconds += time.perf_counter() - began
        self._tally.writes += sum(self._truth.writes.values()) - before
        self._tally.wrong_reads += self._grafana.wrong_reads
        self._grafana.wrong_reads.clear()
        if ended:
            self._under_way.remove(request)
            self._tally.milliseconds.append(request.seconds * 1000)


def _main(pipe: Connection, order: Order) -> None:
    try:
        server = _Server(order)
        pipe.send(None)
        server.serve(pipe)
    except Exception as error:  # the soak must not wait for a replica that has died of a mistake
        pipe.send(RuntimeError(f"a replica died: {type(error).__name__}: {error}"))


def _code(error: sa.exc.DBAPIError) -> str:
    """The server's own number: 1205, 1213, 40P01; SQLite has a sentence."""
    state = getattr(error.orig, "sqlstate", None)
    return str(state or (error.orig.args[0] if error.orig is not None and error.orig.args else type(error).__name__))
