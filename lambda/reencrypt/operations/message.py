"""The message that people get by e-mail when a run has ended: the headline, where the report is, what to do.

Plain text, made of what the report says, so it holds what the report may hold: no value, no key, no password.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def message(stack: str, facts: Mapping[str, Any], report: str, html: str) -> str:
    """`facts` is the report, which lies at `html` (for people) and at `report` (for programs)."""
    steps = [f"  - {step}" for step in facts.get("next_steps", ())] or ["  - Nothing."]
    return "\n".join(
        [
            facts["headline"],
            "",
            f"Run:    {facts['run']}, mode {facts['mode']}, of {stack}",
            f"Report: {html}",
            f"        {report}",
            "",
            "What to do:",
            *steps,
        ]
    )
