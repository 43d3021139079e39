"""The functions' network: what is made in a VPC, who lets in whom, and that nothing is let out but to the database and to AWS."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.infrastructure.conftest import Synthesized

MADE, AURORA, PROXY = "vpc, rds password", "aurora, iam token, keys of another account", "rds proxy"
DATABASE_GROUP = "sg-0123456789abcdef1"
HTTPS = {"IpProtocol": "tcp", "FromPort": 443, "ToPort": 443}


@pytest.fixture
def made(synthesize: Callable[[str], Synthesized]) -> Synthesized:
    return synthesize(MADE)


def _group(stack: Synthesized, word: str) -> tuple[str, dict[str, Any]]:
    """The logical id and the properties of the security group whose id has `word` in it."""
    ((name, group),) = ((name, group) for name, group in stack.resources("AWS::EC2::SecurityGroup").items() if word in name)
    return name, group["Properties"]


def _rules(stack: Synthesized, kind: str) -> list[dict[str, Any]]:
    return [
        {key: value for key, value in rule["Properties"].items() if key != "Description"} for rule in stack.resources(f"AWS::EC2::SecurityGroup{kind}").values()
    ]


def _id(name: str) -> dict[str, Any]:
    return {"Fn::GetAtt": [name, "GroupId"]}


def test_a_made_group_lets_nobody_in_and_out_to_the_database_and_to_aws_only(made: Synthesized) -> None:
    functions, group = _group(made, "FunctionsGroup")
    endpoints, _ = _group(made, "EndpointsGroup")
    assert "SecurityGroupIngress" not in group
    assert [rule for rule in _rules(made, "Ingress") if rule["GroupId"] == _id(functions)] == []
    out = [*group.get("SecurityGroupEgress", []), *(rule for rule in _rules(made, "Egress") if rule["GroupId"] == _id(functions))]
    found = [{key: value for key, value in rule.items() if key not in ("Description", "GroupId")} for rule in out]
    assert len(found) == 3
    for rule in (
        {"DestinationSecurityGroupId": DATABASE_GROUP, "IpProtocol": "tcp", "FromPort": 5432, "ToPort": 5432},
        {"DestinationPrefixListId": "pl-0123456789abcdef0", **HTTPS},
        {"DestinationSecurityGroupId": _id(endpoints), **HTTPS},
    ):
        assert rule in found


def test_without_prefix_lists_a_made_group_reaches_aws_by_https_wherever_it_is(synthesize: Callable[[str], Synthesized]) -> None:
    _, group = _group(synthesize(PROXY), "FunctionsGroup")
    out = [*group["SecurityGroupEgress"], *_rules(synthesize(PROXY), "Egress")]
    found = [{key: value for key, value in rule.items() if key not in ("Description", "GroupId")} for rule in out]
    assert len(found) == 2
    assert {"CidrIp": "0.0.0.0/0", **HTTPS} in found
    assert {"DestinationSecurityGroupId": DATABASE_GROUP, "IpProtocol": "tcp", "FromPort": 5432, "ToPort": 5432} in found


@pytest.mark.parametrize(("name", "port"), [(MADE, 5432), (AURORA, 3306), (PROXY, 5432)])
def test_the_databases_group_lets_the_functions_in_at_its_port_and_gets_no_other_rule(synthesize: Callable[[str], Synthesized], name: str, port: int) -> None:
    stack = synthesize(name)
    source = "sg-0123456789abcdef0" if name == AURORA else _id(_group(stack, "FunctionsGroup")[0])
    rules = [rule for kind in ("Ingress", "Egress") for rule in _rules(stack, kind) if rule["GroupId"] == DATABASE_GROUP]
    assert rules == [{"GroupId": DATABASE_GROUP, "SourceSecurityGroupId": source, "IpProtocol": "tcp", "FromPort": port, "ToPort": port}]


def test_an_existing_group_of_the_functions_gets_no_rule(synthesize: Callable[[str], Synthesized]) -> None:
    rules = [rule for kind in ("Ingress", "Egress") for rule in _rules(synthesize(AURORA), kind)]
    assert [rule for rule in rules if rule["GroupId"] == "sg-0123456789abcdef0"] == []
    assert not synthesize(AURORA).resources("AWS::EC2::SecurityGroup")


def test_the_functions_are_in_the_made_group(made: Synthesized) -> None:
    functions, _ = _group(made, "FunctionsGroup")
    for function in made.resources("AWS::Lambda::Function").values():
        assert function["Properties"]["VpcConfig"]["SecurityGroupIds"] == [_id(functions)]


def test_each_endpoint_is_made_once_and_reachable_from_the_functions_only(made: Synthesized) -> None:
    endpoints, group = _group(made, "EndpointsGroup")
    functions, _ = _group(made, "FunctionsGroup")
    found = {}
    for endpoint in made.resources("AWS::EC2::VPCEndpoint").values():
        properties = endpoint["Properties"]
        assert properties["VpcId"] == "vpc-0123456789abcdef0"
        found[properties["ServiceName"]["Fn::Join"][1][-1]] = properties
    assert set(found) == {".s3", ".dynamodb", ".kms", ".secretsmanager", ".ssm", ".rds"}
    for name, properties in found.items():
        if name in (".s3", ".dynamodb"):
            assert (properties["VpcEndpointType"], properties["RouteTableIds"]) == ("Gateway", ["rtb-0123456789abcdef0"])
        else:
            assert (properties["VpcEndpointType"], properties["PrivateDnsEnabled"]) == ("Interface", True)
            assert properties["SubnetIds"] == ["subnet-0123456789abcdef0", "subnet-0123456789abcdef1"], "one of each zone"
            assert properties["SecurityGroupIds"] == [_id(endpoints)]
    assert [rule for rule in _rules(made, "Ingress") if rule["GroupId"] == _id(endpoints)] == [
        {"GroupId": _id(endpoints), "SourceSecurityGroupId": _id(functions), **HTTPS}
    ]
    assert all(rule.get("CidrIp") == "255.255.255.255/32" for rule in group.get("SecurityGroupEgress", [])), "it answers and calls nobody"


def test_outside_of_a_vpc_nothing_of_a_network_is_made(minimal: Synthesized) -> None:
    assert not {kind for kind in (resource["Type"] for resource in minimal.template["Resources"].values()) if kind.startswith("AWS::EC2::")}
