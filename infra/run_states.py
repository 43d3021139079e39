"""How a state of the runbook is made: a task with its retries, and a map over chunks. `infra/run_definition.py` says which follows which.

A task's payload and answer are the contract of its handler; a map hands the chunks of a manifest to one worker after another.
"""

from __future__ import annotations

from collections.abc import Mapping

import aws_cdk as cdk
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_stepfunctions as sfn
from aws_cdk import aws_stepfunctions_tasks as tasks
from constructs import Construct

from infra.run_storage import RunStorage
from infra.workers import WORKERS

# What waiting can cure. Every other error of ours (InvalidInput, ConfigurationError, SafetyError's leaves, KeyAccessDenied, LeaseHeld, …)
# is the same at the second try, so it is in no Retry at all.
TRANSIENT = ["DatabaseUnavailable", "DatabaseBusy", "ProviderThrottled"]
SERVICE = [
    "Lambda.ServiceException",
    "Lambda.AWSLambdaException",
    "Lambda.SdkClientException",
    "Lambda.TooManyRequestsException",
    "Lambda.ClientExecutionTimeoutException",
]
# The process died or hung: out of memory, out of time. Each operation may be run again after a crash anywhere. (Lambda.Unknown: old name.)
DIED = ["Sandbox.Timedout", "Runtime.ExitError", "Lambda.Unknown", "States.Timeout"]

# A map's label is part of its child executions' ARNs.
MAP_LABELS = {"process": "ProcessChunks", "sweep": "SweepChunks", "verify": "VerifyChunks", "scan": "ScanEveryColumn"}

_TIMEOUTS = {worker.name: worker.timeout.to_seconds() for worker in WORKERS}
RUN = {"run.$": "$.run", "input.$": "$.input", "execution.$": "$.execution"}


class RunStates:
    """Makes states in `scope`, over the workers' functions and the run bucket."""

    def __init__(self, scope: Construct, functions: Mapping[str, lambda_.Function], storage: RunStorage) -> None:
        self._scope, self._functions, self._bucket = scope, functions, storage.bucket

    def task(self, state: str, function: str, payload: dict[str, str], result_path: str) -> tasks.LambdaInvoke:
        """One invocation. `payload_response_only`: the state holds the function's own summary, which a person reads in the console."""
        task = tasks.LambdaInvoke(
            self._scope,
            state,
            lambda_function=self._functions[function],
            payload=sfn.TaskInput.from_object(payload),
            payload_response_only=True,
            retry_on_service_exceptions=False,
            result_path=result_path,
            # A little after the function's own timeout, whose error is the clearer one; this is for an answer that never comes.
            task_timeout=sfn.Timeout.duration(cdk.Duration.seconds(int(_TIMEOUTS[function]) + 30)),
        )
        # A database that fails over is back within minutes: 2 + 4 + … + 60 s, about 5 minutes, spread so that workers do not come in step.
        retry(task, TRANSIENT, seconds=2, attempts=9, longest=60)
        # Lambda itself: throttled, or briefly out of order.
        retry(task, SERVICE, seconds=2, attempts=6, longest=30)
        # Once: a process that dies twice at the same place dies of its input.
        retry(task, DIED, seconds=5, attempts=1, longest=30)
        return task

    def map(self, state: str, noun: str, done_word: str, *, phase: str, phase_path: str | None = None, manifest: str = "manifest") -> sfn.DistributedMap:
        """One child execution for each line of the plan's `manifest`; a child calls the worker from where it stopped until the chunk is done."""
        chunks = sfn.DistributedMap(
            self._scope,
            state,
            label=MAP_LABELS[phase],
            map_execution_type=sfn.StateMachineType.STANDARD,  # express children end after 5 minutes
            item_reader=sfn.S3JsonLItemReader(bucket=self._bucket, key=sfn.JsonPath.string_at(f"$.plan.{manifest}")),
            max_concurrency_path="$.plan.max_concurrency",  # from the plan: SQLite 1, a server what it bears; never unbounded
            # A chunk that fails must not leave the others under the old key. Success is judged from the chunks' outcomes, not from this state:
            # a chunk without one makes the run fail. The failed child stays red in the console, with its error.
            tolerated_failure_percentage=100,
            item_selector={
                **RUN,
                **({"phase.$": phase_path} if phase_path else {"phase": phase}),
                "chunk.$": "$$.Map.Item.Value",
                # The first position and limit are null; CDK drops a literal null.
                "progress": {"position.$": "States.StringToJson('null')", "limit.$": "States.StringToJson('null')"},
            },
            # Into the bucket: a state's output ends at 256 KiB, which some thousand summaries exceed.
            result_writer_v2=sfn.ResultWriterV2(
                bucket=self._bucket, prefix=sfn.JsonPath.format(f"runs/{{}}/children/{phase}", sfn.JsonPath.string_at("$.run"))
            ),
            result_path=f"$.{done_word}",
        )
        delivery = {**RUN, "phase.$": "$.phase", "chunk.$": "$.chunk", "position.$": "$.progress.position", "limit.$": "$.progress.limit"}
        work = self.task(f"Work on the {noun}", "process_chunk", delivery, "$.progress")
        narrow = self.task(f"Narrow the {noun}", "narrow_chunk", delivery, "$.progress")
        done = sfn.Choice(self._scope, f"Is the {noun} done?")
        work.next(done)
        # Out of memory or out of time, and again: fewer rows, down to the one that kills, which goes into quarantine.
        work.add_catch(narrow, errors=DIED, result_path="$.died")
        narrow.next(done)
        done.when(sfn.Condition.boolean_equals("$.progress.done", True), sfn.Succeed(self._scope, f"Chunk {done_word}", output_path="$.progress"))
        done.otherwise(work)  # the worker stopped before its deadline: on from the position it returned
        chunks.item_processor(work, mode=sfn.ProcessorMode.DISTRIBUTED, execution_type=sfn.ProcessorType.STANDARD)
        # CDK demands the execution type here too, and warns that it ignores it.
        cdk.Annotations.of(chunks).acknowledge_warning("@aws-cdk/aws-stepfunctions:propertyIgnored", "map_execution_type says the same")
        # Reading the manifest from S3; nothing has been started yet. Without a Retry a passing S3 error would end the run.
        retry(chunks, ["States.ItemReaderFailed"], seconds=2, attempts=3, longest=30)
        return chunks


def retry(state: sfn.TaskStateBase | sfn.DistributedMap, errors: list[str], *, seconds: int, attempts: int, longest: int) -> None:
    """Tries `state` again after one of `errors`: after `seconds`, then twice as long each time up to `longest`, somewhere in that time."""
    state.add_retry(
        errors=errors,
        interval=cdk.Duration.seconds(seconds),
        max_attempts=attempts,
        backoff_rate=2,
        max_delay=cdk.Duration.seconds(longest),
        jitter_strategy=sfn.JitterType.FULL,
    )
