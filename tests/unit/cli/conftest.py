"""The AWS in memory that the commands on a deployed stack speak to."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from typer.testing import CliRunner

from cli.__main__ import app
from cli.aws_problems import Patience
from tests.unit.cli.fake_aws import World


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    """The AWS of this test. Nothing waits: a command that would tells the world so, which then moves on."""
    made = World()
    monkeypatch.setattr("cli.stack.boto3.Session", lambda profile_name, region_name: made)
    monkeypatch.setattr("cli.watch.sleep", made.pause)
    monkeypatch.setattr("cli.stack.Patience", lambda: Patience(made.patience.append))
    return made


@dataclass(frozen=True)
class Said:
    """How a command ended and what it said, without the line breaks of the screen."""

    code: int
    output: str
    errors: str


class Operator:
    """Runs commands on the stack `grafana`."""

    def __call__(self, verb: str, *arguments: str, stack: str = "grafana", stdin: str | None = None) -> Said:
        done = CliRunner().invoke(app, [verb, "--stack", stack, *arguments], input=stdin)
        assert "Traceback" not in done.output
        assert not set(done.output) & {"\x1b", "\r"}, "no control characters where there is no terminal"
        return Said(done.exit_code, done.stdout, done.stderr)


@pytest.fixture
def operator() -> Operator:
    """Somebody at a shell."""
    return Operator()
