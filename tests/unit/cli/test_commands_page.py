"""docs/commands.md says what the commands do: every option, every exit code, every permission, and no message that nobody gives."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from cli import rehearse, version
from cli.__main__ import app
from cli.exit_codes import MEANINGS, ExitCode
from tests.unit.cli.conftest import Operator
from tests.unit.cli.fake_aws import World
from tests.unit.cli.test_watch import script_of_a_re_encryption

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs/commands.md").read_text(encoding="utf-8")
COMMANDS = ("start", "watch", "report", "runs")
_SERVICES = {"DescribeStacks": "cloudformation", "ListObjectsV2": "s3", "GetObject": "s3", "HeadObject": "s3"}
_ACTIONS = {"ListObjectsV2": "ListBucket", "HeadObject": "GetObject"}


def section(heading: str) -> str:
    return PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def table(heading: str) -> list[list[str]]:
    """The rows of a section's table, without its head."""
    lines = [line for line in section(heading).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def options(command: str) -> set[str]:
    """The long options of a command, as typer knows them."""
    group = typer.main.get_command(app)
    return {name for option in group.commands[command].params for name in option.opts if name.startswith("--")} - {"--help"}  # type: ignore[attr-defined]  # the app has several commands, so it is a group


def test_the_exit_codes_are_those_of_the_code() -> None:
    rows = {int(code): (meaning, of_rehearse) for code, meaning, of_rehearse in table("Exit codes")}
    assert {code: meaning for code, (meaning, _) in rows.items()} == {int(code): meaning for code, meaning in MEANINGS.items()}
    assert set(MEANINGS) == set(ExitCode)
    assert {code for code, (_, of_rehearse) in rows.items() if of_rehearse} == {int(code) for code in rehearse.ExitCode}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_is_explained(command: str) -> None:
    common = {row[0].strip("`").split()[0] for row in table("Options of all four")}
    own = set(re.findall(r"\| `(--[a-z-]+)", section(command)))
    assert common | own == options(command)


@pytest.mark.parametrize("command", [*COMMANDS, "rehearse"])
def test_help_explains_each_command_with_an_example(command: str) -> None:
    shown = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200"}).output
    assert re.search(rf"grafana-reencrypt {command} --", shown)
    assert all(option in shown for option in options(command))


def test_the_version_is_that_of_the_project() -> None:
    assert CliRunner().invoke(app, ["--version"]).output == f"grafana-reencrypt {version()}\n"
    assert re.fullmatch(r"\d+\.\d+\.\d+(\.dev\d+)?", version())


def test_the_permissions_are_those_that_the_commands_use(world: World, operator: Operator) -> None:
    used: dict[str, set[str]] = {}

    def run(command: str, *arguments: str) -> None:
        world.calls.clear()
        assert operator(command.split()[0], *arguments, *command.split()[1:]).code == 0
        for name in world.names():
            used.setdefault(f"{_SERVICES.get(name, 'states')}:{_ACTIONS.get(name, name)}", set()).add(command)

    run("start", "--input", "{}", "--name", "plain")
    script_of_a_re_encryption(world)
    run("watch", "the-move")
    world.end(world.begin("again", {}, status="SUCCEEDED", redrives=1))
    for command in ("watch", "report", "runs"):
        run(command)
    world.then(lambda: script_of_a_re_encryption(world, "watched", next(arn for arn in world.executions if arn.endswith(":watched"))))
    run("start --watch", "--input", "{}", "--name", "watched")
    documented = {row[0].strip("`"): set(re.findall(r"`([a-z -]+)`", row[2])) for row in table("What your credentials need")}
    assert set(documented) == set(used)
    assert used.pop("cloudformation:DescribeStacks") == {"start", "start --watch", "watch", "report", "runs"}, "which the page calls all"
    # Without it S3 says of an object that is not there that access to it is denied.
    assert used.pop("s3:ListBucket") < documented["s3:ListBucket"] == documented["s3:GetObject"]
    used["states:StartExecution"].remove("start --watch")
    assert {action: documented[action] for action in used} == used


def test_every_message_on_the_page_is_one_that_is_given() -> None:
    sources = [*(ROOT / "cli").glob("*.py"), *(ROOT / "lambda/reencrypt").rglob("*.py")]
    code = "".join(re.sub(r"\{[^{}\n]*\}", "…", source.read_text(encoding="utf-8")) for source in sources)
    given = [cell for row in table("What can go wrong") for cell in re.findall(r"`([^`]+)`", row[0])]
    assert len(given) == len(table("What can go wrong"))
    assert [message for message in given if message.strip("… ") not in code] == []
