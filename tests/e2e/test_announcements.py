"""What the deployed stack tells: events and messages of runs that end well and badly; a scheduled start, and the watch over it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from cli.deployment import STACK, Rehearsal
from tests.e2e.conftest import SCHEDULE, Sample

_SECONDS = 60


class Inbox:
    """A queue that gets what is published to the topic, and the product's events from the default bus."""

    def __init__(self, deployed: Rehearsal) -> None:
        self._sqs = deployed.client("sqs")
        name = f"inbox-{time.time_ns()}"
        self._url = self._sqs.create_queue(QueueName=name)["QueueUrl"]
        arn = self._sqs.get_queue_attributes(QueueUrl=self._url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        services = {"Service": ["sns.amazonaws.com", "events.amazonaws.com"]}
        allow = {"Effect": "Allow", "Principal": services, "Action": "sqs:SendMessage", "Resource": arn}
        self._sqs.set_queue_attributes(QueueUrl=self._url, Attributes={"Policy": json.dumps({"Version": "2012-10-17", "Statement": [allow]})})
        sns, events = deployed.client("sns"), deployed.client("events")
        subscription = sns.subscribe(TopicArn=deployed.outputs["TopicArn"], Protocol="sqs", Endpoint=arn)["SubscriptionArn"]
        events.put_rule(Name=name, EventPattern=json.dumps({"source": ["grafana-reencrypt"]}))
        events.put_targets(Rule=name, Targets=[{"Id": "queue", "Arn": arn}])
        self._events, self._sns, self._rule, self._subscription = events, sns, name, subscription

    def of(self, run: str, wanted: int) -> tuple[dict[str, dict[str, Any]], list[dict[str, str]]]:
        """The run's events by detail type, and its messages, when there are `wanted` of both together."""
        found: list[dict[str, Any]] = []
        deadline = time.monotonic() + _SECONDS
        while time.monotonic() < deadline and sum(run in json.dumps(body) for body in found) < wanted:
            for message in self._sqs.receive_message(QueueUrl=self._url, WaitTimeSeconds=1, MaxNumberOfMessages=10).get("Messages", []):
                found.append(json.loads(message["Body"]))
                self._sqs.delete_message(QueueUrl=self._url, ReceiptHandle=message["ReceiptHandle"])
        mine = [body for body in found if run in json.dumps(body)]
        assert len(mine) == wanted, found
        return {body["detail-type"]: body["detail"] for body in mine if "detail-type" in body}, [body for body in mine if "Subject" in body]

    def close(self) -> None:
        """The next test has an inbox of its own."""
        self._sns.unsubscribe(SubscriptionArn=self._subscription)
        self._events.remove_targets(Rule=self._rule, Ids=["queue"])
        self._events.delete_rule(Name=self._rule)
        self._sqs.delete_queue(QueueUrl=self._url)


@pytest.fixture
def inbox(deployed: Rehearsal) -> Iterator[Inbox]:
    made = Inbox(deployed)
    yield made
    made.close()


def test_a_run_tells_when_it_starts_what_it_could_not_read_and_how_it_ended(sample: Sample, inbox: Inbox) -> None:
    sample.damage_one_value()
    failed = sample.deployed.run({"mode": "plan"})
    assert failed.status == "FAILED"
    events, messages = inbox.of(failed.run, 4)
    assert set(events) == {"RunStarted", "ValuesUnreadable", "RunFailed"}
    assert events["ValuesUnreadable"] == events["RunFailed"]
    report = f"s3://{sample.deployed.outputs['RunBucketName']}/runs/{failed.run}/report.json"
    assert failed.report is not None
    assert events["RunFailed"] == {
        "stack": STACK, "run": failed.run, "mode": "plan", "outcome": "failed", "headline": failed.report["headline"],
        "counts": failed.report["totals"], "unreadable": 1, "report": report,
    }  # fmt: skip
    started = events["RunStarted"]
    assert started.pop("counts")["rows"] > 0
    assert started == {"stack": STACK, "run": failed.run, "mode": "plan", "outcome": "started", "report": report}
    [message] = messages
    assert message["Subject"] == f"grafana-reencrypt: a run failed ({STACK})"
    assert message["Message"].startswith(failed.report["headline"])
    assert "What to do:\n  - " in message["Message"]

    allowed = sample.deployed.run({"mode": "plan", "onUnreadable": "report"})
    assert allowed.ended_well
    events, messages = inbox.of(allowed.run, 3)
    assert set(events) == {"RunStarted", "ValuesUnreadable", "RunSucceeded"}
    assert events["RunSucceeded"]["outcome"] == "succeeded-with-unreadable"
    assert messages == [], "a success is told only where the settings want it"


def test_a_run_that_is_refused_has_not_started_and_its_end_does_not_repeat_the_input(sample: Sample, inbox: Inbox) -> None:
    refused = sample.deployed.run({"mode": "hunter2-pasted"})
    events, messages = inbox.of(refused.run, 2)
    assert {kind: detail["mode"] for kind, detail in events.items()} == {"RunFailed": "invalid"}
    assert "hunter2" not in json.dumps([events, messages])


def test_a_schedule_starts_a_run_with_its_input_and_the_watch_knows_when_it_succeeded(sample: Sample) -> None:
    deployed = sample.deployed
    scheduler, sfn = deployed.client("scheduler"), deployed.client("stepfunctions")
    schedule = scheduler.get_schedule(GroupName=STACK, Name=SCHEDULE["name"])
    assert json.loads(schedule["Target"]["Input"]) == SCHEDULE["input"]
    before = {execution["executionArn"] for execution in sfn.list_executions(stateMachineArn=deployed.outputs["StateMachineArn"])["executions"]}
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S")
    kept = {key: schedule[key] for key in ("Name", "GroupName", "FlexibleTimeWindow", "Target")}
    scheduler.update_schedule(**kept, ScheduleExpression=f"at({now})", State="ENABLED")
    [started] = _new_executions(sfn, deployed.outputs["StateMachineArn"], before)
    result = deployed.result(started)
    assert result.ended_well, result.headline
    assert result.mode == "plan"
    functions = deployed.client("lambda")
    [watch] = [f["FunctionName"] for f in functions.list_functions()["Functions"] if f["Handler"] == "reencrypt.handlers.watch_age.handler"]
    answer = functions.invoke(FunctionName=watch, Payload=json.dumps({"modes": ["plan", "rotate"]}))
    assert "FunctionError" not in answer, answer["Payload"].read()
    days = json.loads(answer["Payload"].read())
    assert 0 <= days["plan"] < 0.01
    assert json.loads(deployed.object_text("runs/_last-success/plan.json") or "{}")["run"] == result.run


def _new_executions(sfn: Any, machine: str, before: set[str]) -> set[str]:
    """Waits for them: the local AWS looks every ten seconds whether a schedule is due."""
    deadline, pause = time.monotonic() + _SECONDS, threading.Event()
    while time.monotonic() < deadline:
        if new := {execution["executionArn"] for execution in sfn.list_executions(stateMachineArn=machine)["executions"]} - before:
            return new
        pause.wait(0.5)
    raise AssertionError("the schedule started nothing")
