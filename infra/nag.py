"""cdk-nag's findings that are meant to be so, each with its reason; anything else that it finds fails the synthesis."""

from __future__ import annotations

import aws_cdk as cdk
from cdk_nag import AwsSolutionsChecks
from constructs import Construct, IConstruct

from infra.run_states import MAP_LABELS
from infra.run_storage import RunStorage
from infra.schedule import Schedules
from infra.state_machine import RunStateMachine
from infra.workers import Workers


def check(app: cdk.App) -> None:
    """Every `cdk synth` and `cdk deploy` runs the AwsSolutions rules."""
    cdk.Validations.of(app).add_plugins(AwsSolutionsChecks(app))


def acknowledge_findings(storage: RunStorage, workers: Workers, run: RunStateMachine, schedules: Schedules) -> None:
    bucket, machine = _logical_id(storage.bucket), _logical_id(run.machine)
    stack = cdk.Stack.of(run)
    region = "<AWS::Region>" if cdk.Token.is_unresolved(stack.region) else stack.region
    account = "<AWS::AccountId>" if cdk.Token.is_unresolved(stack.account) else stack.account

    _acknowledge(
        storage.bucket,
        "S1",
        "Only the stack's roles and the account's operators read the bucket; CloudTrail data events log that better "
        "than access logs, and an access-log bucket would need an owner of its own.",
    )
    if storage.journal:
        journal = _logical_id(storage.journal.bucket)
        _acknowledge(storage.journal.bucket, "S1", "As the run bucket: CloudTrail data events log its readers better than access logs.")
        _acknowledge(
            workers,
            f"IAM5[Resource::<{journal}.Arn>/journal/*]",
            "A run's journal is named by the run, which does not exist when the role is made.",
        )
    _acknowledge(storage.lease_table, "DDB3", "The table holds one item, the lease, which expires within hours: there is nothing to bring back.")

    _acknowledge(
        workers,
        "L1",
        "lambda_python in the deployment's settings chooses the runtime; the default is one that every pinned wheel exists for.",
    )
    _acknowledge(
        workers,
        f"IAM5[Resource::<{bucket}.Arn>/runs/*]",
        "A run's objects are named by the run, which does not exist when the role is made.",
    )
    _acknowledge(workers, "IAM5[Resource::*]", "X-Ray's Put actions take no resource; in a VPC neither do the actions on network interfaces.")

    _acknowledge(run, "IAM5[Resource::*]", "X-Ray's actions and those of log delivery take no resource.")
    for function in workers.functions.values():
        _acknowledge(run, f"IAM5[Resource::<{_logical_id(function)}.Arn>:*]", "CDK grants each function with its versions; the stack publishes none.")
    _acknowledge(
        run,
        f"IAM5[Resource::arn:<AWS::Partition>:s3:::<{bucket}>/*]",
        "The maps read a manifest and write results whose keys begin with the run's name, unknown when the role is made.",
    )
    if schedules.dead_letters:
        _acknowledge(schedules.dead_letters, "SQS3", "It is a dead-letter queue itself, and an alarm tells when something is in it.")
    if workers.watch:
        _acknowledge(schedules, f"IAM5[Resource::<{_logical_id(workers.watch)}.Arn>:*]", "CDK grants the function with its versions; the stack publishes none.")
    name = f'{{"Fn::Select":[6,{{"Fn::Split":[":",{{"Ref":"{machine}"}}]}}]}}'
    for children in (name, *(f"{name}/{label}" for label in MAP_LABELS.values())):
        _acknowledge(
            run,
            f"IAM5[Resource::arn:<AWS::Partition>:states:{region}:{account}:execution:{children}:*]",
            "A map starts child executions of this state machine, whose names Step Functions makes up.",
        )


def _acknowledge(scope: Construct, rule: str, reason: str) -> None:
    cdk.Validations.of(scope).acknowledge(cdk.Acknowledgment(id=f"AwsSolutions::AwsSolutions-{rule}", reason=reason))


def _logical_id(construct: IConstruct) -> str:
    resource = construct.node.default_child
    assert isinstance(resource, cdk.CfnElement)  # noqa: S101 - narrows jsii's type
    return str(cdk.Stack.of(construct).resolve(resource.logical_id))
