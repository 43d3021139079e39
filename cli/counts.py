"""What a run has done so far, added up from the outcomes that its workers leave in the run bucket, each read once.

They are the objects that the report is made of (reencrypt/operations/passes.py), so the counts here become those of the report.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from cli.stack import Stack
from reencrypt.operations.passes import Pass
from reencrypt.operations.plan_chunks import PLAN
from reencrypt.operations.preflight import PREFLIGHT

_READERS = 8
_AT_ONCE = 200  # objects in one round; what is left over is read in the next
_OBJECTS_PER_SECOND = 500  # a list of so many objects is asked for a second less often


class Counts:
    """The counts of one run; `by_phase` has a pass for each phase that has left outcomes."""

    def __init__(self, stack: Stack, run: str, clock: Callable[[], float]) -> None:
        self.run = run
        self.by_phase: dict[str, Pass] = {}
        self.facts: dict[str, Any] = {}
        self.plan: dict[str, Any] = {}
        self._stack, self._store, self._clock = stack, stack.store(run), clock
        self._read: dict[str, set[str]] = {}
        self._next = 0.0

    def read_on(self, phases: list[str]) -> set[str]:
        """Reads what the workers of `phases` have left since the last time; and, once they are there, what the preflight and the plan found.

        Returns the phases of which everything that is there now has been read.
        """
        self.facts = self.facts or self._find(PREFLIGHT) or {}
        self.plan = self.plan or (self._find(PLAN) or {} if self.facts else {})
        if self._clock() < self._next:
            return set()
        whole = {phase for phase in phases if self._read_phase(phase)}
        self._next = self._clock() + sum(map(len, self._read.values())) // _OBJECTS_PER_SECOND
        return whole

    def total(self) -> tuple[float, int]:
        """Worker seconds and deliveries over every phase: what the cost is made of."""
        return sum(found.seconds for found in self.by_phase.values()), sum(found.deliveries for found in self.by_phase.values())

    def _read_phase(self, phase: str) -> bool:
        read = self._read.setdefault(phase, set())
        listed = self._stack.patience(lambda: list(self._store.keys(f"outcomes/{phase}/")))
        new = [key for key in listed if key not in read][:_AT_ONCE]
        if not new:
            return True
        found = self.by_phase.setdefault(phase, Pass())
        with ThreadPoolExecutor(min(_READERS, len(new))) as pool:
            for key, outcome in zip(new, pool.map(self._find, new), strict=True):
                if outcome is not None:
                    found.add(outcome)
                    read.add(key)
        return len(read) >= len(listed)

    def _find(self, key: str) -> Any:
        return self._stack.patience(partial(self._store.find_json, key))
