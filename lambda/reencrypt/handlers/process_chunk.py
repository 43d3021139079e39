"""Process chunk: one delivery of one chunk, up to its end or this function's deadline."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from reencrypt.handlers.boundary import boundary, shown
from reencrypt.handlers.workspace import derive_key, run_store, workspace
from reencrypt.operations import last_error, run_input
from reencrypt.operations.work import Delivery, Phase, work

_MARGIN_SHARE = 0.25
_MARGIN_LIMIT_MILLISECONDS = 60_000


@boundary
def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """{"run", "input", "execution", "phase", "chunk", "position", "limit"} → {"chunk", "done", "position", "limit", "rows", "values"}."""
    try:
        return work(run_input.parse(event["input"]), delivery(event), workspace(event["run"], event["execution"]), _out_of_time(context), derive_key)
    except Exception as error:
        with contextlib.suppress(ClientError, BotoCoreError):  # S3 may be what refuses: the first error is the one to tell
            last_error.leave(run_store(event["run"]), event["phase"], event["chunk"]["id"], shown(error))
        raise


def delivery(event: dict[str, Any]) -> Delivery:
    """What the state machine delivers to a worker."""
    position = event["position"]
    return Delivery(Phase(event["phase"]), event["chunk"], None if position is None else tuple(position), event["limit"])


def _out_of_time(context: Any) -> Callable[[], bool]:
    """True once a quarter of the time, a minute at most, is left: a page takes seconds."""
    margin = min(context.get_remaining_time_in_millis() * _MARGIN_SHARE, _MARGIN_LIMIT_MILLISECONDS)
    return lambda: context.get_remaining_time_in_millis() < margin
