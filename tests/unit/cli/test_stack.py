"""The stack is found by its outputs, and one that is not ours is refused in words."""

from __future__ import annotations

import pytest
from botocore.exceptions import NoRegionError

from cli.exit_codes import CannotGoOn
from cli.stack import find_stack
from tests.unit.cli.conftest import Operator
from tests.unit.cli.fake_aws import MACHINE, REGION, World


def test_a_stack_that_does_not_exist_is_named_with_the_region_that_was_searched(world: World, operator: Operator) -> None:
    said = operator("runs", stack="grafna")
    assert (said.code, said.errors) == (3, f"error: there is no stack grafna in {REGION} in this account: check --stack, --region and --profile\n")


def test_a_stack_without_our_outputs_is_not_ours(world: World, operator: Operator) -> None:
    del world.outputs["StateMachineArn"]
    said = operator("runs")
    assert said.code == 3
    assert "the stack grafana (CREATE_COMPLETE) has no output StateMachineArn: it is not one of this product's" in said.errors


def test_a_run_may_be_given_by_its_arn_but_not_by_that_of_another_machine(world: World) -> None:
    stack = find_stack("grafana", None, None)
    arn = f"{MACHINE.replace(':stateMachine:', ':execution:')}:a-run"
    assert stack.execution("a-run") == stack.execution(arn) == arn
    for other in (arn.replace("Machine", "Other"), "a run", "x" * 101, ""):
        with pytest.raises(CannotGoOn) as refused:
            stack.execution(other)
        assert refused.value.code == 2


@pytest.mark.parametrize(("partition", "console"), [("aws-cn", "console.amazonaws.cn"), ("aws-us-gov", "console.amazonaws-us-gov.com")])
def test_other_partitions_have_their_own_console(world: World, partition: str, console: str) -> None:
    assert f"https://{REGION}.{console}/states" in find_stack("grafana", None, None).console_url(f"arn:{partition}:states:x")


def test_a_stack_from_before_an_output_is_still_of_use(world: World) -> None:
    del world.outputs["WorkerMegabytes"]
    stack = find_stack("grafana", None, None)
    assert (stack.worker_megabytes, stack.declared_tables) == (None, frozenset())


def test_the_region_comes_from_the_option_then_from_aws_region_which_boto3_does_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str | None] = []

    def session(profile_name: str | None, region_name: str | None) -> None:
        asked.append(region_name)
        raise NoRegionError

    monkeypatch.setattr("cli.stack.boto3.Session", session)
    monkeypatch.setenv("AWS_REGION", "eu-north-1")
    for region in (None, "eu-west-1"):
        with pytest.raises(NoRegionError):
            find_stack("grafana", region, None)
    monkeypatch.delenv("AWS_REGION")
    with pytest.raises(NoRegionError):
        find_stack("grafana", None, None)
    assert asked == ["eu-north-1", "eu-west-1", None], "without either it is boto3's to find"
