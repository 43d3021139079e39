"""The real stack, deployed on a local AWS: `with Rehearsal(ini, folder) as rehearsal: rehearsal.run({"mode": "plan"})`.

Deploys once and then runs any number of executions, one after the other or, from several threads, at once. The end-to-end tests share one.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import itertools
import json
import platform
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cli.kms_keys import create_keys, create_users, kms_sections, wanted_key, wanted_users
from infra.toml_text import lines
from localaws.aws import LocalAws
from reencrypt.grafana.settings import load_settings

STACK = "rehearsal"
INI_SECRET, ENVIRONMENT_SECRET = "grafana-settings/ini", "grafana-settings/environment"
FILES = ("report.json", "report.html", "certificate.json")
_POLL_SECONDS = 0.25
_WORKING_STATES = frozenset({"TaskStateEntered", "MapStateEntered"})
_GOOD_OUTCOMES = frozenset({"succeeded", "succeeded-with-unreadable"})


@dataclass(frozen=True)
class Progress:
    """How far an execution is: the state it is in, and for a Map the chunks done of all (0 of 0 elsewhere)."""

    state: str
    done: int = 0
    total: int = 0


@dataclass(frozen=True)
class RunResult:
    """What became of one execution. `status` is Step Functions'; `report` is report.json, or None where the run could not write one.

    `files` are what the run has left for people, by name, as they are in the bucket.
    """

    run: str
    mode: str
    status: str
    error: str
    cause: str
    seconds: float
    report: Mapping[str, Any] | None
    files: Mapping[str, str] = field(repr=False)

    @property
    def ended_well(self) -> bool:
        """The execution succeeded and so did the run."""
        return self.status == "SUCCEEDED" and self.report is not None and self.report["outcome"] in _GOOD_OUTCOMES

    @property
    def headline(self) -> str:
        """The outcome in one line, from the report or, without one, from the execution."""
        if self.report is not None:
            return str(self.report.get("headline") or self.report["outcome"])
        return f"{self.status.lower()}: {self.error or 'no report'}{f': {self.cause}' if self.cause else ''}"


class Rehearsal:
    """The stack in an empty AWS account under `folder`, configured by the text of a grafana.ini (and its `GF_…` variables).

    The KMS keys and access keys that the ini's awskms sections name exist there. `settings` are further deployment settings (deployment.toml's
    keys). `iam` and `wait_scale`: see LocalAws. `on_step` is told each step as it begins.
    """

    def __init__(
        self,
        grafana_ini: str,
        folder: Path,
        *,
        environment: Mapping[str, str] | None = None,
        settings: Mapping[str, object] | None = None,
        iam: bool = True,
        wait_scale: float = 1.0,
        on_step: Callable[[str], None] = lambda step: None,
    ) -> None:
        self.aws = LocalAws(folder, iam=iam, wait_scale=wait_scale)
        self.outputs: Mapping[str, str] = {}
        self._ini, self._environment, self._settings, self._on_step = grafana_ini, dict(environment or {}), dict(settings or {}), on_step
        self._sections = kms_sections(load_settings(grafana_ini, self._environment))
        self._keys = [wanted_key(section) for section in self._sections]
        self._users = wanted_users(self._sections)
        self._names = _Names()

    def __enter__(self) -> Self:
        try:
            self._deploy()
        except BaseException:
            self.aws.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.aws.stop()

    def run(self, request: object, *, on_progress: Callable[[Progress], None] = lambda progress: None) -> RunResult:
        """Starts one execution with the input `request`, waits until it ends, and fetches its report. Raises nothing for a run that fails."""
        return self.result(self.start(request), mode_of(request), on_progress=on_progress)

    def result(self, execution: str, mode: str = "", *, on_progress: Callable[[Progress], None] = lambda progress: None) -> RunResult:
        """What became of an execution that `start` began, when it has ended."""
        started = time.monotonic()
        name = execution.rpartition(":")[2]
        for progress in self._follow(execution):
            on_progress(progress)
        ended = self.client("stepfunctions").describe_execution(executionArn=execution)
        found = {file: self.object_text(f"runs/{name}/{file}") for file in FILES}
        files = {file: text for file, text in found.items() if text is not None}
        return RunResult(
            run=name,
            mode=mode or mode_of(json.loads(ended["input"])),
            status=ended["status"],
            error=ended.get("error", ""),
            cause=ended.get("cause", ""),
            seconds=time.monotonic() - started,
            report=json.loads(files["report.json"]) if "report.json" in files else None,
            files=files,
        )

    def start(self, request: object) -> str:
        """Starts an execution and returns its ARN without waiting; the last part of the ARN is the run's name."""
        name = self._names.next(mode_of(request))
        started = self.client("stepfunctions").start_execution(stateMachineArn=self.outputs["StateMachineArn"], name=name, input=json.dumps(request))
        return str(started["executionArn"])

    def object_text(self, key: str) -> str | None:
        """An object of the run bucket as text; None if there is none."""
        s3 = self.client("s3")
        with contextlib.suppress(s3.exceptions.NoSuchKey):
            text: str = s3.get_object(Bucket=self.outputs["RunBucketName"], Key=key)["Body"].read().decode()
            return text
        return None

    def function_logs(self) -> str:
        """Everything that the functions and the state machine logged so far."""
        logs, lines = self.client("logs"), list[str]()
        for group in logs.describe_log_groups()["logGroups"]:
            for page in logs.get_paginator("filter_log_events").paginate(logGroupName=group["logGroupName"]):
                lines += [f"{group['logGroupName']} {event['message'].rstrip()}" for event in page["events"]]
        return "\n".join(lines)

    def set_grafana_ini(self, grafana_ini: str, environment: Mapping[str, str] | None = None) -> None:
        """Puts other settings in place for the executions that follow. KMS keys and users that only the new ini names are made too.

        The functions' role may use the keys of the first ini, or of the setting `kms_key_arns`, and no others: that is part of the deployment.
        """
        sections = kms_sections(load_settings(grafana_ini, environment or {}))
        create_keys(self.client, {wanted_key(section) for section in sections} - set(self._keys))
        self._keys += [key for key in map(wanted_key, sections) if key not in self._keys]
        users = wanted_users(sections)
        create_users(self.client, [user for user in users if user not in self._users], first=len(self._users) + 1)
        self._users += [user for user in users if user not in self._users]
        secrets = self.client("secretsmanager")
        secrets.put_secret_value(SecretId=INI_SECRET, SecretString=grafana_ini)
        secrets.put_secret_value(SecretId=ENVIRONMENT_SECRET, SecretString=json.dumps(dict(environment or {})))
        self.cold_start()

    def cold_start(self) -> None:
        """Makes every function start anew at its next call; a warm one answers from what it cached."""
        functions = self.client("lambda")
        for function in functions.list_functions()["Functions"]:
            variables = function.get("Environment", {}).get("Variables", {}) | {"COLD_START": str(time.time_ns())}
            functions.update_function_configuration(FunctionName=function["FunctionName"], Environment={"Variables": variables})

    def client(self, service: str, *, region: str | None = None, account: str | None = None) -> Any:
        """A boto3 client of this AWS as root; see LocalAws.client."""
        return self.aws.client(service, **{key: value for key, value in (("region", region), ("account", account)) if value})

    def _deploy(self) -> None:
        settings = self._write_settings()
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            self._on_step("starting the local AWS, synthesizing the stack, bundling the functions")
            synthesized = pool.submit(self.aws.synth, {"settings": str(settings)})
            try:
                self.aws.start()
                self.aws.bootstrap()
                secrets = self.client("secretsmanager")
                secrets.create_secret(Name=INI_SECRET, SecretString=self._ini)
                secrets.create_secret(Name=ENVIRONMENT_SECRET, SecretString=json.dumps(self._environment))
                create_keys(self.client, self._keys)
                create_users(self.client, self._users)
                synthesized.result()
            except BaseException:
                self.aws.stop()  # a running synthesis too, which the pool would wait for
                raise
        self._on_step("deploying the stack")
        outputs = self.aws.folder / "outputs.json"
        self.aws.cdk("deploy", "--require-approval", "never", "--progress", "events", "--outputs-file", str(outputs))
        self.outputs = json.loads(outputs.read_text())[STACK]

    def _write_settings(self) -> Path:
        settings: dict[str, object] = {
            "stack_name": STACK,
            "grafana_ini_secret": INI_SECRET,
            "grafana_environment_secret": ENVIRONMENT_SECRET,
            "kms_key_arns": sorted({key.arn for key in self._keys}),
            **this_machine(),
            "removal": "destroy",
        } | self._settings
        path = self.aws.folder / "deployment.toml"
        path.write_text(lines(settings), encoding="utf-8")
        return path

    def _follow(self, execution: str) -> Iterator[Progress]:
        """Yields each state as it is entered and a map's counts as they change; returns when the execution has ended."""
        sfn, seen, counts, pause = self.client("stepfunctions"), 0, Progress(""), threading.Event()
        running = True
        while running:
            running = sfn.describe_execution(executionArn=execution)["status"] == "RUNNING"
            for number, state in _states_entered(sfn, execution, seen):
                seen, counts = number, Progress(state)
                yield counts
            if running and (latest := _map_counts(sfn, execution, counts.state)) not in (None, counts):
                counts = latest or counts
                yield counts
            pause.wait(_POLL_SECONDS if running else 0)


def mode_of(request: object) -> str:
    """The input's mode as a word for file and run names: `plan` without one, `invalid` for what can be none."""
    mode = request.get("mode", "plan") if isinstance(request, Mapping) else None
    return mode if isinstance(mode, str) and re.fullmatch(r"[a-z-]{1,30}", mode) else "invalid"


class _Names:
    """Names of runs: `2-re-encrypt` is the second. Short, so that the input of a restore can name a run before it has begun."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)

    def next(self, mode: str) -> str:
        return f"{next(self._numbers)}-{mode}"


def _states_entered(sfn: Any, execution: str, after: int) -> list[tuple[int, str]]:
    """(event's number, state's name) of the states that do something and were entered after event number `after`, in order."""
    events = sfn.get_execution_history(executionArn=execution, reverseOrder=True, maxResults=100)["events"]
    return sorted((event["id"], event["stateEnteredEventDetails"]["name"]) for event in events if event["id"] > after and event["type"] in _WORKING_STATES)


def _map_counts(sfn: Any, execution: str, state: str) -> Progress | None:
    """The chunks done and in all of the map that is running; None if none is."""
    for listed in sfn.list_map_runs(executionArn=execution)["mapRuns"]:
        described = sfn.describe_map_run(mapRunArn=listed["mapRunArn"])
        if described["status"] == "RUNNING":
            items = described["itemCounts"]
            return Progress(state, items["total"] - items["pending"] - items["running"], items["total"])
    return None


def this_machine() -> dict[str, str]:
    """The settings by which functions run here: this machine's architecture (infra/bundling.py has it too, but importing that starts Node), this Python."""
    architecture = "arm64" if platform.machine().lower() in ("arm64", "aarch64") else "x86_64"
    return {"architecture": architecture, "lambda_python": f"{sys.version_info.major}.{sys.version_info.minor}"}
