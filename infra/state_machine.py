"""The state machine as a resource: its definition (`infra/run_definition.py`), log, tracing and time limit."""

from __future__ import annotations

from collections.abc import Mapping

import aws_cdk as cdk
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from aws_cdk import aws_sns as sns
from aws_cdk import aws_stepfunctions as sfn
from constructs import Construct

from infra.run_definition import RunDefinition
from infra.run_storage import RunStorage
from infra.settings import DeploymentSettings

# The whole run. A database is minutes and a settle may be hours; this ends what waits for nothing. EventBridge announces it (infra/notifications.py).
RUN_TIMEOUT = cdk.Duration.hours(48)


class RunStateMachine(Construct):
    """`machine`: the state machine, its log and its role."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        settings: DeploymentSettings,
        functions: Mapping[str, lambda_.Function],
        storage: RunStorage,
        topic: sns.Topic,
        removal: cdk.RemovalPolicy,
    ) -> None:
        super().__init__(scope, construct_id)
        definition = RunDefinition(
            self,
            "Run",
            stack_name=settings.stack_name,
            functions=functions,
            storage=storage,
            topic=topic,
            notify_on_success=settings.notify_on_success,
        )
        # Named with the prefix that Step Functions may always deliver to, and with the stack's own id: a log group that an earlier stack
        # of this name left behind (removal = "retain") is not in the way.
        stack_id = cdk.Fn.select(2, cdk.Fn.split("/", cdk.Stack.of(self).stack_id))
        log_group = logs.LogGroup(
            self,
            "Logs",
            log_group_name=f"/aws/vendedlogs/states/{settings.stack_name}-{stack_id}",
            retention=settings.log_retention,
            removal_policy=removal,
        )
        self.machine = sfn.StateMachine(
            self,
            "Machine",
            definition_body=sfn.DefinitionBody.from_chainable(definition.start),
            timeout=RUN_TIMEOUT,
            tracing_enabled=True,
            comment="Re-encrypts the secrets of a Grafana database. Start it with {} to plan: that writes nothing.",
            logs=sfn.LogOptions(destination=log_group, level=sfn.LogLevel.ALL, include_execution_data=False),
        )
