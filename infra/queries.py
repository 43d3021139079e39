"""Saved CloudWatch Logs Insights queries over the functions' logs: what an operator asks when a run is slow, or has failed.

The lines are JSON (`reencrypt/handlers/boundary.py`): `run`, `mode`, `phase` and `chunk` say what a line is about, `message` says it in words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aws_cdk import aws_logs as logs
from constructs import Construct

# By name; RUN stands for the name of a run, to be put in before the query is run.
QUERIES: Mapping[str, tuple[str, ...]] = {
    "chunks of a run": (
        "fields @timestamp, phase, chunk, message",
        'filter run = "RUN" and ispresent(chunk)',
        "sort @timestamp asc",
        "limit 10000",
    ),
    "errors": (
        "fields @timestamp, run, mode, phase, chunk, error, message, @message",
        # What Lambda itself says of a function that died has no level.
        'filter level in ["ERROR", "CRITICAL"] or @message like /Task timed out|Runtime.ExitError|Runtime.OutOfMemory/',
        "sort @timestamp desc",
        "limit 200",
    ),
    "slowest chunks": (
        "fields run, phase, chunk, seconds, rows, message",
        "filter ispresent(chunk) and ispresent(seconds)",
        "sort seconds desc",
        "limit 25",
    ),
    "unreadable by reason": (
        "filter ispresent(reason)",
        "stats sum(count) as values by run, reason, column",
        "sort values desc",
    ),
}


class SavedQueries(Construct):
    """`QUERIES`, in a folder with the stack's name."""

    def __init__(self, scope: Construct, construct_id: str, *, stack_name: str, log_groups: Sequence[logs.ILogGroup]) -> None:
        super().__init__(scope, construct_id)
        for name, lines in QUERIES.items():
            logs.CfnQueryDefinition(
                self,
                "".join(word.title() for word in name.split()),
                name=f"{stack_name}/{name}",
                query_string="\n| ".join(lines),
                log_group_names=[group.log_group_name for group in log_groups],
            )
