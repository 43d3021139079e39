"""The run as a state machine: a runbook of named states, each transition with its reason.

    Name the run → Preflight → Plan chunks → (Announce the start) → Any chunk? ─ no ────────────────→ Report
                                                 ▼ yes
                                        Does this run write? ─ no ──────────────────────────→ Process chunks
                                                 ▼ yes
    Acquire lease → Does it need a data key? → Choose data key → Must it look everywhere? ─ no → Process chunks
                                                                         ▼ yes
    Wait out the caches → Scan every column → Judge the scan → What follows the scan? ─┬─ process → Process chunks
            ▲                     ▲                                                    ├─ remove → Remove data keys → Report
            └────── settle ───────┴─────────────────────── scan ───────────────────────┘

    Process chunks → Anything written? ─┬─ no → Report
                                        └─ yes → Judge the pass → What follows the pass? ─┬─ settle → Settle → Sweep chunks
                                                                                          ├─ sweep → Sweep chunks → Judge the pass
                                                                                          ├─ rewrap → Rewrap data keys
                                                                                          └─ verify → Verify chunks
    Rewrap data keys → Are all data keys done? ─┬─ no → Rewrap data keys
                                                └─ yes → Verify chunks
    Verify chunks → Does it remove data keys? ─┬─ yes → Scan every column
                                               └─ no → Report
    Report → Is a lease held? → Release lease → Anything unreadable? ─ yes → Announce unreadable values ─┐
                                                       └─ no ─────────────→ How did the run end? ←───────┘
    How did the run end? ─┬─ succeeded → Announce the success → (Notify of the success) → Run succeeded
                          └─ else → Announce the failure → Notify → Run failed
    Run failed → (only when redriven) Go on after a redrive → Preflight           any error → Report failure → Release lease

JSONPath throughout: the local AWS has no JSONata in a Distributed Map. Ranges and counts travel here, never rows, never secrets. What the
states hand to the functions and get back is the contract of the handlers. How a state is made: `infra/run_states.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_sns as sns
from aws_cdk import aws_stepfunctions as sfn
from aws_cdk import aws_stepfunctions_tasks as tasks
from constructs import Construct

from infra.announcements import Announcements, no_report
from infra.run_states import RUN, RunStates
from infra.run_storage import RunStorage

# Outcomes of report.json that leave the execution green.
GOOD_OUTCOMES = ("succeeded", "succeeded-with-unreadable")

# The first look through every column; Judge the scan names the second.
_FIRST_SCAN = {"phase": "survey"}


class RunDefinition(Construct):
    """The states and their transitions; `start` is the first."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        stack_name: str,
        functions: Mapping[str, lambda_.Function],
        storage: RunStorage,
        topic: sns.Topic,
        notify_on_success: bool,
    ) -> None:
        super().__init__(scope, construct_id)
        self._states = RunStates(self, functions, storage)
        told = Announcements(self, "Told", stack_name=stack_name, storage=storage, topic=topic, on_success=notify_on_success)
        task, chunks = self._states.task, self._states.map

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
                "scan": _FIRST_SCAN,
                "attempt": {"redrives": 0},
            },
        )
        preflight = task("Preflight", "preflight", {"run.$": "$.run", "input.$": "$.input"}, "$.preflight")
        plan = task("Plan chunks", "plan_chunks", {"run.$": "$.run", "input.$": "$.input"}, "$.plan")
        any_chunk = sfn.Choice(self, "Any chunk?")
        writes = sfn.Choice(self, "Does this run write?")
        acquire = task("Acquire lease", "acquire_lease", {"run.$": "$.run", "execution.$": "$.execution"}, "$.lease")
        encrypts = sfn.Choice(self, "Does it need a data key?")
        data_key = task("Choose data key", "choose_data_key", {"run.$": "$.run", "input.$": "$.input"}, "$.data_key")
        surveys = sfn.Choice(self, "Must it look everywhere?")
        scan = chunks("Scan every column", "scanned chunk", "scanned", phase="scan", phase_path="$.scan.phase", manifest="everything")
        judge_scan = task("Judge the scan", "judge_scan", {**RUN, "phase.$": "$.scan.phase"}, "$.scan")
        follows_scan = sfn.Choice(self, "What follows the scan?")
        wait = sfn.Wait(self, "Wait out the caches", time=sfn.WaitTime.seconds_path("$.scan.seconds"))
        remove = task("Remove data keys", "remove_data_keys", RUN, "$.removed")
        process = chunks("Process chunks", "chunk", "processed", phase="process")
        written = sfn.Choice(self, "Anything written?")
        judge = task("Judge the pass", "judge_pass", {**RUN, "number.$": "$.pass.number"}, "$.pass")
        follows = sfn.Choice(self, "What follows the pass?")
        settle = sfn.Wait(self, "Settle", time=sfn.WaitTime.seconds_path("$.pass.seconds"))
        sweep = chunks("Sweep chunks", "swept chunk", "swept", phase="sweep", phase_path="$.pass.phase")
        rewrap = task("Rewrap data keys", "rewrap_data_keys", RUN, "$.rewrapped")
        rewrapped = sfn.Choice(self, "Are all data keys done?")
        verify = chunks("Verify chunks", "verified chunk", "verified", phase="verify")
        removes = sfn.Choice(self, "Does it remove data keys?")
        report = task("Report", "report", {**RUN, "started.$": "$.started"}, "$.report")
        held = sfn.Choice(self, "Is a lease held?")
        release = task("Release lease", "release_lease", {"run.$": "$.run", "execution.$": "$.execution"}, "$.released")
        ended = sfn.Choice(self, "How did the run end?")
        report_failure = task("Report failure", "report_failure", {**RUN, "started.$": "$.started", "error.$": "$.error"}, "$.report")
        unwritten = no_report(self)
        any_unreadable = sfn.Choice(self, "Anything unreadable?")
        succeeded = sfn.Succeed(self, "Run succeeded", output_path="$.report")
        failed = self._run_failed()
        go_on = self._go_on()
        this_run_writes = sfn.Condition.boolean_equals("$.preflight.writes", True)
        good = sfn.Condition.or_(*(sfn.Condition.string_equals("$.report.outcome", outcome) for outcome in GOOD_OUTCOMES))

        self.start.next(preflight)
        # Nothing is planned on a database whose keys or columns are not what they should be.
        preflight.next(plan)
        # Everything is checked and counted: now it begins.
        plan.next(told.started)
        told.started.next(any_chunk)
        # No secret at all: no lease, no new data key for nothing. Report says nothing-found, which is a failure.
        any_chunk.when(sfn.Condition.number_equals("$.plan.chunks", 0), report)
        any_chunk.otherwise(writes)
        # One writer at a time. Plan and verify disturb nobody and may run beside it.
        writes.when(this_run_writes, acquire)
        writes.otherwise(process)
        # Under the lease, so that two runs cannot make two data keys; committed before the first value is encrypted under it.
        acquire.next(encrypts)
        encrypts.when(sfn.Condition.boolean_equals("$.preflight.encrypts", True), data_key)
        # A restore, a rollback, a prune and a change of keys encrypt nothing under a data key.
        encrypts.otherwise(surveys)
        data_key.next(surveys)
        # A data key may only go when no column of the database names it, known to this product or not, and secret_key may only change where no such column
        # holds anything under it: the first look stands before any write.
        surveys.when(sfn.Condition.boolean_equals("$.preflight.surveys", True), scan)
        surveys.otherwise(process)
        scan.next(judge_scan)
        judge_scan.next(follows_scan)
        # Nothing that a rollback or a change of secret_key would strand: values may be rewritten. A rollback looks again when they are.
        follows_scan.when(self._next_is("$.scan", "process"), process)
        # What nothing names is deactivated now; a Grafana that holds it in its cache may still write under it. No function runs meanwhile.
        follows_scan.when(self._next_is("$.scan", "settle"), wait)
        wait.next(scan)
        # Grafana is stopped, as the input says: there is no cache to wait for.
        follows_scan.when(self._next_is("$.scan", "scan"), scan)
        # The second look has seen every row since no Grafana could write under them: what it did not find named may go.
        follows_scan.otherwise(remove)
        remove.next(report)
        process.next(written)
        # Before any waiting: a pass with a chunk that failed, or that the failure budget stopped, ends the run here.
        written.when(this_run_writes, judge)
        written.otherwise(report)
        judge.next(follows)
        # A running Grafana may write under a key that it holds in its cache: wait until no cache can hold it. No function runs meanwhile.
        follows.when(self._next_is("$.pass", "settle"), settle)
        settle.next(sweep)
        # Saving an alert configuration or a plugin's settings copies old ciphertexts: again until a pass finds none, a bounded number of times.
        follows.when(self._next_is("$.pass", "sweep"), sweep)
        sweep.next(judge)
        # Only after the first pass: it has read everything that the data keys protect, and left a value by which each is proven.
        follows.when(self._next_is("$.pass", "rewrap"), rewrap)
        rewrap.next(rewrapped)
        # The function stopped before its deadline: on with the keys that are left.
        rewrapped.when(sfn.Condition.boolean_equals("$.rewrapped.done", False), rewrap)
        rewrapped.otherwise(verify)
        # Reads everything again: the report states what the database holds, not what was meant to be written.
        follows.otherwise(verify)
        verify.next(removes)
        # A rollback has moved every value away from the data keys; the second look, now for what names one all the same.
        removes.when(sfn.Condition.boolean_equals("$.preflight.removes", True), scan)
        removes.otherwise(report)
        # The lease is given back after the report, so that no second run changes what the report counts.
        report.next(held)
        held.when(this_run_writes, release)
        held.otherwise(any_unreadable)
        release.next(any_unreadable)
        # Whatever the outcome: a run may be told to succeed with them.
        any_unreadable.when(sfn.Condition.number_greater_than("$.report.unreadable", 0), told.unreadable)
        any_unreadable.otherwise(ended)
        told.unreadable.next(ended)
        ended.when(good, told.succeeded)
        told.succeeded.next(told.notify_success or succeeded)
        # Failed or nothing-found: no silent success, so somebody is told and the execution itself is red.
        ended.otherwise(told.failed)
        told.failed.next(told.notify)
        told.notify.next(failed)
        # Only a redrive comes past this task: the run begins anew, under a name of its own, in the same execution.
        failed.next(go_on)
        go_on.next(preflight)

        # Whatever the error, it ends in a report that names it. LeaseHeld takes this way too.
        for state in (preflight, plan, acquire, data_key, scan, judge_scan, process, judge, sweep, rewrap, verify, remove, report):
            state.add_catch(report_failure, errors=["States.ALL"], result_path="$.error")
        # The lease is deleted only if this run holds it, so another run's stays.
        report_failure.next(release)
        # The bucket may be what is broken: the error is still told, by the notification.
        report_failure.add_catch(unwritten, errors=["States.ALL"], result_path="$.report_error")
        unwritten.next(release)
        # A lease expires by itself; the run's outcome stands.
        release.add_catch(any_unreadable, errors=["States.ALL"], result_path="$.release_error")
        whatever: Mapping[str, Any] = {"errors": ["States.ALL"], "result_path": "$.telling_error"}
        # No run fails, or fails for another reason than its own, because nobody could be told.
        told.started.add_catch(any_chunk, **whatever)
        told.unreadable.add_catch(ended, **whatever)
        told.succeeded.add_catch(told.notify_success or succeeded, **whatever)
        told.failed.add_catch(told.notify, **whatever)
        told.notify.add_catch(failed, **whatever)
        if told.notify_success:
            told.notify_success.next(succeeded)
            told.notify_success.add_catch(succeeded, **whatever)

    @staticmethod
    def _next_is(judged: str, step: str) -> sfn.Condition:
        return sfn.Condition.string_equals(f"{judged}.next", step)

    def _run_failed(self) -> tasks.LambdaInvoke:
        """The run's red end. A task instead of a Fail state, which a redrive would only fail in again."""
        return self._states.task(
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
                "scan": _FIRST_SCAN,
                "attempt.$": "$.attempt",
            },
        )
