"""Judge the pass: is it whole, and does a wait, a sweep or the verification follow?"""

from __future__ import annotations

from typing import Any

from reencrypt.handlers.boundary import boundary
from reencrypt.handlers.workspace import lease, run_store
from reencrypt.operations import run_input
from reencrypt.operations.judge_pass import Next, judge_pass
from reencrypt.operations.safeguards import LEASE_SECONDS


@boundary
def handler(event: dict[str, Any], _context: Any) -> dict[str, Any]:
    """{"run", "input", "execution", "number"} → {"number", "phase", "moved", "next", "seconds"}; keeps the lease for as long as the run will wait."""
    held = lease()
    held.renew(event["execution"], LEASE_SECONDS)  # first: a run that has lost its lease has failed for that reason
    judged = judge_pass(run_input.parse(event["input"]), run_store(event["run"]), event["number"])
    if judged["next"] == Next.SETTLE:
        held.renew(event["execution"], judged["seconds"] + LEASE_SECONDS)
    return judged
