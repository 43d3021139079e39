"""The stack: composes the constructs and names its outputs; each construct says what it promises."""

from __future__ import annotations

import aws_cdk as cdk
from constructs import Construct

from infra.monitoring import Monitoring
from infra.nag import acknowledge_findings
from infra.notifications import Notifications
from infra.run_storage import RunStorage
from infra.schedule import Schedules
from infra.settings import DeploymentSettings
from infra.state_machine import RunStateMachine
from infra.workers import Workers


class ReencryptStack(cdk.Stack):
    """One deployment, for one Grafana database. Its outputs are in docs/install.md."""

    def __init__(self, scope: Construct, settings: DeploymentSettings) -> None:
        super().__init__(
            scope,
            settings.stack_name,
            env=cdk.Environment(account=settings.account, region=settings.region),
            description="Re-encrypts the secrets of a Grafana database (grafana-reencrypt)",
            permissions_boundary=cdk.PermissionsBoundary.from_arn(settings.permissions_boundary) if settings.permissions_boundary else None,
        )
        for name, value in settings.tags.items():
            cdk.Tags.of(self).add(name, value)  # on the stack and on every resource that takes tags
        removal = cdk.RemovalPolicy.DESTROY if settings.removal == "destroy" else cdk.RemovalPolicy.RETAIN

        storage = RunStorage(self, "Storage", journal_days=settings.journal_days, removal=removal)
        workers = Workers(self, "Workers", settings=settings, storage=storage, removal=removal)
        notifications = Notifications(self, "Notifications", stack_name=settings.stack_name, emails=settings.notify_emails)
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
        schedules = Schedules(
            self,
            "Schedules",
            stack_name=settings.stack_name,
            machine=run.machine,
            schedules=settings.schedule,
            watch=workers.watch,
        )
        Monitoring(self, "Monitoring", settings=settings, workers=workers, machine=run.machine, notifications=notifications, schedules=schedules)
        acknowledge_findings(storage, workers, run, schedules)

        for name, value in {
            "StateMachineArn": run.machine.state_machine_arn,
            "RunBucketName": storage.bucket.bucket_name,
            "LeaseTableName": storage.lease_table.table_name,
            "TopicArn": notifications.topic.topic_arn,
            "WorkerMegabytes": str(settings.memory_mb),  # for the cost so far that the command shows while it watches a run
            **({"JournalBucketName": storage.journal.bucket.bucket_name} if storage.journal else {}),
            # The command checks an input's `tables` before it starts a run.
            **({"DeclaredTables": ",".join(sorted({column.table for column in settings.secret_column}))} if settings.secret_column else {}),
        }.items():
            cdk.CfnOutput(self, name, value=value)
