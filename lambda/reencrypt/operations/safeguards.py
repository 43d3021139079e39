"""What stands before each write of a worker: the run's lease, its failure budget, the server's load, and the undo journal, in this order."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from reencrypt.errors import TooManyUnreadable
from reencrypt.operations.rewrite import Rewrite
from reencrypt.storage.journal import Journal
from reencrypt.storage.lease import Lease

LEASE_SECONDS = 1200  # longer than any one worker lives (15 minutes) and than the pauses between its retries
BEAT_SECONDS = 10


class Pulse(Protocol):
    """How a worker tells the others that the run is alive."""

    def beat(self, stretch: str, unreadable: int) -> int:
        """`unreadable` values are in `stretch` so far; returns how many all workers have seen, as far as is known.

        A stretch that is tried again counts once. Raises LeaseHeld when another run has taken over.
        """


@dataclass
class LeasePulse:
    """A pulse that renews the lease: with the first beat, with each that has bad news, else now and then."""

    lease: Lease
    owner: str
    clock: Callable[[], float] = time.monotonic
    _told: int = 0
    _all: int = 0
    _last: float | None = None

    def beat(self, stretch: str, unreadable: int) -> int:
        if unreadable != self._told or self._last is None or self.clock() - self._last >= BEAT_SECONDS:
            self._all = self.lease.renew(self.owner, LEASE_SECONDS, stretch, unreadable)
            self._told, self._last = unreadable, self.clock()
        return self._all


@dataclass
class CountingPulse:
    """A pulse within one process, without a lease: for runs in one process, and for modes that do not write."""

    unreadable: dict[str, int] = field(default_factory=dict)

    def beat(self, stretch: str, unreadable: int) -> int:
        self.unreadable[stretch] = unreadable
        return sum(self.unreadable.values())


@dataclass
class Throttle:
    """Pauses a worker while more than `limit` other sessions are at work on the server, asking at most once a second.

    `running` asks the server; `out_of_time` ends the pause, since a worker that does nothing until its deadline would come no further.
    """

    running: Callable[[], int]
    limit: int
    out_of_time: Callable[[], bool]
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    _asked: float | None = None

    def wait(self) -> None:
        """Returns when the server is at leisure."""
        if self._asked is not None and self.clock() - self._asked < 1:
            return
        pause = 0.25
        while self.running() > self.limit and not self.out_of_time():
            self.sleep(pause)
            pause = min(pause * 2, 5)
        self._asked = self.clock()


@dataclass
class Safeguards:
    """Those of one stretch of a chunk. `budget` is how many unreadable values the run may leave behind; None: any number."""

    pulse: Pulse
    journal: Journal | None
    chunk: int
    budget: int | None
    throttle: Callable[[], None]
    stretch: str = ""

    def judge(self, unreadable: int) -> None:
        """Before anything of a page is written: how many unreadable values the stretch has shown so far. Raises LeaseHeld, TooManyUnreadable."""
        found = self.pulse.beat(self.stretch, unreadable)
        if self.budget is not None and found > self.budget:
            raise TooManyUnreadable(
                f"{found} values are unreadable so far, more than the {self.budget} that this run may leave behind (unreadableBudget); the rest was "
                'not touched. See their reasons below; "onUnreadable": "report" lets a run finish all the same'
            )

    def before_write(self, rewrites: Sequence[Rewrite]) -> None:
        """When it returns, the old bytes of `rewrites` are in the journal, and the server can bear the write."""
        self.throttle()
        if self.journal is not None:
            self.journal.record(self.chunk, (entry for rewrite in rewrites for entry in rewrite.entries()))


def no_safeguards() -> Safeguards:
    """For a pass that writes nothing."""
    return Safeguards(CountingPulse(), None, 0, None, lambda: None)
