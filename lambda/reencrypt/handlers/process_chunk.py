"""Process chunk: one delivery of one chunk, up to its end or this function's deadline."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from reencrypt.handlers.acquire_lease import LEASE_SECONDS
from reencrypt.handlers.boundary import boundary
from reencrypt.handlers.workspace import derive_key, lease, workspace
from reencrypt.operations import run_input
from reencrypt.operations.work import Delivery, Phase, work

_MARGIN_SHARE = 0.25
_MARGIN_LIMIT_MILLISECONDS = 60_000


@boundary
def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """{"run", "input", "execution", "phase", "chunk", "position"} → {"chunk", "done", "position", "rows", "values"}."""
    request, position = run_input.parse(event["input"]), event["position"]
    if request.mode.writes:
        lease().renew(event["execution"], LEASE_SECONDS)
    delivery = Delivery(Phase(event["phase"]), event["chunk"], None if position is None else tuple(position))
    return work(request, delivery, workspace(event["run"]), _out_of_time(context), derive_key)


def _out_of_time(context: Any) -> Callable[[], bool]:
    """True once a quarter of the time, a minute at most, is left: a page takes seconds."""
    margin = min(context.get_remaining_time_in_millis() * _MARGIN_SHARE, _MARGIN_LIMIT_MILLISECONDS)
    return lambda: context.get_remaining_time_in_millis() < margin
