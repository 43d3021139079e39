"""Process chunk: one delivery of one chunk, up to its end or this function's deadline."""

from __future__ import annotations

import contextlib
import functools
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from reencrypt.handlers import metrics
from reencrypt.handlers.boundary import boundary, logger, shown
from reencrypt.handlers.deadline import out_of_time
from reencrypt.handlers.workspace import derive_key, run_store, workspace
from reencrypt.operations import chunk_line, last_error, run_input
from reencrypt.operations.work import Delivery, Phase, summary, work_through


@functools.partial(boundary, tells=False)
def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """{"run", "input", "execution", "phase", "chunk", "position", "limit"} → {"chunk", "done", "position", "limit", "rows", "values"}."""
    try:
        request = run_input.parse(event["input"])
        outcome = work_through(request, delivery(event), workspace(event["run"], event["execution"]), out_of_time(context), derive_key)
    except Exception as error:
        with contextlib.suppress(ClientError, BotoCoreError):  # S3 may be what refuses: the first error is the one to tell
            last_error.leave(run_store(event["run"]), event["phase"], event["chunk"]["id"], shown(error))
        raise
    _tell(request.mode.value, event["phase"], outcome)
    return summary(outcome)


def _tell(mode: str, phase: str, outcome: dict[str, Any]) -> None:
    """The one line of the log about this stretch, and its metrics."""
    counted = {"rows": outcome["rows"], "seconds": outcome["seconds"], **chunk_line.counts(outcome)}
    logger.info(chunk_line.line(mode, phase, outcome), extra=counted)
    metrics.emit(mode, metrics.of_chunk(outcome))


def delivery(event: dict[str, Any]) -> Delivery:
    """What the state machine delivers to a worker."""
    position = event["position"]
    return Delivery(Phase(event["phase"]), event["chunk"], None if position is None else tuple(position), event["limit"])
