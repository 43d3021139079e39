"""The product's CloudWatch metrics: which there are (`METRICS`), and how they leave a function.

They leave as lines of its log in CloudWatch's embedded metric format, made by Powertools: no call, so no permission and no VPC endpoint. Dimensions are the
stack alone, and stack and mode: eleven words at most, so the number of metrics is bounded. A value is a number; no text of a run can be one.
Source: https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from aws_lambda_powertools.metrics.provider.cloudwatch_emf.cloudwatch import AmazonCloudWatchEMFProvider

from reencrypt.handlers.boundary import logger

NAMESPACE = "GrafanaReencrypt"


@dataclass(frozen=True)
class Metric:
    """A metric's name and unit, the function that emits it, and what it tells."""

    name: str
    unit: Literal["Count", "Seconds", "None"]
    function: str
    meaning: str


METRICS = (
    Metric("RunsSucceeded", "Count", "report", "A run that succeeded"),
    Metric("RunsSucceededWithUnreadable", "Count", "report", "A run that succeeded with values that nothing could read, as its input allows"),
    Metric("RunsFailed", "Count", "report", "A run that failed and could still say so"),
    Metric("RunsNothingFound", "Count", "report", "A run that found not a single secret, which is a failure"),
    Metric("RunSeconds", "Seconds", "report", "How long a run took, waiting included"),
    Metric("ValuesReEncrypted", "Count", "report", "Values that a run re-encrypted; of a plan and a verify: values under an old key"),
    Metric("ValuesAlreadyCurrent", "Count", "report", "Values that were under the right key"),
    Metric("ValuesEmpty", "Count", "report", "Values that are empty"),
    Metric("ValuesChangedByGrafana", "Count", "report", "Values that Grafana has written meanwhile, which stay Grafana's"),
    Metric("ValuesPlaintext", "Count", "report", "Values that stand in the database in plaintext"),
    Metric("ValuesUnreadable", "Count", "report", "Values that nothing could read"),
    Metric("DataKeysRewrapped", "Count", "report", "Data keys that a run wrapped anew"),
    Metric("DataKeysRemoved", "Count", "report", "Data keys that a run removed"),
    Metric("ChunkSeconds", "Seconds", "process_chunk", "How long a worker was at one stretch of a chunk"),
    Metric("ChunkRows", "Count", "process_chunk", "Rows of that stretch"),
    Metric("ChunkValues", "Count", "process_chunk", "Values of that stretch"),
    Metric("DaysSinceSuccess", "None", "watch_age", "Days since the last run of a scheduled mode that succeeded"),
)
_UNITS = {metric.name: metric.unit for metric in METRICS}
_RUNS = {"succeeded": "RunsSucceeded", "succeeded-with-unreadable": "RunsSucceededWithUnreadable", "failed": "RunsFailed", "nothing-found": "RunsNothingFound"}
_VALUES = {
    "re_encrypted": "ValuesReEncrypted", "already_current": "ValuesAlreadyCurrent", "empty": "ValuesEmpty", "changed_by_grafana": "ValuesChangedByGrafana",
    "plaintext": "ValuesPlaintext",
}  # fmt: skip


def stack_name() -> str:
    """The stack that this function belongs to."""
    return os.environ.get("POWERTOOLS_SERVICE_NAME", "unknown")


def of_run(facts: Mapping[str, Any]) -> dict[str, float]:
    """The metrics of a run by its report."""
    rewrapped, removed = facts["rewrapped"], facts["removed"]
    return {
        _RUNS[facts["outcome"]]: 1,
        "RunSeconds": facts["seconds"],
        **{name: facts["totals"].get(outcome, 0) for outcome, name in _VALUES.items()},
        "ValuesUnreadable": len(facts["unreadable"]),  # those that only the verification found are none of the totals
        "DataKeysRewrapped": sum(rewrapped["rewrapped"].values()) if rewrapped else 0,
        "DataKeysRemoved": len(removed["removed"]) if removed else 0,
    }


def of_chunk(outcome: Mapping[str, Any]) -> dict[str, float]:
    """The metrics of one stretch of a chunk by what became of it."""
    values = sum(sum(counts.values()) for counts in outcome["columns"].values())
    return {"ChunkSeconds": outcome["seconds"], "ChunkRows": outcome["rows"], "ChunkValues": values}


def emit(mode: str, values: Mapping[str, float]) -> None:
    """Writes the metrics `values` of a run of `mode` to the log. `mode` is a mode's name or `invalid`."""
    emf = AmazonCloudWatchEMFProvider(namespace=NAMESPACE)
    emf.service = ""  # else it is a third dimension, with the stack's name again
    emf.add_dimension("stack", stack_name())
    emf.add_dimensions(stack=stack_name(), mode=mode)
    for name, value in values.items():
        emf.add_metric(name, _UNITS[name], value)
    written = json.dumps(emf.serialize_metric_set(), separators=(",", ":"))
    # Into the logger's own stream, and not by print: what leaves a function leaves in one place.
    handler = logger.registered_handler
    if not isinstance(handler, logging.StreamHandler):
        raise TypeError("the logger of Powertools writes to a stream")
    handler.stream.write(written + "\n")
    handler.flush()
