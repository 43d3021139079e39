"""Who hears of a run that did not end well: an encrypted topic, its e-mail addresses, rules for what the state machine cannot announce."""

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
    """`topic` takes the state machine's messages, and those that EventBridge sends for it."""

    def __init__(self, scope: Construct, construct_id: str, *, emails: Sequence[str]) -> None:
        super().__init__(scope, construct_id)
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

    def _rule(self, construct_id: str, machine: sfn.StateMachine, detail: Mapping[str, Any], description: str) -> None:
        message = events.RuleTargetInput.from_object(
            {
                "outcome": events.EventField.from_path("$.detail.status"),
                "execution": events.EventField.from_path("$.detail.executionArn"),
                "next_step": "Start again with the same input once the lease has expired: the run goes on where this one stopped.",
            }
        )
        pattern = events.EventPattern(
            source=["aws.states"],
            detail_type=["Step Functions Execution Status Change"],
            detail={"stateMachineArn": [machine.state_machine_arn], **detail},
        )
        events.Rule(self, construct_id, description=description, event_pattern=pattern, targets=[targets.SnsTopic(self.topic, message=message)])
