"""The stack: composes the constructs and names its outputs; each construct says what it promises."""

from __future__ import annotations

import aws_cdk as cdk
from constructs import Construct

from infra.nag import acknowledge_findings
from infra.notifications import Notifications
from infra.run_storage import RunStorage
from infra.schedule import Schedules
from infra.settings import DeploymentSettings
from infra.state_machine import RunStateMachine
from infra.workers import Workers


class ReencryptStack(cdk.Stack):
    """One deployment, for one Grafana database. Outputs: StateMachineArn, RunBucketName, LeaseTableName, TopicArn, JournalBucketName."""

    def __init__(self, scope: Construct, settings: DeploymentSettings) -> None:
        super().__init__(
            scope,
            settings.stack_name,
            env=cdk.Environment(account=settings.account, region=settings.region),
            description="Re-encrypts the secrets of a Grafana database (grafana-reencrypt)",
        )
        removal = cdk.RemovalPolicy.DESTROY if settings.removal == "destroy" else cdk.RemovalPolicy.RETAIN

        storage = RunStorage(self, "Storage", journal_days=settings.journal_days, removal=removal)
        workers = Workers(self, "Workers", settings=settings, storage=storage, removal=removal)
        notifications = Notifications(self, "Notifications", emails=settings.notify_emails)
        run = RunStateMachine(
            self,
            "StateMachine",
            settings=settings,
            functions=workers.functions,
            storage=storage,
            topic=notifications.topic,
            removal=removal,
        )
        notifications.connect(run.machine)
        Schedules(self, "Schedules", machine=run.machine, schedules=settings.schedule)
        acknowledge_findings(storage, workers, run)

        for name, value in {
            "StateMachineArn": run.machine.state_machine_arn,
            "RunBucketName": storage.bucket.bucket_name,
            "LeaseTableName": storage.lease_table.table_name,
            "TopicArn": notifications.topic.topic_arn,
            **({"JournalBucketName": storage.journal.bucket.bucket_name} if storage.journal else {}),
        }.items():
            cdk.CfnOutput(self, name, value=value)
