"""What a run tells the world while it goes: events on the account's default bus, and messages to the topic.

    RunStarted         the checks have passed, and the chunks are planned
    ValuesUnreadable   the run has ended and has met values that nothing could read; beside the following one
    RunSucceeded       the run has ended well
    RunFailed          the run has ended badly, or found nothing

The state machine puts them itself: the functions need neither a permission nor a way to EventBridge out of their subnets. An event that cannot be put is
tried again and then left: what it was to tell stays true, and the run goes on.
Source: https://docs.aws.amazon.com/step-functions/latest/dg/connect-eventbridge.html (FailedEntry, the execution's ARN among the resources).
"""

from __future__ import annotations

from collections.abc import Mapping

import aws_cdk as cdk
from aws_cdk import aws_sns as sns
from aws_cdk import aws_stepfunctions as sfn
from aws_cdk import aws_stepfunctions_tasks as tasks
from constructs import Construct

from infra.run_states import retry
from infra.run_storage import RunStorage

SOURCE = "grafana-reencrypt"
STARTED, SUCCEEDED, FAILED, UNREADABLE = "RunStarted", "RunSucceeded", "RunFailed", "ValuesUnreadable"
# What Report, Report failure and, where neither could, the state machine itself leave at $.report.
_ENDED = {
    "run.$": "$.run",
    "mode.$": "$.report.mode",
    "outcome.$": "$.report.outcome",
    "headline.$": "$.report.headline",
    "counts.$": "$.report.totals",
    "unreadable.$": "$.report.unreadable",
    "report.$": "$.report.report",
}
_SNS_ERRORS = ["SNS.SdkClientException", "SNS.InternalErrorException", "SNS.ThrottledException"]
_EVENT_ERRORS = ["EventBridge.SdkClientException", "EventBridge.FailedEntry", "EventBridge.ThrottlingException", "EventBridge.InternalException"]


class Announcements(Construct):
    """`started`, `unreadable`, `succeeded`, `failed` put an event; `notify` sends a message, and so does `notify_success`, where there is one."""

    def __init__(self, scope: Construct, construct_id: str, *, stack_name: str, storage: RunStorage, topic: sns.Topic, on_success: bool) -> None:
        super().__init__(scope, construct_id)
        self._stack_name, self._topic = stack_name, topic
        started = {
            "run.$": "$.run",
            "mode.$": "$.preflight.mode",
            "outcome": "started",
            "counts": {"chunks.$": "$.plan.chunks", "rows.$": "$.plan.rows"},
            "report": sfn.JsonPath.format(f"s3://{storage.bucket.bucket_name}/runs/{{}}/report.json", sfn.JsonPath.string_at("$.run")),
        }
        self.started = self._event("Announce the start", STARTED, started)
        self.unreadable = self._event("Announce unreadable values", UNREADABLE, _ENDED)
        self.succeeded = self._event("Announce the success", SUCCEEDED, _ENDED)
        self.failed = self._event("Announce the failure", FAILED, _ENDED)
        self.notify = self._message("Notify", "a run failed")
        self.notify_success = self._message("Notify of the success", "a run succeeded") if on_success else None

    def _event(self, state: str, detail_type: str, detail: Mapping[str, object]) -> tasks.EventBridgePutEvents:
        entry = tasks.EventBridgePutEventsEntry(source=SOURCE, detail_type=detail_type, detail=sfn.TaskInput.from_object({"stack": self._stack_name, **detail}))
        put = tasks.EventBridgePutEvents(self, state, entries=[entry], result_path=sfn.JsonPath.DISCARD, task_timeout=_soon())
        retry(put, _EVENT_ERRORS, seconds=2, attempts=3, longest=15)
        return put

    def _message(self, state: str, what: str) -> tasks.SnsPublish:
        publish = tasks.SnsPublish(
            self,
            state,
            topic=self._topic,
            subject=f"grafana-reencrypt: {what} ({self._stack_name})",  # SNS takes 100 characters; a stack's name has 60 at most
            message=sfn.TaskInput.from_json_path_at("$.report.message"),
            result_path=sfn.JsonPath.DISCARD,
            task_timeout=_soon(),
        )
        # SNS is the last to hear of a failure: a passing error must not silence it.
        retry(publish, _SNS_ERRORS, seconds=2, attempts=4, longest=30)
        return publish


def _soon() -> sfn.Timeout:
    return sfn.Timeout.duration(cdk.Duration.seconds(60))


def no_report(scope: Construct) -> sfn.Pass:
    """$.report of a run whose failure could not even be written down: as little as the events and the message need."""
    return sfn.Pass(
        scope,
        "Failure without a report",
        result_path="$.report",
        parameters={
            "mode": "unknown",
            "outcome": "failed",
            "totals": {},
            "unreadable": 0,
            "report": "none",
            "headline.$": "States.Format('{}, and the report of it could not be written: see the execution history', $.error.Error)",
            "message.$": "States.Format('failed: {}, and the report of it could not be written. Run: {}. What to do: see the execution history of {}', "
            "$.error.Error, $.run, $.execution)",
        },
    )
