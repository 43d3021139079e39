"""Runs that start by themselves, at the times the settings declare; none are declared by default."""

from __future__ import annotations

from collections.abc import Sequence

import aws_cdk as cdk
from aws_cdk import aws_scheduler as scheduler
from aws_cdk import aws_scheduler_targets as targets
from aws_cdk import aws_stepfunctions as sfn
from constructs import Construct

from infra.settings import ScheduleSettings


class Schedules(Construct):
    """One EventBridge schedule for each of `schedules`, each with its own input; a run that finds the lease held ends and says so."""

    def __init__(self, scope: Construct, construct_id: str, *, machine: sfn.StateMachine, schedules: Sequence[ScheduleSettings]) -> None:
        super().__init__(scope, construct_id)
        for schedule in schedules:
            scheduler.Schedule(
                self,
                schedule.name,
                description=f"Starts grafana-reencrypt: {schedule.expression} {schedule.time_zone}",
                schedule=scheduler.ScheduleExpression.expression(schedule.expression, cdk.TimeZone.of(schedule.time_zone)),
                target=targets.StepFunctionsStartExecution(
                    machine,
                    input=scheduler.ScheduleTargetInput.from_object(schedule.input),
                    # Scheduler's default tries for 24 hours: a night's run would start at noon, among the users.
                    retry_attempts=5,
                    max_event_age=cdk.Duration.hours(1),
                ),
            )
