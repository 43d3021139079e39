"""A deterministic scheduler: actors of which exactly one runs at a time, and a seed that says who goes on at each step.

A worker is a thread that runs the product's real code and gives the baton back at every `pause`; a Grafana operation is a generator, stepped by
whoever has the baton. Who goes on is drawn from one random generator, so the same seed gives the same interleaving.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

_STUCK_STEPS = 200_000
_WRITES = ("UPDATE", "COMMIT", "commit", "journals put")
_BEFORE_A_WRITE = ("lease UpdateItem", "journals put", "BEGIN", "UPDATE")
_NEAR_A_WRITE = 6  # as likely to be killed there as anywhere else, though there are fewer such places
START = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


class Killed(BaseException):
    """The worker's process was killed: nothing of it runs any more."""


class Stuck(Exception):
    """Nobody can go on, or nothing comes to an end: a fault of the simulator or an endless loop of the product."""


class Clock:
    """The time of the simulation; never the same twice, so that nothing hangs on chance when two things happen at once."""

    def __init__(self) -> None:
        self._now = START

    def now(self) -> datetime:
        self._now += timedelta(microseconds=1000)
        return self._now

    @property
    def elapsed(self) -> timedelta:
        """Since the beginning."""
        return self._now - START

    def seconds(self) -> float:
        return self.now().timestamp()

    def advance(self, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)


@dataclass(eq=False)
class Actor:
    """A thread of the simulation. `result` or `error` is there when it is `done`; `error` is Killed for one that was killed."""

    name: str
    target: Callable[[], Any]
    killable: bool
    critical: bool
    ready: Callable[[], bool] | None = None
    done: bool = False
    killed: bool = False
    holds_locks: bool = False
    label: str = ""  # of the pause where it is
    result: Any = None
    error: BaseException | None = None
    wake: threading.Lock = field(default_factory=lambda: _taken())


class Scheduler:
    """Runs actors and steppers until all have come to their end."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)  # noqa: S311 - the choice of an interleaving
        self.clock = Clock()
        self.trace: list[str] = []
        self.steppers: list[tuple[str, Generator[None, None, None]]] = []
        self.between: Callable[[], None] = lambda: None  # called at every step, by whoever has the baton
        self.kill_share = 0.0
        self.kills_left = 0
        self.stickiness = 0.0  # how likely who has the baton keeps it
        self.steps = 0
        self._actors: list[Actor] = []
        self._local = threading.local()
        self._home = _taken()
        self._stepping = False
        self._failure: BaseException | None = None

    def spawn(self, name: str, target: Callable[[], Any], *, killable: bool = False, critical: bool = False) -> Actor:
        """An actor that runs `target` from its next turn on. A killable one may be killed at any pause; what a critical one raises ends it all."""
        actor = Actor(name, target, killable, critical)
        self._actors.append(actor)
        _POOL.start(lambda: self._live(actor))
        return actor

    def run(self) -> None:
        """Returns when every actor is done and every stepper has ended. Raises what a critical actor or an operation raised, or Stuck."""
        self._pass_baton(None)
        if self._failure is not None:
            raise self._failure

    def pause(self, label: str) -> None:
        """A point where others may go on, and where a killable actor may die."""
        actor = self._current()
        if actor is None or self._stepping:
            return
        if actor.killed:
            raise Killed
        actor.label = label
        self.trace.append(f"{actor.name}: {label}")
        share = self.kill_share * (_NEAR_A_WRITE if label.startswith(_WRITES) else 1)
        if actor.killable and self.kills_left and self.rng.random() < share:
            self.kills_left -= 1
            actor.killed = True
            self.trace.append(f"{actor.name}: killed")
            raise Killed
        if not actor.holds_locks:
            self._pass_baton(actor)
            if actor.killed:
                raise Killed

    def wait_until(self, ready: Callable[[], bool]) -> None:
        """The current actor goes on once `ready`."""
        actor = self._current()
        if actor is None:
            raise AssertionError("only an actor can wait")
        actor.ready = ready
        self._pass_baton(actor)
        actor.ready = None
        if actor.killed:
            raise Killed

    def sleep(self, _seconds: float) -> None:
        """A pause of the product: others go on first."""
        until = self.steps + 5
        self.pause("sleep")
        if self.current() is not None:
            self.wait_until(lambda: self.steps >= until)

    @property
    def about_to_write(self) -> bool:
        """Whether somebody has read a page and not written it yet: the moment when others do most harm."""
        return any(actor.label.startswith(_BEFORE_A_WRITE) for actor in self._actors)

    @property
    def alone(self) -> bool:
        """Whether nobody is left but one actor."""
        return len(self._actors) <= 1

    def current(self) -> Actor | None:
        """The actor that runs this code; None outside of all actors and inside of a Grafana operation."""
        return None if self._stepping else self._current()

    def _current(self) -> Actor | None:
        return getattr(self._local, "actor", None)

    def _live(self, actor: Actor) -> None:
        actor.wake.acquire()
        self._local.actor = actor
        try:
            if not actor.killed:
                actor.result = actor.target()
        except BaseException as error:
            actor.error = Killed() if actor.killed else error  # whatever its last breath was
            if actor.critical and self._failure is None:
                self._failure = error
        actor.done = True
        self._local.actor = None
        self._actors.remove(actor)
        self._pass_baton(None, end=True)

    def _pass_baton(self, giver: Actor | None, *, end: bool = False) -> None:
        """Chooses who goes on and lets it; returns when the giver has the baton again."""
        chosen = self._choose(giver)
        if chosen is giver and giver is not None:
            return
        (chosen.wake if chosen is not None else self._home).release()
        if giver is not None:
            giver.wake.acquire()
        elif not end:
            self._home.acquire()

    def _choose(self, giver: Actor | None) -> Actor | None:
        """The next actor; on the way, Grafana's operations take their steps. None when all is done."""
        try:
            while self._failure is None:
                self.steps += 1
                if self.steps > _STUCK_STEPS:
                    raise Stuck("nothing comes to an end")
                self._stepping = True
                self.between()
                self._stepping = False
                ready = [actor for actor in self._actors if actor.ready is None or actor.ready()]
                if giver in ready and self.rng.random() < self.stickiness:
                    return giver
                if not self._actors and not self.steppers:
                    return None
                if ready or self.steppers:
                    number = self.rng.randrange(len(ready) + len(self.steppers))
                    if number < len(ready):
                        return ready[number]
                    self._step(number - len(ready))
        except BaseException as error:
            self._failure = error
        self._stepping = False
        for actor in self._actors:  # after a failure everybody is ended, one after the other
            actor.killed = True
            return actor
        return None

    def _step(self, number: int) -> None:
        name, stepper = self.steppers[number]
        self._stepping = True
        try:
            next(stepper)
            self.trace.append(f"grafana: {name}")
        except StopIteration:
            self.trace.append(f"grafana: {name} ended")
            self.steppers.pop(number)
        finally:
            self._stepping = False


def _taken() -> threading.Lock:
    """A lock that its owner waits on, and others release: the quickest way to hand something over."""
    lock = threading.Lock()
    lock.acquire()
    return lock


class _Pool:
    """Threads that are used again: starting one takes longer than most actors live."""

    def __init__(self) -> None:
        self._idle: list[_Thread] = []

    def start(self, work: Callable[[], None]) -> None:
        thread = self._idle.pop() if self._idle else _Thread(self._idle)
        thread.give(work)


def _nothing() -> None:
    pass


class _Thread(threading.Thread):
    def __init__(self, idle: list[_Thread]) -> None:
        super().__init__(daemon=True)
        self._idle, self._work, self._wake = idle, _nothing, _taken()
        self.start()

    def give(self, work: Callable[[], None]) -> None:
        self._work = work
        self._wake.release()

    def run(self) -> None:
        while True:
            self._wake.acquire()
            self._work()
            self._work = _nothing
            self._idle.append(self)


_POOL = _Pool()
