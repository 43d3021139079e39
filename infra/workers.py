"""The Lambda functions: one per task of the runbook, each with a role that can do what `infra/permissions.py` lists and no more."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from constructs import Construct

from infra.bundling import ARCHITECTURES, python_code
from infra.configuration import configuration_environment, setting_targets
from infra.network import function_network
from infra.permissions import PERMISSIONS, Permission, Target
from infra.run_storage import RunStorage
from infra.settings import DeploymentSettings

METRICS_NAMESPACE = "GrafanaReencrypt"


@dataclass(frozen=True)
class Worker:
    """`name` is the module in `reencrypt/handlers/`; `light` workers load no database and get little memory."""

    name: str
    promise: str
    timeout: cdk.Duration
    light: bool = False

    @property
    def construct_id(self) -> str:
        return "".join(word.title() for word in self.name.split("_"))


# 15 minutes is Lambda's most. A chunk stops before it and is continued; the others read the database once.
WORKERS = (
    Worker(
        "preflight",
        "Checks input, settings, database and keys; decrypts a sample of each secret column. Writes nothing.",
        cdk.Duration.minutes(15),
    ),
    Worker("plan_chunks", "Takes the census and writes the chunk manifest to the run bucket.", cdk.Duration.minutes(15)),
    Worker("acquire_lease", "Lets one run at a time write.", cdk.Duration.minutes(1), light=True),
    Worker("choose_data_key", "Finds or makes the data key that the run encrypts under; a rotation deactivates the others.", cdk.Duration.minutes(5)),
    Worker("process_chunk", "Re-encrypts or checks one chunk; stops before its deadline and says where.", cdk.Duration.minutes(15)),
    Worker("narrow_chunk", "After a worker died: takes fewer rows, down to the one that kills, and sets that one apart.", cdk.Duration.minutes(15)),
    Worker("judge_pass", "Checks that a pass is whole; says whether to settle, sweep, rewrap or verify; keeps the lease.", cdk.Duration.minutes(15)),
    Worker("rewrap_data_keys", "Wraps data keys anew, each proven before and after; stops before its deadline.", cdk.Duration.minutes(15)),
    Worker("judge_scan", "After a look through every column: deactivates data keys that are to go; says what follows.", cdk.Duration.minutes(15)),
    Worker("remove_data_keys", "Removes the data keys that nothing in the database names.", cdk.Duration.minutes(15)),
    Worker("report", "Accounts for every value and writes report.json and report.html.", cdk.Duration.minutes(15)),
    Worker("report_failure", "Writes the report of a run that an error ended.", cdk.Duration.minutes(15)),
    Worker("release_lease", "Gives the lease back, if this run holds it.", cdk.Duration.minutes(1), light=True),
    Worker("end_failed", "Ends a run as failed, in a way that a redrive can go on from.", cdk.Duration.minutes(1), light=True),
)
# No step of a run: called by a schedule of its own, where the settings have an alarm_after_days.
WATCH = Worker("watch_age", "Looks how many days ago the scheduled runs succeeded.", cdk.Duration.minutes(1), light=True)


class Workers(Construct):
    """`functions[name]` for each of `WORKERS`; `watch` is `WATCH`'s, None where nothing is watched. `log_groups`: of all of them."""

    def __init__(self, scope: Construct, construct_id: str, *, settings: DeploymentSettings, storage: RunStorage, removal: cdk.RemovalPolicy) -> None:
        super().__init__(scope, construct_id)
        self._settings = settings
        self._targets = _targets(self, settings, storage)
        self._code = python_code(settings.lambda_python, settings.architecture, settings.declared_columns, settings.database.certificates)
        self._network = function_network(self, settings)
        self._environment = _environment(settings, storage)
        self._removal = removal
        self.log_groups: list[logs.LogGroup] = []
        self.functions: Mapping[str, lambda_.Function] = {worker.name: self._function(worker) for worker in WORKERS}
        self.watch = self._function(WATCH) if any(schedule.watched for schedule in settings.schedule) else None

    def _function(self, worker: Worker) -> lambda_.Function:
        log_group = logs.LogGroup(self, f"{worker.construct_id}Logs", retention=self._settings.log_retention, removal_policy=self._removal)
        self.log_groups.append(log_group)
        return lambda_.Function(
            self,
            f"{worker.construct_id}Function",
            description=worker.promise,
            code=self._code,
            handler=f"reencrypt.handlers.{worker.name}.handler",
            runtime=lambda_.Runtime(f"python{self._settings.lambda_python}", lambda_.RuntimeFamily.PYTHON),
            architecture=ARCHITECTURES[self._settings.architecture],
            timeout=worker.timeout,
            memory_size=512 if worker.light else self._settings.memory_mb,
            environment=self._environment,
            role=self._role(worker, log_group),
            log_group=log_group,
            tracing=lambda_.Tracing.ACTIVE,
            **self._network.function_properties,
        )

    def _role(self, worker: Worker, log_group: logs.LogGroup) -> iam.Role:
        """Made here, not by CDK: its default adds a managed policy that may write every log group of the account."""
        role = iam.Role(self, f"{worker.construct_id}Role", assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"), description=worker.promise)
        role.add_to_policy(iam.PolicyStatement(sid="OwnLogs", actions=["logs:CreateLogStream", "logs:PutLogEvents"], resources=[log_group.log_group_arn]))
        for statement in (*map(self._statement, PERMISSIONS[worker.name]), *self._network.statements):
            if statement:
                role.add_to_policy(statement)
        return role

    def _statement(self, permission: Permission) -> iam.PolicyStatement | None:
        resources = self._targets[permission.target]
        if not resources:
            return None
        services = [f"{service}.{cdk.Stack.of(self).region}.amazonaws.com" for service in permission.through]
        return iam.PolicyStatement(
            sid=permission.sid,
            actions=list(permission.actions),
            resources=resources,
            conditions={"StringEquals": {"kms:ViaService": services}} if services else None,
        )


def _targets(scope: Construct, settings: DeploymentSettings, storage: RunStorage) -> dict[Target, list[str]]:
    """The resources of each target; empty where the settings name none."""
    journal = storage.journal
    return {
        **setting_targets(scope, settings),
        "kms keys": list(settings.kms_key_arns),
        "kms role": [settings.kms_role_to_assume] if settings.kms_role_to_assume else [],
        "run objects": [storage.bucket.arn_for_objects("runs/*")],
        "run bucket": [storage.bucket.bucket_arn],
        "lease table": [storage.lease_table.table_arn],
        "journal objects": [journal.bucket.arn_for_objects("journal/*")] if journal else [],
        "journal bucket": [journal.bucket.bucket_arn] if journal else [],
        "journal key": [journal.key.key_arn] if journal else [],
    }


def _environment(settings: DeploymentSettings, storage: RunStorage) -> dict[str, str]:
    """What `reencrypt.handlers` read. Names of secrets, never secrets."""
    optional = {
        **configuration_environment(settings),
        "KMS_ROLE_TO_ASSUME": settings.kms_role_to_assume,
        "JOURNAL_BUCKET": storage.journal.bucket.bucket_name if storage.journal else None,  # absent: no undo journal
    }
    return {
        "RUN_BUCKET": storage.bucket.bucket_name,
        "LEASE_TABLE": storage.lease_table.table_name,
        "KMS_CREDENTIALS": settings.kms_credentials,
        "KMS_ENCRYPTION_CONTEXT": json.dumps(settings.kms_encryption_context, sort_keys=True),
        "MAX_CONCURRENCY": str(settings.max_concurrency),
        "WORKER_MEMORY_MB": str(settings.memory_mb),  # the report's cost estimate
        "POWERTOOLS_SERVICE_NAME": settings.stack_name,
        "POWERTOOLS_METRICS_NAMESPACE": METRICS_NAMESPACE,
        "POWERTOOLS_LOG_LEVEL": "INFO",
        **{name: value for name, value in optional.items() if value},
    }
