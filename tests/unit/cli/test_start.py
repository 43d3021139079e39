"""`start` checks everything that can be checked before it starts anything, and says how to go on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reencrypt.errors import InvalidInput
from reencrypt.operations.run_input import parse
from tests.unit.cli.conftest import Operator
from tests.unit.cli.fake_aws import REGION, World


@pytest.mark.parametrize(
    "raw",
    [
        {"mode": "reencrypt"},
        {"Mode": "plan"},
        [],
        {"mode": "restore"},
        {"chunkRows": "12"},
        {"tables": "secrets"},
        {"tables": [1]},
        {"mode": "verify", "tables": ["secrets", "users"]},
    ],
)
def test_a_wrong_input_is_refused_with_the_runs_own_message_and_nothing_is_started(world: World, operator: Operator, raw: object) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse(raw)
    said = operator("start", "--input", json.dumps(raw))
    assert (said.code, said.output, said.errors) == (2, "", f"error: {refused.value}\n")
    assert "StartExecution" not in world.names()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "give the run's input"),
        (["--input", "{}", "--input-file", "x.json"], "give the run's input"),
        (["--input", "{mode: plan}"], "--input is not JSON"),
        (["--input", "[" * 200_000], "nested too deeply"),
        (["--input-file", "none.json"], "there is no file none.json"),
        (["--input-file", "/"], "cannot be read"),
        (["--input", "{}", "--name", "with a space"], "--name: "),
        (["--input", "{}", "--name", "-x"], "--name: "),
        (["--input", "{}", "--name", "x" * 81], "--name: "),
    ],
)
def test_wrong_arguments_start_nothing(world: World, operator: Operator, arguments: list[str], words: str) -> None:
    said = operator("start", *arguments)
    assert (said.code, words in said.errors) == (2, True), said
    assert "StartExecution" not in world.names()


def test_an_input_that_is_wrong_asks_nothing_of_aws(world: World, operator: Operator) -> None:
    operator("start", "--input", '{"mode": "nonsense"}')
    assert world.calls == []


def test_a_table_that_the_deployment_has_declared_may_be_named(world: World, operator: Operator) -> None:
    world.outputs["DeclaredTables"] = "other_plugin,plugin_account"
    request = {"mode": "verify", "tables": ["plugin_account", "secrets"]}
    assert operator("start", "--input", json.dumps(request)).code == 0
    [execution] = world.executions.values()
    assert json.loads(execution["input"]) == request, "the run gets the input as it was given"


def test_what_was_started_is_named_with_how_to_watch_it_and_its_page_in_the_console(world: World, operator: Operator) -> None:
    said = operator("start", "--input", '{"mode": "verify"}', "--name", "weekly", "--region", REGION, "--profile", "my ops")
    assert (said.code, said.errors) == (0, "")
    assert "started weekly (verify)" in said.output
    assert f"./grafana-reencrypt watch --stack grafana --region {REGION} --profile 'my ops' weekly" in said.output
    [arn] = world.executions
    assert f"https://{REGION}.console.aws.amazon.com/states/home?region={REGION}#/v2/executions/details/{arn}" in said.output


def test_a_run_without_a_name_is_named_by_time_and_mode(world: World, operator: Operator, tmp_path: Path) -> None:
    (tmp_path / "input.json").write_text('\ufeff{"mode": "re-encrypt"}', encoding="utf-8")
    said = operator("start", "--input-file", str(tmp_path / "input.json"), "--json")
    facts = json.loads(said.output)
    assert facts["run"].endswith("Z-re-encrypt")
    assert facts["mode"] == "re-encrypt"
    assert facts["execution"] in world.executions
    assert facts["execution"] in facts["console"]
    parse({"mode": "restore", "run": facts["run"]})


def test_the_input_may_come_by_standard_input(world: World, operator: Operator) -> None:
    assert operator("start", "--input-file", "-", stdin="{}").code == 0
    assert len(world.executions) == 1


def test_a_name_that_is_taken_is_refused(world: World, operator: Operator) -> None:
    world.begin("weekly", {})
    said = operator("start", "--input", '{"mode": "verify"}', "--name", "weekly")
    assert (said.code, "has a run weekly already; choose another name" in said.errors) == (2, True)


def test_start_and_watch_in_one_ends_with_the_runs_code_and_the_plans_estimate(world: World, operator: Operator) -> None:
    estimate = "Its workers will be busy for about 12 s (start-up not counted), for about USD 0.004."
    world.then(
        lambda: world.end(next(iter(world.executions)), estimate={"seconds": 12.0, "cost_usd": 0.004}, next_steps=[estimate], next_input={"mode": "re-encrypt"})
    )
    said = operator("start", "--input", "{}", "--watch")
    assert said.code == 0
    for words in ("started ", estimate, '{"mode": "re-encrypt"}', "about USD 0.002"):
        assert words in said.output


def test_ctrl_c_before_anything_was_started_says_so(world: World, operator: Operator) -> None:
    world.fail["DescribeStacks"] = [KeyboardInterrupt()]
    said = operator("start", "--input", "{}")
    assert (said.code, said.errors) == (130, "error: interrupted; nothing was started\n")


def test_ctrl_c_while_the_run_is_being_started_says_how_to_find_out(world: World, operator: Operator) -> None:
    world.fail["StartExecution"] = [KeyboardInterrupt()]
    said = operator("start", "--input", "{}")
    assert (said.code, "./grafana-reencrypt runs --stack grafana" in said.errors) == (130, True)
