"""Where the functions run: outside a VPC, or in the subnets and security groups that the settings name. Makes nothing itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from constructs import Construct

from infra.settings import VpcSettings

# What AWSLambdaVPCAccessExecutionRole grants besides logs. The Describe actions take no resource; an interface has no name beforehand.
_INTERFACES = [
    "ec2:CreateNetworkInterface",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeSubnets",
    "ec2:DeleteNetworkInterface",
    "ec2:AssignPrivateIpAddresses",
    "ec2:UnassignPrivateIpAddresses",
]


@dataclass(frozen=True)
class WorkerNetwork:
    """`function_properties`: for each Lambda function; `statements`: what its role needs for them."""

    function_properties: dict[str, Any]
    statements: tuple[iam.PolicyStatement, ...]


def worker_network(scope: Construct, settings: VpcSettings | None) -> WorkerNetwork:
    if settings is None:
        return WorkerNetwork({}, ())
    vpc = ec2.Vpc.from_vpc_attributes(scope, "Vpc", vpc_id=settings.vpc_id, availability_zones=list(dict.fromkeys(settings.availability_zones)))
    subnets = [
        ec2.Subnet.from_subnet_attributes(scope, f"Subnet{number}", subnet_id=subnet, availability_zone=zone)
        for number, (subnet, zone) in enumerate(zip(settings.subnet_ids, settings.availability_zones, strict=True), start=1)
    ]
    groups = [
        ec2.SecurityGroup.from_security_group_id(scope, f"SecurityGroup{number}", group, mutable=False)  # theirs: no rule of ours in it
        for number, group in enumerate(settings.security_group_ids, start=1)
    ]
    properties = {"vpc": vpc, "vpc_subnets": ec2.SubnetSelection(subnets=subnets), "security_groups": groups}
    return WorkerNetwork(properties, (iam.PolicyStatement(sid="NetworkInterfaces", actions=_INTERFACES, resources=["*"]),))
