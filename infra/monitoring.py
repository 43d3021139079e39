"""What an operator looks at: alarms, a dashboard, and saved queries over the logs. See docs/monitoring.md.

Alarms and dashboard can be switched off (`alarms`, `dashboard`); the queries cost nothing and are always there.
"""

from __future__ import annotations

from collections.abc import Sequence

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_stepfunctions as sfn
from constructs import Construct

from infra.alarms import Alarms, own_metric, run_rules, schedule_rules
from infra.notifications import Notifications
from infra.queries import QUERIES, SavedQueries
from infra.schedule import Schedules
from infra.settings import DeploymentSettings
from infra.workers import Workers

_HALF, _WHOLE = 12, 24
_HOUR = cdk.Duration.hours(1)
_VALUES = ("ValuesReEncrypted", "ValuesAlreadyCurrent", "ValuesChangedByGrafana", "ValuesPlaintext", "ValuesUnreadable")


class Monitoring(Construct):
    """Watches the runs of one stack."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        settings: DeploymentSettings,
        workers: Workers,
        machine: sfn.StateMachine,
        notifications: Notifications,
        schedules: Schedules,
    ) -> None:
        super().__init__(scope, construct_id)
        name = settings.stack_name
        SavedQueries(self, "Queries", stack_name=name, log_groups=workers.log_groups)
        alarms: Sequence[cloudwatch.Alarm] = ()
        if settings.alarms:
            notifications.allow_alarms()
            rules = [*run_rules(name, machine), *schedule_rules(name, settings.schedule, schedules.dead_letters)]
            made = Alarms(self, "Alarms", stack_name=name, rules=rules, own_topic=notifications.topic, other_topics=settings.alarm_topic_arns)
            alarms = made.alarms
        if settings.dashboard:
            self._dashboard(name, machine, workers, alarms)

    def _dashboard(self, name: str, machine: sfn.StateMachine, workers: Workers, alarms: Sequence[cloudwatch.Alarm]) -> None:
        dashboard = cloudwatch.Dashboard(self, "Dashboard", dashboard_name=name, default_interval=cdk.Duration.days(7))
        if alarms:
            dashboard.add_widgets(cloudwatch.AlarmStatusWidget(title="Alarms", width=_WHOLE, alarms=list(alarms)))
        dashboard.add_widgets(
            _graph(
                "Runs, as Step Functions counts them",
                [machine.metric_started(), machine.metric_succeeded(), machine.metric_failed(), machine.metric_timed_out(), machine.metric_aborted()],
            ),
            _graph("Values of the last runs, by outcome", [own_metric(name, metric, "Maximum", _HOUR) for metric in _VALUES]),
        )
        dashboard.add_widgets(
            _graph("Values per hour", [own_metric(name, "ChunkValues", period=_HOUR), own_metric(name, "ChunkRows", period=_HOUR)]),
            _graph("Seconds per delivery of a chunk", [own_metric(name, "ChunkSeconds", statistic, _HOUR) for statistic in ("p50", "p99", "Maximum")]),
        )
        chunk = workers.functions["process_chunk"]
        dashboard.add_widgets(
            _graph("Data keys", [own_metric(name, metric, period=_HOUR) for metric in ("DataKeysRewrapped", "DataKeysRemoved")]),
            _graph("Workers", [chunk.metric("ConcurrentExecutions", statistic="Maximum"), chunk.metric_errors(), chunk.metric_throttles()]),
        )
        lines = QUERIES["errors"]
        groups = [group.log_group_name for group in workers.log_groups]
        dashboard.add_widgets(cloudwatch.LogQueryWidget(title="Errors", width=_WHOLE, log_group_names=groups, query_lines=list(lines)))


def _graph(title: str, metrics: Sequence[cloudwatch.IMetric]) -> cloudwatch.GraphWidget:
    return cloudwatch.GraphWidget(title=title, width=_HALF, left=list(metrics))
