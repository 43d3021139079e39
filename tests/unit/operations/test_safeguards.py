"""Before each write a worker asks for its lease, its budget and the server's load, and keeps what it is about to write over."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from reencrypt.database.database import Row
from reencrypt.errors import LeaseHeld, TooManyUnreadable
from reencrypt.grafana.secret_columns import groups, secret_columns
from reencrypt.operations.rewrite import Change, Rewrite
from reencrypt.operations.safeguards import BEAT_SECONDS, LEASE_SECONDS, CountingPulse, LeasePulse, Safeguards, Throttle, no_safeguards
from reencrypt.storage.journal import Entry, Journal
from reencrypt.storage.lease import Lease

GROUP = next(group for group in groups(secret_columns()) if group.id == "user_auth")


@dataclass
class Clock:
    now: float = 1000.0
    slept: list[float] = field(default_factory=list)

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@dataclass
class FakeLease:
    """As storage/lease.py: what each stretch has seen is kept, not added."""

    renewals: list[tuple[str, int, str, int]] = field(default_factory=list)
    others: int = 0
    lost: bool = False
    seen: dict[str, int] = field(default_factory=dict)

    def renew(self, owner: str, seconds: int, stretch: str, unreadable: int) -> int:
        if self.lost:
            raise LeaseHeld("lost")
        self.renewals.append((owner, seconds, stretch, unreadable))
        self.seen[stretch] = unreadable
        return self.others + sum(self.seen.values())


@dataclass
class Order:
    """What was done, in order."""

    done: list[str] = field(default_factory=list)

    def note(self, what: str) -> Callable[..., None]:
        return lambda *_: self.done.append(what)


def pulse(lease: FakeLease, clock: Clock) -> LeasePulse:
    return LeasePulse(cast("Lease", lease), "ours", clock)


def test_the_first_page_renews_the_lease_and_the_next_ones_not_before_some_seconds() -> None:
    lease, clock = FakeLease(), Clock()
    beating = pulse(lease, clock)
    for _ in range(25):
        beating.beat("1-start", 0)
        clock.now += 1
    assert lease.renewals == [("ours", LEASE_SECONDS, "1-start", 0)] * 3
    assert 9 < BEAT_SECONDS < LEASE_SECONDS / 10


def test_bad_news_are_told_at_once() -> None:
    lease, clock = FakeLease(), Clock()
    beating = pulse(lease, clock)
    for unreadable in (0, 0, 2, 2, 3):
        beating.beat("1-start", unreadable)
    assert [renewal[3] for renewal in lease.renewals] == [0, 2, 3]


def test_a_worker_learns_what_the_others_have_seen() -> None:
    lease, clock = FakeLease(), Clock()
    beating = pulse(lease, clock)
    assert beating.beat("1-start", 1) == 1
    lease.others = 7
    assert beating.beat("1-start", 1) == 1, "as far as is known"
    clock.now += BEAT_SECONDS
    assert beating.beat("1-start", 1) == 8


def test_a_stretch_that_is_tried_again_counts_once() -> None:
    lease = FakeLease()
    assert [pulse(lease, Clock()).beat("1-start", 6) for _ in range(3)] == [6, 6, 6]
    assert pulse(lease, Clock()).beat("2-start", 5) == 11
    counting = CountingPulse()
    assert [counting.beat(*seen) for seen in (("a", 2), ("a", 2), ("b", 1), ("a", 3))] == [2, 2, 3, 4]


def test_a_worker_whose_lease_is_gone_judges_nothing() -> None:
    lease = FakeLease(lost=True)
    with pytest.raises(LeaseHeld):
        Safeguards(pulse(lease, Clock()), None, 0, None, lambda: None).judge(0)


def test_a_lease_outlives_every_worker_and_every_pause_before_its_next_beat() -> None:
    assert LEASE_SECONDS > 15 * 60 + BEAT_SECONDS


@pytest.mark.parametrize(("budget", "seen", "stops"), [(10, 10, False), (10, 11, True), (0, 0, False), (0, 1, True), (None, 10_000, False)])
def test_the_budget_is_what_may_be_left_behind_and_not_one_more(budget: int | None, seen: int, stops: bool) -> None:
    safeguards = Safeguards(CountingPulse(), None, 0, budget, lambda: None, "1-start")
    if not stops:
        safeguards.judge(seen)
        return
    with pytest.raises(TooManyUnreadable, match=rf"^{seen} values are unreadable so far, more than the {budget} .*\(unreadableBudget\)"):
        safeguards.judge(seen)


def test_a_pass_that_writes_nothing_is_never_stopped() -> None:
    no_safeguards().judge(10_000)


def rewrite() -> Rewrite:
    row = Row((7,), (b"old", None, b"old too", None))
    return Rewrite(GROUP, row, {0: b"new", 2: b"new too"}, {0: [Change(None, b"old", "d1")], 2: [Change(None, b"old too", "d2")]})


def test_the_old_bytes_are_in_the_journal_when_the_write_may_begin_and_only_once_the_server_can_bear_it() -> None:
    order = Order()
    kept: list[tuple[int, list[Entry]]] = []

    class FakeJournal:
        def record(self, chunk: int, entries: Iterable[Entry]) -> None:
            order.done.append("journal")
            kept.append((chunk, list(entries)))

    Safeguards(CountingPulse(), cast("Journal", FakeJournal()), 12, None, order.note("throttle")).before_write([rewrite()])
    assert order.done == ["throttle", "journal"]
    assert kept == [
        (12, [Entry("user_auth", GROUP.columns[0].id, (7,), None, b"old", "d1"), Entry("user_auth", GROUP.columns[2].id, (7,), None, b"old too", "d2")])
    ]


def test_without_a_journal_the_server_is_asked_all_the_same() -> None:
    order = Order()
    Safeguards(CountingPulse(), None, 12, None, order.note("throttle")).before_write([rewrite()])
    assert order.done == ["throttle"]


def throttle(clock: Clock, loads: list[int], asked: list[int], out_of_time: Callable[[], bool] = lambda: False) -> Throttle:
    def running() -> int:
        asked.append(loads[0] if len(loads) == 1 else loads.pop(0))
        return asked[-1]

    return Throttle(running, 25, out_of_time, clock.sleep, clock)


def test_a_server_at_leisure_is_asked_at_most_once_a_second_and_never_waited_for() -> None:
    clock, asked = Clock(), list[int]()
    pausing = throttle(clock, [25], asked)
    for _ in range(25):
        pausing.wait()
        clock.now += 0.1
    assert (len(asked), clock.slept) == (3, [])


def test_a_busy_server_is_left_alone_for_longer_and_longer_until_it_is_at_leisure() -> None:
    clock, asked = Clock(), list[int]()
    throttle(clock, [26, 40, 26, 26, 26, 26, 26, 25], asked).wait()
    assert clock.slept == [0.25, 0.5, 1, 2, 4, 5, 5]


def test_a_worker_near_its_deadline_pauses_no_longer() -> None:
    clock, asked = Clock(), list[int]()
    throttle(clock, [100], asked, lambda: clock.now >= 1010).wait()
    assert 10 <= sum(clock.slept) < 15


def test_what_is_to_be_written_is_shown_nowhere() -> None:
    shown: Any = rewrite()
    assert "old" not in repr(shown)
    assert "new" not in repr(shown).replace("new='d", "")
