"""Who hears of a run that did not end well: an encrypted topic, its e-mail addresses, rules for what the state machine cannot announce.

What a message says is the functions' (`reencrypt/operations/message.py`), who may publish is said here.
Source: https://docs.aws.amazon.com/sns/latest/dg/sns-key-management.html (which services publish to an encrypted topic, and what its key must allow them).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sns_subscriptions as subscriptions
from aws_cdk import aws_stepfunctions as sfn
from constructs import Construct


class Notifications(Construct):
    """`topic` takes the state machine's messages, those that EventBridge sends for it, and those of alarms."""

    def __init__(self, scope: Construct, construct_id: str, *, stack_name: str, emails: Sequence[str]) -> None:
        super().__init__(scope, construct_id)
        self._stack_name = stack_name
        # A key of its own: AWS's managed SNS key lets no service (EventBridge, CloudWatch alarms) publish.
        self._key = kms.Key(
            self,
            "TopicKey",
            description="Encrypts the notifications of grafana-reencrypt",
            enable_key_rotation=True,
            removal_policy=cdk.RemovalPolicy.DESTROY,
        )  # protects messages in flight only, so nothing is lost with it
        self.topic = sns.Topic(self, "Topic", master_key=self._key, enforce_ssl=True)
        for email in emails:
            self.topic.add_subscription(subscriptions.EmailSubscription(email))

    def connect(self, machine: sfn.StateMachine) -> None:
        """Lets `machine` publish, and announces the ends that it cannot announce itself."""
        # A role, and not the service in the topic's and the key's policies: EventBridge supports no condition there (encrypted topics), so that a rule of
        # another account could send messages too. Its policy is whole here; CDK would add wildcards.
        publisher = iam.Role(
            self,
            "RulePublisher",
            description="Lets the rules of grafana-reencrypt publish that a run ended abruptly",
            assumed_by=iam.ServicePrincipal("events.amazonaws.com", conditions={"StringEquals": {"aws:SourceAccount": cdk.Stack.of(self).account}}),
        )
        publisher.add_to_policy(iam.PolicyStatement(sid="Publish", actions=["sns:Publish"], resources=[self.topic.topic_arn]))
        publisher.add_to_policy(iam.PolicyStatement(sid="EncryptNotifications", actions=["kms:GenerateDataKey", "kms:Decrypt"], resources=[self._key.key_arn]))
        self._publisher = publisher.without_policy_updates()
        # sns:Publish comes with the machine's Notify state; for an encrypted topic the publisher needs the key as well.
        machine.add_to_role_policy(
            iam.PolicyStatement(sid="EncryptNotifications", actions=["kms:GenerateDataKey", "kms:Decrypt"], resources=[self._key.key_arn])
        )
        # Stopped by a person, or by the time limit: no further state runs.
        self._rule("AbruptEnd", machine, {"status": ["TIMED_OUT", "ABORTED"]}, "A grafana-reencrypt run was stopped or timed out")
        # States.ALL catches neither States.Runtime nor States.DataLimitExceeded: such a run fails without passing Notify.
        self._rule(
            "UncaughtError",
            machine,
            {"status": ["FAILED"], "error": [{"anything-but": ["RunFailed"]}]},
            "A grafana-reencrypt run failed before it could say so",
        )

    def allow_alarms(self) -> None:
        """Lets alarms of this account publish: a topic with a policy of its own forgets its default one, and the key knows nobody else."""
        alarms = iam.ServicePrincipal("cloudwatch.amazonaws.com", conditions={"StringEquals": {"aws:SourceAccount": cdk.Stack.of(self).account}})
        self.topic.add_to_resource_policy(
            iam.PolicyStatement(sid="AlarmsPublish", actions=["sns:Publish"], principals=[alarms], resources=[self.topic.topic_arn])
        )
        self._key.grant(alarms, "kms:GenerateDataKey*", "kms:Decrypt")

    def _rule(self, construct_id: str, machine: sfn.StateMachine, detail: Mapping[str, Any], description: str) -> None:
        status, name = events.EventField.from_path("$.detail.status"), events.EventField.from_path("$.detail.name")
        execution = events.EventField.from_path("$.detail.executionArn")
        message = events.RuleTargetInput.from_text(
            f"{description}: {status}. Run: {name}, of {self._stack_name}. Execution: {execution}. "
            "What to do: start again with the same input once the lease has expired (20 minutes at most): the run goes on where this one stopped."
        )
        pattern = events.EventPattern(
            source=["aws.states"],
            detail_type=["Step Functions Execution Status Change"],
            detail={"stateMachineArn": [machine.state_machine_arn], **detail},
        )
        target = targets.SnsTopic(self.topic, message=message, authorize_using_role=True, role=self._publisher)
        events.Rule(self, construct_id, description=description, event_pattern=pattern, targets=[target])
