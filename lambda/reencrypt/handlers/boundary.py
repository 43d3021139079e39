"""The boundary of every Lambda function: what may leave it, and in which form.

Our own exceptions pass with their class name, which the state machine's Retry and Catch know. Anything else becomes an InternalError that
names where it happened and not what it said: a driver's message could carry a value.
"""

from __future__ import annotations

import functools
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.parameters.exceptions import GetParameterError
from botocore.exceptions import BotoCoreError, ClientError

from reencrypt.errors import AwsRefused, InternalError, ReencryptError
from reencrypt.operations.modes import mode_word

logger = Logger()

Handler = Callable[[dict[str, Any], Any], dict[str, Any]]


def boundary(handler: Handler, *, tells: bool = True) -> Handler:
    """Wraps a Lambda handler: every log line names the run, and only exceptions that are safe to show leave.

    It `tells` when the function starts and ends, but for one that has a line of its own to say.
    """

    @functools.wraps(handler)
    def guarded(event: dict[str, Any], context: Any) -> dict[str, Any]:
        tell = logger.info if tells else logger.debug
        with logger.append_context_keys(**_keys(event)):
            try:
                tell("started")
                summary = handler(event, context)
            except Exception as error:
                safe = shown(error)
            else:
                tell("done", extra={"summary": summary})
                return summary
            logger.error(str(safe), extra={"error": type(safe).__name__})
        raise safe  # out here, so that the original does not come along as its context

    return guarded


def _keys(event: object) -> dict[str, Any]:
    """What correlates the lines of a run: its name and mode, and of a worker its chunk and pass."""
    if not isinstance(event, dict):
        return {"run": None}
    keys = {"run": event.get("run")}
    if "input" in event:
        keys["mode"] = mode_word(event["input"])
    if isinstance(chunk := event.get("chunk"), dict):
        keys["chunk"] = chunk.get("id")
    if "phase" in event:
        keys["phase"] = event["phase"]
    return keys


def shown(error: Exception) -> ReencryptError:
    """What leaves instead of `error`."""
    if isinstance(error, ReencryptError):
        error.__cause__ = error.__context__ = None
        return error.with_traceback(None)
    if isinstance(error, GetParameterError) and isinstance(error.__context__, (ClientError, BotoCoreError)):
        error = error.__context__  # Powertools' name for whatever Secrets Manager answered
    if isinstance(error, ClientError):
        code = error.response.get("Error", {}).get("Code", "an unknown error")
        return AwsRefused(f"AWS answers {code} to {error.operation_name}; see the IAM role of this function and the deployment settings")
    if isinstance(error, BotoCoreError):
        return AwsRefused(f"AWS cannot be called: {type(error).__name__}; see the function's network settings")
    return InternalError(f"{type(error).__name__} at {_where(error)}; this is a bug, please report it")


def _where(error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "reencrypt" in Path(frame.filename).parts]
    frame = (ours or frames)[-1]
    return f"{Path(frame.filename).stem}:{frame.lineno} ({frame.name})"
