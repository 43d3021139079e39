"""After a pass of a run that writes: is it whole, and what comes next?

A running Grafana puts old ciphertexts back and may write under a data key that it holds in a cache (docs/architecture.md). So the first pass of a
run that rewrites values is followed by a wait until those caches have expired, and then by sweeps until one finds nothing under an old key. A run
that wraps data keys anew does so after its first pass, which has read everything that they protect.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from reencrypt.operations.outcomes import Outcome
from reencrypt.operations.passes import Pass, collect
from reencrypt.operations.preflight import PREFLIGHT
from reencrypt.operations.run_input import RunInput
from reencrypt.operations.work import Phase
from reencrypt.storage.objects import RunStore


class Next(StrEnum):
    """The step that follows a pass."""

    SETTLE = "settle"
    SWEEP = "sweep"
    REWRAP = "rewrap"
    VERIFY = "verify"


def judge_pass(request: RunInput, store: RunStore, number: int) -> dict[str, Any]:
    """Judges pass `number` (0: the first one, n: sweep n); returns {"number", "phase", "moved", "next", "seconds"} for the next one.

    `seconds` is how long to settle. Raises IncompleteRun when a chunk has no outcome, or what stopped the run's workers.
    """
    phase = Phase.sweep(number)
    found = collect(store, phase)
    settle = int(store.get_json(PREFLIGHT)["settle_seconds"])
    moved, missed = (found.totals()[outcome] for outcome in (Outcome.RE_ENCRYPTED, Outcome.CHANGED_BY_GRAFANA))
    if number:
        store.put_json(_name(number), _record(number, found))
    if request.mode.steps.rewraps:
        following = Next.REWRAP
    elif not request.mode.steps.sweeps or (settle == 0 and not number):
        following = Next.VERIFY
    elif not number:
        following = Next.SETTLE
    else:
        following = Next.SWEEP if (moved or missed) and number < request.max_sweeps else Next.VERIFY
    return {
        "number": number + 1, "phase": Phase.sweep(number + 1).value, "moved": moved, "next": following.value, "seconds": settle,
    }  # fmt: skip


def sweeps(store: RunStore) -> list[dict[str, Any]]:
    """What each sweep that has ended found, in order."""
    found: list[dict[str, Any]] = [entry for key in store.keys("sweeps/") if (entry := store.find_json(key)) is not None]
    return sorted(found, key=lambda entry: int(entry["sweep"]))


def _name(number: int) -> str:
    return f"sweeps/{number:03d}.json"


def _record(number: int, found: Pass) -> Mapping[str, Any]:
    totals = found.totals()
    return {
        "sweep": number, "values": sum(totals.values()), "moved": totals[Outcome.RE_ENCRYPTED], "changed_by_grafana": totals[Outcome.CHANGED_BY_GRAFANA],
        "columns": {column: counts[Outcome.RE_ENCRYPTED] for column, counts in found.counts.items() if counts[Outcome.RE_ENCRYPTED]},
        "seconds": round(found.seconds, 3), "deliveries": found.deliveries,
    }  # fmt: skip
