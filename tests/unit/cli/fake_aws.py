"""An AWS in memory for the commands on a deployed stack: real boto3 clients, whose requests are checked against AWS's own models and answered here.

A test tells it as a script: `world.then(lambda: …)` is what happens while the command waits for its next round.
"""

from __future__ import annotations

import functools
import io
import json
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from boto3 import Session
from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders
from botocore.config import Config

REGION, ACCOUNT, BUCKET = "eu-north-1", "111122223333", "run-bucket"
MACHINE = f"arn:aws:states:{REGION}:{ACCOUNT}:stateMachine:Machine"
OUTPUTS = {"StateMachineArn": MACHINE, "RunBucketName": BUCKET, "WorkerMegabytes": "1769"}
SECRET = "AQoXnyc-a-session-token-of-somebody"
COUNTS = ("re_encrypted", "already_current", "empty", "changed_by_grafana", "plaintext", "unreadable")


class AwsSays(Exception):
    """An error that AWS answers with."""

    def __init__(self, code: str, message: str = "", status: int = 400) -> None:
        super().__init__(code)
        self.code, self.message, self.status = code, message, status


@functools.cache
def _client(service: str) -> Any:
    session: Any = Session(aws_access_key_id="AKIAIOSFODNN7EXAMPLE", aws_secret_access_key=SECRET, region_name=REGION)
    client = session.client(service)
    client.meta.events.register("provide-client-params", lambda params, **_: _newest[0].keep(params))
    client.meta.events.register("before-call", lambda model, **_: _newest[0].answer(model.name))
    return client


_newest: list[World] = []


class World:
    """The stack `grafana`: its executions and the objects of its bucket. `calls` are the operations in order, `pauses` the waits between rounds.

    `fail[operation]` are errors that the next calls of it get, one each.
    """

    def __init__(self) -> None:
        self.outputs: dict[str, str] = dict(OUTPUTS)
        self.executions: dict[str, dict[str, Any]] = {}
        self.events: dict[str, list[dict[str, Any]]] = {}
        self.map_runs: list[dict[str, Any]] = []
        self.objects: dict[str, bytes] = {}
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.pauses: list[float] = []
        self.patience: list[float] = []
        self.fail: dict[str, list[BaseException]] = {}
        self._script: list[Callable[[], object]] = []
        self._asked = threading.local()

    def client(self, service: str, config: Config | None = None) -> Any:
        """A client of this AWS, as boto3.Session.client. Made once for all tests, which is what takes time; it asks the newest world."""
        _newest[:] = [self]
        return _client(service)

    def then(self, *steps: Callable[[], object]) -> None:
        """What happens next, one step for each wait of the command."""
        self._script += steps

    def pause(self, seconds: float) -> None:
        """The command waits: the next step happens."""
        self.pauses.append(seconds)
        assert len(self.pauses) < 100, "the command watches for ever"
        if self._script:
            self._script.pop(0)()

    def begin(self, name: str, request: object, *, status: str = "RUNNING", redrives: int = 0) -> str:
        """An execution that runs, or has ended already."""
        arn = f"{MACHINE.replace(':stateMachine:', ':execution:')}:{name}"
        moment = datetime(2026, 11, 24, 22, 10, len(self.executions), tzinfo=UTC)
        self.executions[arn] = {
            "executionArn": arn, "stateMachineArn": MACHINE, "name": name, "status": status, "startDate": moment, "input": json.dumps(request),
            "redriveCount": redrives,
        }  # fmt: skip
        self.events[arn] = []
        return arn

    def enter(self, arn: str, state: str, kind: str = "Task") -> None:
        """The execution enters a state."""
        self.event(arn, f"{kind}StateEntered", stateEnteredEventDetails={"name": state})

    def event(self, arn: str, kind: str, **details: Any) -> None:
        events = self.events[arn]
        events.append({"id": len(events) + 1, "previousEventId": len(events), "timestamp": datetime.now(UTC), "type": kind, **details})

    def enter_map(self, arn: str, state: str, label: str, total: int) -> dict[str, Any]:
        """The execution enters a map; returns its Map Run, to be moved on by `moved`."""
        self.enter(arn, state, "Map")
        items = dict.fromkeys(("pending", "running", "succeeded", "failed", "timedOut", "aborted", "total", "resultsWritten"), 0)
        run = {
            "mapRunArn": f"arn:aws:states:{REGION}:{ACCOUNT}:mapRun:Machine/{label}:{len(self.map_runs)}", "executionArn": arn, "status": "RUNNING",
            "startDate": datetime.now(UTC), "maxConcurrency": 4, "toleratedFailurePercentage": 100.0, "toleratedFailureCount": 0,
            "itemCounts": items | {"total": total, "pending": total}, "executionCounts": items,
        }  # fmt: skip
        self.map_runs.append(run)
        return run

    def moved(self, run: dict[str, Any], done: int) -> None:
        """So many items of the Map Run are done; it ends with the last."""
        total = run["itemCounts"]["total"]
        run["itemCounts"] |= {"pending": total - done, "succeeded": done}
        if done == total:
            run |= {"status": "SUCCEEDED", "stopDate": datetime.now(UTC)}

    def put(self, key: str, value: object) -> None:
        """An object in the run bucket, under `runs/`."""
        self.objects[f"runs/{key}"] = (value if isinstance(value, str) else json.dumps(value)).encode()

    def facts(self, run: str, *, settle: int = 960) -> None:
        """What preflight and plan leave."""
        self.put(f"{run}/preflight.json", {"engine": "MySQL 8.0", "provider": "awskms.prod", "settle_seconds": settle, "data_keys": [{}, {}]})
        self.put(f"{run}/plan.json", {"rows": 400, "chunks": 4, "max_concurrency": 2})

    def outcome(self, run: str, phase: str, chunk: int, **counts: int) -> None:
        """What a worker leaves for a chunk of the table `secrets`."""
        self.put(
            f"{run}/outcomes/{phase}/{chunk:06d}-start.json",
            {"group": "secrets", "rows": 100, "columns": {"secrets.value": counts}, "keys": {}, "unreadable": [], "plaintext": [], "new_data_keys": [],
             "witnesses": {}, "references": [], "seconds": 2.0, "to": None},
        )  # fmt: skip

    def end(self, arn: str, status: str = "SUCCEEDED", *, stored: str | None = None, outcome: str | None = "succeeded", **report: Any) -> None:
        """The execution ends, with a report unless `outcome` is None."""
        execution = self.executions[arn]
        execution |= {"status": status, "stopDate": datetime(2026, 11, 24, 22, 11, tzinfo=UTC)}
        self.event(arn, {"SUCCEEDED": "ExecutionSucceeded", "ABORTED": "ExecutionAborted", "TIMED_OUT": "ExecutionTimedOut"}.get(status, "ExecutionFailed"))
        if outcome is not None:
            run = stored or execution["name"]
            self.put(f"{run}/report.json", report_of(run, json.loads(execution["input"]).get("mode", "plan"), outcome, **report))
            self.put(f"{run}/report.html", "<h1>the report</h1>")

    def names(self) -> list[str]:
        """The operations that were called."""
        return [name for name, _ in self.calls]

    def keep(self, params: dict[str, Any]) -> None:
        """The parameters of the request that this thread is about to make; botocore tells them apart from its name."""
        self._asked.params = params

    def answer(self, name: str) -> tuple[AWSResponse, dict[str, Any]]:
        """What AWS answers to this thread's request."""
        params = self._asked.params
        self.calls.append((name, params))
        try:
            if self.fail.get(name):
                raise self.fail[name].pop(0)
            answer = getattr(self, f"_{name}")(params)
        except AwsSays as said:
            facts = {"Error": {"Code": said.code, "Message": said.message}, "ResponseMetadata": {"HTTPStatusCode": said.status, "RequestId": "req-1"}}
            return AWSResponse("https://aws", said.status, HTTPHeaders(), None), facts
        return AWSResponse("https://aws", 200, HTTPHeaders(), None), answer | {"ResponseMetadata": {"HTTPStatusCode": 200}}

    def _execution(self, params: dict[str, Any]) -> dict[str, Any]:
        if params["executionArn"] not in self.executions:
            raise AwsSays("ExecutionDoesNotExist")
        return self.executions[params["executionArn"]]

    def _DescribeStacks(self, params: dict[str, Any]) -> dict[str, Any]:  # noqa: N802 - AWS's name
        if params["StackName"] != "grafana":
            raise AwsSays("ValidationError", f"Stack with id {params['StackName']} does not exist")
        outputs = [{"OutputKey": key, "OutputValue": value} for key, value in self.outputs.items()]
        return {"Stacks": [{"StackName": "grafana", "StackStatus": "CREATE_COMPLETE", "Outputs": outputs}]}

    def _StartExecution(self, params: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        if any(execution["name"] == params["name"] for execution in self.executions.values()):
            raise AwsSays("ExecutionAlreadyExists")
        return {"executionArn": self.begin(params["name"], json.loads(params["input"])), "startDate": datetime.now(UTC)}

    def _DescribeExecution(self, params: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return dict(self._execution(params))

    def _ListExecutions(self, params: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        newest = sorted(self.executions.values(), key=lambda each: each["startDate"], reverse=True)
        start = int(params.get("nextToken", 0))
        page = {"executions": [dict(each) for each in newest[start : start + 2]]}  # small pages, so that there are several
        return page | ({"nextToken": str(start + 2)} if start + 2 < len(newest) else {})

    def _GetExecutionHistory(self, params: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        self._execution(params)
        events = self.events[params["executionArn"]][::-1] if params["reverseOrder"] else self.events[params["executionArn"]]
        start, size = int(params.get("nextToken", 0)), min(params["maxResults"], 3)
        return {"events": events[start : start + size]} | ({"nextToken": str(start + size)} if start + size < len(events) else {})

    def _ListMapRuns(self, params: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return {"mapRuns": [dict(run, stateMachineArn=MACHINE) for run in self.map_runs if run["executionArn"] == params["executionArn"]]}

    def _DescribeMapRun(self, params: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return next(dict(run) for run in self.map_runs if run["mapRunArn"] == params["mapRunArn"])

    def _GetObject(self, params: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        if params["Key"] not in self.objects:
            raise AwsSays("NoSuchKey", status=404)
        return {"Body": io.BytesIO(self.objects[params["Key"]])}

    def _HeadObject(self, params: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        if params["Key"] not in self.objects:
            raise AwsSays("404", status=404)
        return {}

    def _ListObjectsV2(self, params: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return {"Contents": [{"Key": key} for key in sorted(self.objects) if key.startswith(params["Prefix"])]}


def report_of(run: str, mode: str, outcome: str, **more: Any) -> dict[str, Any]:
    """A report.json as far as the commands read it."""
    totals = {"rows": 400, "values": 400} | dict.fromkeys(COUNTS, 0) | {"re_encrypted": 400}
    return {
        "run": run, "mode": mode, "outcome": outcome, "headline": f"{outcome}: 400 values", "unreadable": [], "totals": totals,
        "columns": [{"table": "secrets", "column": "value", "present": True, **totals}], "seconds": 41.0, "estimated_cost_usd": 0.0021, "estimate": None,
        "error": None, "notes": ["a note"], "next_steps": ["the next step"], "next_input": None,
    } | more  # fmt: skip
