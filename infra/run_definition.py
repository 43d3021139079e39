"""The run as a state machine: a runbook of named states, each transition with its reason.

    Name the run → Preflight → Plan chunks → Any chunk? → Does this run write? ─┬─ yes → Acquire lease → Does it need a data key? → Choose data key ─┐
                                   │ no                                         └─ no ──────────────────────────────────────────────────┐           │
                                   │                                                                                                     ▼           ▼
                                   │       Verify chunks ← What follows the pass? ← Judge the pass ← yes ─ Anything written? ←──────── Process chunks
                                   ▼             ▼               └→ Settle → Sweep chunks → Judge the pass        │ no
    How did the run end? ← Release lease ← Is a lease held? ← Report ←────────────────────────────────────────────┘
      ├─ succeeded → Run succeeded
      └─ else → Notify → Run failed → (only when redriven) Go on after a redrive → Preflight          any error → Report failure → Release lease

JSONPath throughout: the local AWS has no JSONata in a Distributed Map. Ranges and counts travel here, never rows, never secrets. What the
states hand to the functions and get back is the contract in docs/architecture.md.
"""

from __future__ import annotations

from collections.abc import Mapping

import aws_cdk as cdk
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_sns as sns
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

# Outcomes of report.json that leave the execution green.
GOOD_OUTCOMES = ("succeeded", "succeeded-with-unreadable")

# A map's label is part of its child executions' ARNs.
MAP_LABELS = {"process": "ProcessChunks", "sweep": "SweepChunks", "verify": "VerifyChunks"}

_TIMEOUTS = {worker.name: worker.timeout.to_seconds() for worker in WORKERS}
_RUN = {"run.$": "$.run", "input.$": "$.input", "execution.$": "$.execution"}


class RunDefinition(Construct):
    """The states and their transitions; `start` is the first."""

    def __init__(self, scope: Construct, construct_id: str, *, functions: Mapping[str, lambda_.Function], storage: RunStorage, topic: sns.Topic) -> None:
        super().__init__(scope, construct_id)
        self._functions, self._storage, self._topic = functions, storage, topic

        # The context object of a map's child execution names the child, so the parent's facts are put into the state once, here. It also
        # makes an object of an input that is none ([], "x"): Preflight then refuses it in words.
        self.start = sfn.Pass(
            self,
            "Name the run",
            parameters={
                "run.$": "$$.Execution.Name",
                "execution.$": "$$.Execution.Id",
                "started.$": "$$.Execution.StartTime",
                "input.$": "$$.Execution.Input",
                "pass": {"number": 0},
                "attempt": {"redrives": 0},
            },
        )
        preflight = self._task("Preflight", "preflight", {"run.$": "$.run", "input.$": "$.input"}, "$.preflight")
        plan = self._task("Plan chunks", "plan_chunks", {"run.$": "$.run", "input.$": "$.input"}, "$.plan")
        any_chunk = sfn.Choice(self, "Any chunk?")
        writes = sfn.Choice(self, "Does this run write?")
        acquire = self._task("Acquire lease", "acquire_lease", {"run.$": "$.run", "execution.$": "$.execution"}, "$.lease")
        encrypts = sfn.Choice(self, "Does it need a data key?")
        data_key = self._task("Choose data key", "choose_data_key", {"run.$": "$.run", "input.$": "$.input"}, "$.data_key")
        process = self._map("Process chunks", "chunk", "processed", phase="process")
        written = sfn.Choice(self, "Anything written?")
        judge = self._task("Judge the pass", "judge_pass", {**_RUN, "number.$": "$.pass.number"}, "$.pass")
        follows = sfn.Choice(self, "What follows the pass?")
        settle = sfn.Wait(self, "Settle", time=sfn.WaitTime.seconds_path("$.pass.seconds"))
        sweep = self._map("Sweep chunks", "swept chunk", "swept", phase="sweep", phase_path="$.pass.phase")
        verify = self._map("Verify chunks", "verified chunk", "verified", phase="verify")
        report = self._task("Report", "report", {**_RUN, "started.$": "$.started"}, "$.report")
        held = sfn.Choice(self, "Is a lease held?")
        release = self._task("Release lease", "release_lease", {"run.$": "$.run", "execution.$": "$.execution"}, "$.released")
        ended = sfn.Choice(self, "How did the run end?")
        report_failure = self._task("Report failure", "report_failure", {**_RUN, "started.$": "$.started", "error.$": "$.error"}, "$.report")
        no_report = self._no_report()
        notify = self._notify()
        failed = self._run_failed()
        go_on = self._go_on()
        this_run_writes = sfn.Condition.boolean_equals("$.preflight.writes", True)
        good = sfn.Condition.or_(*(sfn.Condition.string_equals("$.report.outcome", outcome) for outcome in GOOD_OUTCOMES))

        self.start.next(preflight)
        # Nothing is planned on a database whose keys or columns are not what they should be.
        preflight.next(plan)
        plan.next(any_chunk)
        # No secret at all: no lease, no new data key for nothing. Report says nothing-found, which is a failure.
        any_chunk.when(sfn.Condition.number_equals("$.plan.chunks", 0), report)
        any_chunk.otherwise(writes)
        # One writer at a time. Plan and verify disturb nobody and may run beside it.
        writes.when(this_run_writes, acquire)
        writes.otherwise(process)
        # Under the lease, so that two runs cannot make two data keys; committed before the first value is encrypted under it.
        acquire.next(encrypts)
        encrypts.when(sfn.Condition.boolean_equals("$.preflight.encrypts", True), data_key)
        # A restore puts old values back and encrypts nothing.
        encrypts.otherwise(process)
        data_key.next(process)
        process.next(written)
        # Before any waiting: a pass with a chunk that failed, or that the failure budget stopped, ends the run here.
        written.when(this_run_writes, judge)
        written.otherwise(report)
        judge.next(follows)
        # A running Grafana may write under a key that it holds in its cache: wait until no cache can hold it. No function runs meanwhile.
        follows.when(sfn.Condition.string_equals("$.pass.next", "settle"), settle)
        settle.next(sweep)
        # Saving an alert configuration or a plugin's settings copies old ciphertexts: again until a pass finds none, a bounded number of times.
        follows.when(sfn.Condition.string_equals("$.pass.next", "sweep"), sweep)
        sweep.next(judge)
        # Reads everything again: the report states what the database holds, not what was meant to be written.
        follows.otherwise(verify)
        verify.next(report)
        # The lease is given back after the report, so that no second run changes what the report counts.
        report.next(held)
        held.when(this_run_writes, release)
        held.otherwise(ended)
        release.next(ended)
        ended.when(good, sfn.Succeed(self, "Run succeeded", output_path="$.report"))
        # Failed or nothing-found: no silent success, so somebody is told and the execution itself is red.
        ended.otherwise(notify)
        notify.next(failed)
        # Only a redrive comes past this task: the run begins anew, under a name of its own, in the same execution.
        failed.next(go_on)
        go_on.next(preflight)

        # Whatever the error, it ends in a report that names it. LeaseHeld takes this way too.
        for state in (preflight, plan, acquire, data_key, process, judge, sweep, verify, report):
            state.add_catch(report_failure, errors=["States.ALL"], result_path="$.error")
        # The lease is deleted only if this run holds it, so another run's stays.
        report_failure.next(release)
        # The bucket may be what is broken: the error is still told, by the notification.
        report_failure.add_catch(no_report, errors=["States.ALL"], result_path="$.report_error")
        no_report.next(release)
        # A lease expires by itself; the run's outcome stands.
        release.add_catch(ended, errors=["States.ALL"], result_path="$.release_error")
        # The run fails for its own reason, not for the topic's.
        notify.add_catch(failed, errors=["States.ALL"], result_path="$.notify_error")

    def _task(self, state: str, function: str, payload: dict[str, str], result_path: str) -> tasks.LambdaInvoke:
        """One invocation. `payload_response_only`: the state holds the function's own summary, which a person reads in the console."""
        task = tasks.LambdaInvoke(
            self,
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
        self._retry(task, TRANSIENT, seconds=2, attempts=9, longest=60)
        # Lambda itself: throttled, or briefly out of order.
        self._retry(task, SERVICE, seconds=2, attempts=6, longest=30)
        # Once: a process that dies twice at the same place dies of its input.
        self._retry(task, DIED, seconds=5, attempts=1, longest=30)
        return task

    @staticmethod
    def _retry(state: tasks.LambdaInvoke | sfn.DistributedMap | tasks.SnsPublish, errors: list[str], *, seconds: int, attempts: int, longest: int) -> None:
        state.add_retry(
            errors=errors,
            interval=cdk.Duration.seconds(seconds),
            max_attempts=attempts,
            backoff_rate=2,
            max_delay=cdk.Duration.seconds(longest),
            jitter_strategy=sfn.JitterType.FULL,
        )

    def _map(self, state: str, noun: str, done_word: str, *, phase: str, phase_path: str | None = None) -> sfn.DistributedMap:
        """One child execution for each line of the manifest; a child calls the worker from where it stopped until the chunk is done."""
        bucket = self._storage.bucket
        chunks = sfn.DistributedMap(
            self,
            state,
            label=MAP_LABELS[phase],
            map_execution_type=sfn.StateMachineType.STANDARD,  # express children end after 5 minutes
            item_reader=sfn.S3JsonLItemReader(bucket=bucket, key=sfn.JsonPath.string_at("$.plan.manifest")),
            max_concurrency_path="$.plan.max_concurrency",  # from the plan: SQLite 1, a server what it bears; never unbounded
            # A chunk that fails must not leave the others under the old key. Success is judged from the chunks' outcomes, not from this state:
            # a chunk without one makes the run fail. The failed child stays red in the console, with its error.
            tolerated_failure_percentage=100,
            item_selector={
                **_RUN,
                **({"phase.$": phase_path} if phase_path else {"phase": phase}),
                "chunk.$": "$$.Map.Item.Value",
                # The first position and limit are null; CDK drops a literal null.
                "progress": {"position.$": "States.StringToJson('null')", "limit.$": "States.StringToJson('null')"},
            },
            # Into the bucket: a state's output ends at 256 KiB, which some thousand summaries exceed.
            result_writer_v2=sfn.ResultWriterV2(bucket=bucket, prefix=sfn.JsonPath.format(f"runs/{{}}/children/{phase}", sfn.JsonPath.string_at("$.run"))),
            result_path=f"$.{phase}",
        )
        delivery = {**_RUN, "phase.$": "$.phase", "chunk.$": "$.chunk", "position.$": "$.progress.position", "limit.$": "$.progress.limit"}
        work = self._task(f"Work on the {noun}", "process_chunk", delivery, "$.progress")
        narrow = self._task(f"Narrow the {noun}", "narrow_chunk", delivery, "$.progress")
        done = sfn.Choice(self, f"Is the {noun} done?")
        work.next(done)
        # Out of memory or out of time, and again: fewer rows, down to the one that kills, which goes into quarantine.
        work.add_catch(narrow, errors=DIED, result_path="$.died")
        narrow.next(done)
        done.when(sfn.Condition.boolean_equals("$.progress.done", True), sfn.Succeed(self, f"Chunk {done_word}", output_path="$.progress"))
        done.otherwise(work)  # the worker stopped before its deadline: on from the position it returned
        chunks.item_processor(work, mode=sfn.ProcessorMode.DISTRIBUTED, execution_type=sfn.ProcessorType.STANDARD)
        # CDK demands the execution type here too, and warns that it ignores it.
        cdk.Annotations.of(chunks).acknowledge_warning("@aws-cdk/aws-stepfunctions:propertyIgnored", "map_execution_type says the same")
        # Reading the manifest from S3; nothing has been started yet. Without a Retry a passing S3 error would end the run.
        self._retry(chunks, ["States.ItemReaderFailed"], seconds=2, attempts=3, longest=30)
        return chunks

    def _run_failed(self) -> tasks.LambdaInvoke:
        """The run's red end. A task instead of a Fail state, which a redrive would only fail in again."""
        return self._task(
            "Run failed",
            "end_failed",
            {"run.$": "$.run", "headline.$": "$.report.headline", "redrives.$": "$$.Execution.RedriveCount", "failed_in.$": "$.attempt.redrives"},
            "$.attempt",
        )

    def _go_on(self) -> sfn.Pass:
        return sfn.Pass(
            self,
            "Go on after a redrive",
            parameters={
                "run.$": "States.Format('{}-redrive-{}', $$.Execution.Name, $.attempt.redrives)",
                "execution.$": "$.execution",
                "started.$": "$$.State.EnteredTime",
                "input.$": "$.input",
                "pass": {"number": 0},
                "attempt.$": "$.attempt",
            },
        )

    def _no_report(self) -> sfn.Pass:
        return sfn.Pass(
            self,
            "Failure without a report",
            result_path="$.report",
            parameters={
                "outcome": "failed",
                "report": "none",
                "headline.$": "States.Format('{}, and the report of it could not be written: see the execution history', $.error.Error)",
            },
        )

    def _notify(self) -> tasks.SnsPublish:
        notify = tasks.SnsPublish(
            self,
            "Notify",
            topic=self._topic,
            subject="A Grafana re-encryption run failed",
            result_path=sfn.JsonPath.DISCARD,
            message=sfn.TaskInput.from_text(
                sfn.JsonPath.format(
                    "{} | run {} | report: {} | execution: {}",
                    sfn.JsonPath.string_at("$.report.headline"),
                    sfn.JsonPath.string_at("$.run"),
                    sfn.JsonPath.string_at("$.report.report"),
                    sfn.JsonPath.string_at("$.execution"),
                )
            ),
        )
        # SNS is the last to hear of the failure: a passing error must not silence it.
        self._retry(notify, ["SNS.SdkClientException", "SNS.InternalErrorException", "SNS.ThrottledException"], seconds=2, attempts=4, longest=30)
        return notify
