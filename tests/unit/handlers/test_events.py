"""Each handler hands its operation what the state machine delivers, and keeps the lease where its run goes on to wait."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from reencrypt.errors import InvalidInput, LeaseHeld
from reencrypt.handlers import deadline, judge_scan, remove_data_keys, rewrap_data_keys
from reencrypt.operations.modes import Mode
from reencrypt.operations.run_input import RunInput
from reencrypt.operations.safeguards import LEASE_SECONDS

EVENT = {"run": "r1", "input": {"mode": "prune-data-keys"}, "execution": "arn:execution"}


@dataclass
class Context:
    """Lambda's context: `left` milliseconds."""

    left: int = 900_000

    def get_remaining_time_in_millis(self) -> int:
        return self.left


@dataclass
class HeldLease:
    """A lease that remembers for how long it was renewed, or is `lost`."""

    lost: bool = False
    renewed: list[tuple[str, int]] = field(default_factory=list)

    def renew(self, owner: str, seconds: int) -> int:
        if self.lost:
            raise LeaseHeld("another run has it")
        self.renewed.append((owner, seconds))
        return 0


def _workspace(run: str, execution: str | None = None) -> tuple[str, str | None]:
    return run, execution


@pytest.fixture
def lease(monkeypatch: pytest.MonkeyPatch) -> HeldLease:
    held = HeldLease()
    monkeypatch.setattr(judge_scan, "lease", lambda: held)
    monkeypatch.setattr(judge_scan, "workspace", _workspace)
    return held


def test_a_prune_that_waits_keeps_its_lease_for_as_long(monkeypatch: pytest.MonkeyPatch, lease: HeldLease) -> None:
    calls: list[Any] = []
    answer = {"phase": "scan", "next": "settle", "seconds": 960, "retired": 2}

    def judge(*arguments: object) -> dict[str, Any]:
        calls.append((arguments, list(lease.renewed)))
        return answer

    monkeypatch.setattr(judge_scan, "judge_scan", judge)
    assert judge_scan.handler({**EVENT, "phase": "survey"}, Context()) == answer
    request = RunInput(mode=Mode.PRUNE_DATA_KEYS)
    assert calls == [((request, ("r1", "arn:execution"), "survey"), [("arn:execution", LEASE_SECONDS)])], "the lease is renewed before anything is changed"
    assert lease.renewed == [("arn:execution", LEASE_SECONDS), ("arn:execution", 960 + LEASE_SECONDS)]


def test_a_run_that_has_lost_its_lease_deactivates_no_data_key(monkeypatch: pytest.MonkeyPatch, lease: HeldLease) -> None:
    lease.lost = True
    monkeypatch.setattr(judge_scan, "judge_scan", lambda *_: pytest.fail("it went on"))
    with pytest.raises(LeaseHeld):
        judge_scan.handler({**EVENT, "phase": "survey"}, Context())


@pytest.mark.parametrize(
    ("module", "name", "answer"),
    [(rewrap_data_keys, "rewrap", {"done": False, "rewrapped": 25, "failed": 0}), (remove_data_keys, "remove_data_keys", {"removed": 1, "kept": {}})],
    ids=["rewrap_data_keys", "remove_data_keys"],
)
def test_a_step_over_data_keys_works_in_the_name_of_its_execution(monkeypatch: pytest.MonkeyPatch, module: Any, name: str, answer: dict[str, Any]) -> None:
    calls: list[tuple[Any, ...]] = []

    def operation(*arguments: Any) -> dict[str, Any]:
        calls.append(arguments)
        return answer

    monkeypatch.setattr(module, name, operation)
    monkeypatch.setattr(module, "workspace", _workspace)
    assert module.handler(EVENT, Context()) == answer
    ((request, workspace, *_),) = calls
    assert (request.mode, workspace) == (Mode.PRUNE_DATA_KEYS, ("r1", "arn:execution"))


def test_wrapping_anew_is_told_when_its_time_is_nearly_over(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Callable[[], bool]] = []

    def rewrap(_request: object, _workspace: object, out_of_time: Callable[[], bool], _derive: object) -> dict[str, Any]:
        asked.append(out_of_time)
        return {}

    monkeypatch.setattr(rewrap_data_keys, "workspace", _workspace)
    monkeypatch.setattr(rewrap_data_keys, "rewrap", rewrap)
    context = Context()
    rewrap_data_keys.handler(EVENT, context)
    (out_of_time,) = asked
    assert not out_of_time()
    context.left = 59_999
    assert out_of_time()


@pytest.mark.parametrize(("whole", "margin"), [(900_000, 60_000), (60_000, 15_000)])
def test_a_quarter_of_a_functions_time_but_a_minute_at_most_is_kept_for_the_end(whole: int, margin: int) -> None:
    context = Context(whole)
    out_of_time = deadline.out_of_time(context)
    for left, over in ((margin, False), (margin - 1, True)):
        context.left = left
        assert out_of_time() is over


@pytest.mark.parametrize("handler", [judge_scan.handler, rewrap_data_keys.handler, remove_data_keys.handler])
def test_an_input_that_is_wrong_reaches_no_operation(handler: Callable[[Any, Any], dict[str, Any]], lease: HeldLease) -> None:
    with pytest.raises(InvalidInput):
        handler({**EVENT, "phase": "survey", "input": {"mode": "prune"}}, Context())
