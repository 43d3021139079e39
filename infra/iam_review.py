"""The IAM review as tables: principal, action, resource, why. Written into docs/iam.md between its marks by `python -m infra.iam_review`.

The functions' part is `infra/permissions.py` itself; what CDK grants for the others stands here, and tests compare both with the templates.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from infra.permissions import PERMISSIONS, Permission, Target

PAGE = Path(__file__).resolve().parent.parent / "docs" / "iam.md"

RESOURCES: Mapping[Target, str] = {
    "settings secrets": "the secrets of `grafana_ini_secret`, `grafana_environment_secret`, `[grafana_environment]` and `database.secret`",
    "settings parameters": "the parameters of `grafana_ini_parameter` and `[grafana_environment]`",
    "settings object": "the object of `grafana_ini_object`",
    "settings object version": "the object of `grafana_ini_object`, with a `version`",
    "settings keys": "the keys of `settings_kms_key_arns`, through Secrets Manager, SSM and S3 only",
    "database user": "`database.user` of `database.resource_id`",
    "database instance": "the instance of `database.instance`",
    "database cluster": "the cluster of `database.cluster`",
    "kms keys": "the keys of `kms_key_arns`",
    "kms role": "the role of `kms_role_to_assume`",
    "run objects": "`runs/*` in the run bucket",
    "run bucket": "the run bucket",
    "lease table": "the lease table",
    "journal objects": "`journal/*` in the journal bucket",
    "journal bucket": "the journal bucket",
    "journal key": "the journal's key",
}


@dataclass(frozen=True)
class Grant:
    """What a principal that is no function may do, or every function."""

    principal: str
    actions: tuple[str, ...]
    resource: str
    why: str


_ENI = tuple(f"ec2:{name}" for name in ("CreateNetworkInterface", "DescribeNetworkInterfaces", "DescribeSubnets", "DeleteNetworkInterface",
                                        "AssignPrivateIpAddresses", "UnassignPrivateIpAddresses"))  # fmt: skip
_DELIVERY = tuple(f"logs:{name}" for name in ("CreateLogDelivery", "GetLogDelivery", "UpdateLogDelivery", "DeleteLogDelivery", "ListLogDeliveries",
                                              "PutResourcePolicy", "DescribeResourcePolicies", "DescribeLogGroups"))  # fmt: skip
EVERY_FUNCTION = (
    Grant("every function", ("logs:CreateLogStream", "logs:PutLogEvents"), "its own log group", "writes its log"),
    Grant("every function", ("xray:PutTraceSegments", "xray:PutTelemetryRecords"), "`*`: they take no resource", "leaves its part of the trace"),
    Grant("every function, with `[vpc]`", _ENI, "`*`: an interface has no name beforehand", "Lambda gives it a network interface in the subnets"),
)
OTHERS = (
    Grant("the state machine", ("lambda:InvokeFunction",), "the stack's functions", "a state is a call of a function"),
    Grant("the state machine", ("states:StartExecution",), "itself", "a map starts its children as executions of this state machine"),
    Grant("the state machine", ("states:DescribeExecution", "states:StopExecution", "states:RedriveExecution"), "its own executions",
          "a map waits for its children, stops them with the run and redrives them with it"),
    Grant("the state machine", ("s3:GetObject", "s3:PutObject", "s3:ListMultipartUploadParts", "s3:AbortMultipartUpload"), "objects of the run bucket",
          "a map reads the manifest of chunks and writes its results"),
    Grant("the state machine", ("sns:Publish",), "the topic", "tells how a run ended"),
    Grant("the state machine", ("kms:Decrypt", "kms:GenerateDataKey"), "the topic's key", "the topic is encrypted"),
    Grant("the state machine", ("events:PutEvents",), "the default event bus", "announces what became of the run"),
    Grant("the state machine", _DELIVERY, "`*`: they take no resource", "Step Functions delivers its log"),
    Grant("the state machine", ("xray:PutTraceSegments", "xray:PutTelemetryRecords", "xray:GetSamplingRules", "xray:GetSamplingTargets"),
          "`*`: they take no resource", "leaves its part of the trace"),
    Grant("the rules", ("sns:Publish",), "the topic", "tell of a run that was stopped or timed out"),
    Grant("the rules", ("kms:Decrypt", "kms:GenerateDataKey"), "the topic's key", "the topic is encrypted"),
    Grant("a schedule", ("states:StartExecution",), "the state machine", "starts a run"),
    Grant("a schedule", ("sqs:SendMessage",), "the dead-letter queue", "keeps a start that AWS refused"),
    Grant("a schedule", ("lambda:InvokeFunction",), "the function `watch_age`", "looks each day whether scheduled runs succeed"),
)  # fmt: skip


def tables() -> str:
    """Both tables, in Markdown."""
    functions = [row for name, permissions in PERMISSIONS.items() for row in _rows(f"`{name}`", permissions)]
    others = [_row(grant.principal, grant.actions, grant.resource, grant.why) for grant in (*EVERY_FUNCTION, *OTHERS)]
    head = "| who | action | resource | why |\n|---|---|---|---|\n"
    return f"## The functions\n\n{head}{''.join(functions)}\n## Everything else\n\n{head}{''.join(others)}"


def _rows(function: str, permissions: Iterable[Permission]) -> list[str]:
    rows = [_row(function, permission.actions, RESOURCES[permission.target], permission.why) for permission in permissions]
    return rows or [_row(function, (), "", "touches nothing")]


def _row(who: str, actions: Iterable[str], resource: str, why: str) -> str:
    return f"| {who} | {' '.join(f'`{action}`' for action in actions) or 'nothing'} | {resource} | {why} |\n"


_BEGIN, _END = "<!-- written by python -m infra.iam_review: do not edit -->\n", "<!-- end -->\n"


def written(page: str) -> str:
    """The page with the tables as they are now."""
    return re.sub(rf"(?s)(?<={re.escape(_BEGIN)}).*(?={re.escape(_END)})", lambda _: f"\n{tables()}\n", page)


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    sys.stdout.write(f"{PAGE.name}\n")
