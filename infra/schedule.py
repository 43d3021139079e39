"""Runs that start by themselves, at the times the settings declare; none are declared by default, and a declared one is off until it is `enabled`.

Sources: https://docs.aws.amazon.com/scheduler/latest/UserGuide/managing-schedule.html (retries, dead letters, flexible windows),
https://docs.aws.amazon.com/scheduler/latest/UserGuide/cross-service-confused-deputy-prevention.html (a role's trust names the schedule's group).
"""

from __future__ import annotations

from collections.abc import Sequence

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_scheduler as scheduler
from aws_cdk import aws_scheduler_targets as targets
from aws_cdk import aws_sqs as sqs
from aws_cdk import aws_stepfunctions as sfn
from constructs import Construct

from infra.setting_schedule import ScheduleSettings

# How often the age of the last successes is looked at; an alarm of days does not need it oftener.
_WATCH_HOURS = 6
_ATTEMPTS = 5


class Schedules(Construct):
    """One EventBridge schedule for each of `schedules`, each with its own input and role; a run that finds the lease held ends and says so.

    `dead_letters` holds the starts that failed for as long as the schedule retries; None where nothing is scheduled. `watch` is the function that looks
    how old the last successes are, called by a schedule of its own; None where the settings have no alarm_after_days.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        stack_name: str,
        machine: sfn.StateMachine,
        schedules: Sequence[ScheduleSettings],
        watch: lambda_.Function | None,
    ) -> None:
        super().__init__(scope, construct_id)
        self.dead_letters: sqs.Queue | None = None
        if not schedules:
            return
        self._group = scheduler.ScheduleGroup(self, "Group", schedule_group_name=stack_name)
        self.dead_letters = sqs.Queue(
            self,
            "DeadLetters",
            # SQS's own key: the messages hold inputs of runs, which hold no secret, and Scheduler's role needs no right to a KMS key.
            encryption=sqs.QueueEncryption.SQS_MANAGED,
            enforce_ssl=True,
            retention_period=cdk.Duration.days(14),  # the longest: a weekly schedule's failure is still there when somebody is back
            removal_policy=cdk.RemovalPolicy.DESTROY,
        )
        for schedule in schedules:
            self._start(schedule, machine, self.dead_letters)
        if watch is not None:
            self._watch(watch, sorted({schedule.mode.value for schedule in schedules if schedule.watched}), self.dead_letters)

    def _start(self, schedule: ScheduleSettings, machine: sfn.StateMachine, dead_letters: sqs.Queue) -> None:
        flexible = scheduler.TimeWindow.flexible(cdk.Duration.minutes(schedule.flexible_minutes)) if schedule.flexible_minutes else None
        scheduler.Schedule(
            self,
            f"Schedule_{schedule.name}",  # an underscore: a schedule may be called Group
            schedule_name=schedule.name,
            schedule_group=self._group,
            description=f"Starts grafana-reencrypt: {schedule.mode.value}, {schedule.expression} {schedule.time_zone}",
            schedule=scheduler.ScheduleExpression.expression(schedule.expression, cdk.TimeZone.of(schedule.time_zone)),
            enabled=schedule.enabled,
            time_window=flexible or scheduler.TimeWindow.off(),
            target=targets.StepFunctionsStartExecution(
                machine,
                input=scheduler.ScheduleTargetInput.from_object(schedule.input),
                role=self._role(f"Role_{schedule.name}", f"Lets the schedule {schedule.name} start grafana-reencrypt"),
                # Scheduler's default tries for 24 hours: a night's run would start at noon, among the users.
                retry_attempts=_ATTEMPTS,
                max_event_age=cdk.Duration.minutes(schedule.retry_minutes),
                dead_letter_queue=dead_letters,
            ),
        )

    def _watch(self, function: lambda_.Function, modes: Sequence[str], dead_letters: sqs.Queue) -> None:
        scheduler.Schedule(
            self,
            "Watch",
            schedule_name="_watch-age",
            schedule_group=self._group,
            description="Looks how long ago the scheduled runs of grafana-reencrypt succeeded",
            schedule=scheduler.ScheduleExpression.rate(cdk.Duration.hours(_WATCH_HOURS)),
            target=targets.LambdaInvoke(
                function,
                input=scheduler.ScheduleTargetInput.from_object({"modes": list(modes)}),
                role=self._role("WatchRole", "Lets the schedule _watch-age call its function"),
                retry_attempts=_ATTEMPTS,
                max_event_age=cdk.Duration.hours(1),
                dead_letter_queue=dead_letters,
            ),
        )

    def _role(self, construct_id: str, description: str) -> iam.Role:
        """One for each schedule. Only schedules of this stack's group may take it: Scheduler is asked by whoever has an account."""
        return iam.Role(
            self,
            construct_id,
            description=description,
            assumed_by=iam.ServicePrincipal(
                "scheduler.amazonaws.com",
                conditions={"StringEquals": {"aws:SourceAccount": cdk.Stack.of(self).account, "aws:SourceArn": self._group.schedule_group_arn}},
            ),
        )
