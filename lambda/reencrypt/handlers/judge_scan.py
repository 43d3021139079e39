"""Judge the look through every column: may the run go on, and what follows?"""

from __future__ import annotations

from typing import Any

from reencrypt.handlers.boundary import boundary
from reencrypt.handlers.workspace import lease, workspace
from reencrypt.operations import run_input
from reencrypt.operations.judge_scan import judge_scan
from reencrypt.operations.safeguards import LEASE_SECONDS


@boundary
def handler(event: dict[str, Any], _context: Any) -> dict[str, Any]:
    """{"run", "input", "execution", "phase"} → {"phase", "next", "seconds", "retired"}; keeps the lease for as long as the run will wait."""
    held = lease()
    held.renew(event["execution"], LEASE_SECONDS)  # first: a run that has lost its lease must change nothing
    judged = judge_scan(run_input.parse(event["input"]), workspace(event["run"], event["execution"]), event["phase"])
    held.renew(event["execution"], judged["seconds"] + LEASE_SECONDS)
    return judged
