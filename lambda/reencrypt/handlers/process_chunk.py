"""Process chunk: one delivery of one chunk, up to its end or this function's deadline."""

from __future__ import annotations

import contextlib
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from reencrypt.handlers.boundary import boundary, shown
from reencrypt.handlers.deadline import out_of_time
from reencrypt.handlers.workspace import derive_key, run_store, workspace
from reencrypt.operations import last_error, run_input
from reencrypt.operations.work import Delivery, Phase, work


@boundary
def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """{"run", "input", "execution", "phase", "chunk", "position", "limit"} → {"chunk", "done", "position", "limit", "rows", "values"}."""
    try:
        return work(run_input.parse(event["input"]), delivery(event), workspace(event["run"], event["execution"]), out_of_time(context), derive_key)
    except Exception as error:
        with contextlib.suppress(ClientError, BotoCoreError):  # S3 may be what refuses: the first error is the one to tell
            last_error.leave(run_store(event["run"]), event["phase"], event["chunk"]["id"], shown(error))
        raise


def delivery(event: dict[str, Any]) -> Delivery:
    """What the state machine delivers to a worker."""
    position = event["position"]
    return Delivery(Phase(event["phase"]), event["chunk"], None if position is None else tuple(position), event["limit"])
