"""The alarms: which there are, what each waits for, and whom it tells.

A run that failed, timed out or was stopped has told by itself (infra/announcements.py, infra/notifications.py), with more words than an alarm has. These alarms
tell the settings' `alarm_topic_arns` only: a second mail about the same run would be noise. The others tell the stack's own topic too.
Sources: https://docs.aws.amazon.com/step-functions/latest/dg/procedure-cw-metrics.html,
https://docs.aws.amazon.com/step-functions/latest/dg/concepts-examine-map-run.html (children of a map count under an ARN of their own).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sqs as sqs
from aws_cdk import aws_stepfunctions as sfn
from constructs import Construct

from infra.setting_schedule import ScheduleSettings
from infra.workers import METRICS_NAMESPACE

_WINDOW = cdk.Duration.minutes(5)


@dataclass(frozen=True)
class Rule:
    """An alarm: its name, what it means, and its metric, which is to stay below `threshold`.

    `told`: the run tells by itself what this alarm tells. `blind`: no data is news as well.
    """

    name: str
    meaning: str
    metric: cloudwatch.IMetric
    threshold: float = 1
    told: bool = False
    blind: bool = False


class Alarms(Construct):
    """`alarms`: one for each rule of `rules`, which an alarm's page in the console names after the stack."""

    def __init__(
        self, scope: Construct, construct_id: str, *, stack_name: str, rules: Sequence[Rule], own_topic: sns.ITopic, other_topics: Sequence[str]
    ) -> None:
        super().__init__(scope, construct_id)
        others = [sns.Topic.from_topic_arn(self, f"Topic{number}", arn) for number, arn in enumerate(other_topics, start=1)]
        self.alarms = [self._alarm(stack_name, rule, others if rule.told else [own_topic, *others]) for rule in rules]

    def _alarm(self, stack_name: str, rule: Rule, topics: Sequence[sns.ITopic]) -> cloudwatch.Alarm:
        alarm = cloudwatch.Alarm(
            self,
            rule.name,
            alarm_name=f"{stack_name}-{rule.name}",
            alarm_description=rule.meaning,
            metric=rule.metric,
            threshold=rule.threshold,
            evaluation_periods=1,
            comparison_operator=cloudwatch.ComparisonOperator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD,
            # Most of the time nothing runs, and no data is as it should be.
            treat_missing_data=cloudwatch.TreatMissingData.MISSING if rule.blind else cloudwatch.TreatMissingData.NOT_BREACHING,
        )
        for topic in topics:
            alarm.add_alarm_action(actions.SnsAction(topic))
            if rule.blind:
                alarm.add_insufficient_data_action(actions.SnsAction(topic))
        return alarm


def own_metric(stack_name: str, name: str, statistic: str = "Sum", period: cdk.Duration = _WINDOW, mode: str | None = None) -> cloudwatch.Metric:
    """A metric of the functions (`reencrypt/handlers/metrics.py`), of the stack or of one mode."""
    dimensions = {"stack": stack_name, **({"mode": mode} if mode else {})}
    return cloudwatch.Metric(namespace=METRICS_NAMESPACE, metric_name=name, dimensions_map=dimensions, statistic=statistic, period=period)


def run_rules(stack_name: str, machine: sfn.StateMachine) -> list[Rule]:
    """About each run."""
    return [
        Rule("run-failed", "A run failed: see its report and the message about it.", machine.metric_failed(period=_WINDOW), told=True),
        Rule("run-timed-out", "A run was still going after 48 hours and was stopped.", machine.metric_timed_out(period=_WINDOW), told=True),
        Rule("run-aborted", "Somebody stopped a run: start it again once its lease has expired.", machine.metric_aborted(period=_WINDOW), told=True),
        Rule(
            "values-unreadable",
            "A run met values that nothing could read: its report says which, why, and what to do.",
            own_metric(stack_name, "ValuesUnreadable", "Maximum"),
        ),
    ]


def schedule_rules(stack_name: str, schedules: Sequence[ScheduleSettings], dead_letters: sqs.Queue | None) -> list[Rule]:
    """About what should start by itself."""
    rules = [
        Rule(
            f"too-old-{schedule.name}",
            f"No {schedule.mode.value} has succeeded for {schedule.alarm_after_days} days, though the schedule {schedule.name} starts it. "
            "Without data: the function that looks has not run for a day.",
            own_metric(stack_name, "DaysSinceSuccess", "Maximum", cdk.Duration.days(1), schedule.mode.value),
            threshold=schedule.alarm_after_days or 0,
            blind=True,
        )
        for schedule in schedules
        if schedule.watched
    ]
    if dead_letters is not None:
        waiting = dead_letters.metric_approximate_number_of_messages_visible(period=_WINDOW, statistic="Maximum")
        rules.append(Rule("start-failed", "A schedule could not start its run: the message in the dead-letter queue says why.", waiting))
    return rules
