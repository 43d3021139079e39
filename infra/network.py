"""Where the functions run: outside a VPC, or in existing subnets of one, in security groups that exist or are made.

Made only where the settings ask for it: the functions' security group, the rule that lets it into the database's group, and VPC endpoints, so
that private subnets need no NAT. Logs, traces and metrics of functions go their own way and need none of these.
Sources: https://docs.aws.amazon.com/lambda/latest/dg/configuration-vpc.html, https://docs.aws.amazon.com/vpc/latest/privatelink/aws-services-privatelink-support.html
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from constructs import Construct

from infra.setting_network import VpcSettings
from infra.settings import DeploymentSettings

HTTPS = 443
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
class FunctionNetwork:
    """`function_properties`: for each Lambda function; `statements`: what its role needs for them."""

    function_properties: Mapping[str, Any]
    statements: tuple[iam.PolicyStatement, ...]


def function_network(scope: Construct, settings: DeploymentSettings) -> FunctionNetwork:
    """The functions' network, and what of it is made in `scope`."""
    if settings.vpc is None:
        return FunctionNetwork({}, ())
    given = settings.vpc
    vpc = ec2.Vpc.from_vpc_attributes(scope, "Vpc", vpc_id=given.vpc_id, availability_zones=list(dict.fromkeys(given.availability_zones)))
    subnets = [
        ec2.Subnet.from_subnet_attributes(scope, f"Subnet{number}", subnet_id=subnet, availability_zone=zone)
        for number, (subnet, zone) in enumerate(zip(given.subnet_ids, given.availability_zones, strict=True), start=1)
    ]
    made = _made_group(scope, vpc) if given.security_group == "make" else None
    groups: list[ec2.ISecurityGroup] = [
        ec2.SecurityGroup.from_security_group_id(scope, f"SecurityGroup{number}", group, mutable=False)  # theirs: no rule of ours in it
        for number, group in enumerate(given.security_group_ids, start=1)
    ]
    groups += [made] if made else []
    endpoints = _endpoints(scope, given, vpc, groups)
    if made:
        _let_out(made, given, settings, endpoints)
    _let_in(scope, settings, groups)
    properties = {"vpc": vpc, "vpc_subnets": ec2.SubnetSelection(subnets=subnets), "security_groups": groups}
    return FunctionNetwork(properties, (iam.PolicyStatement(sid="NetworkInterfaces", actions=_INTERFACES, resources=["*"]),))


def _made_group(scope: Construct, vpc: ec2.IVpc) -> ec2.SecurityGroup:
    return ec2.SecurityGroup(scope, "FunctionsGroup", vpc=vpc, description="Functions of grafana-reencrypt", allow_all_outbound=False)


def _let_in(scope: Construct, settings: DeploymentSettings, groups: list[ec2.ISecurityGroup]) -> None:
    """The one rule in a group that is not ours: the functions reach the database's port."""
    database = settings.database
    if database.security_group_id is None:
        return
    for number, group in enumerate(groups, start=1):
        ec2.CfnSecurityGroupIngress(
            scope,
            f"DatabaseIngress{number}",
            group_id=database.security_group_id,
            source_security_group_id=group.security_group_id,
            ip_protocol="tcp",
            from_port=database.port,
            to_port=database.port,
            description=f"grafana-reencrypt {settings.stack_name}",
        )


def _let_out(made: ec2.SecurityGroup, given: VpcSettings, settings: DeploymentSettings, endpoints: ec2.ISecurityGroup | None) -> None:
    """The database's port to the database's group, and HTTPS. Names are resolved by the VPC's own resolver, which no group bars."""
    if settings.database.security_group_id and settings.database.port:
        database = ec2.SecurityGroup.from_security_group_id(made, "DatabaseGroup", settings.database.security_group_id, mutable=False)
        made.add_egress_rule(database, ec2.Port.tcp(settings.database.port), "Grafana's database")
    if given.prefix_list_ids:
        for prefix_list in given.prefix_list_ids:
            made.add_egress_rule(ec2.Peer.prefix_list(prefix_list), ec2.Port.tcp(HTTPS), "AWS services by their prefix list")
        if endpoints:
            made.add_egress_rule(endpoints, ec2.Port.tcp(HTTPS), "AWS services by VPC endpoints")
    else:  # AWS's services have no fixed addresses, and those behind a gateway endpoint keep their public ones
        made.add_egress_rule(ec2.Peer.any_ipv4(), ec2.Port.tcp(HTTPS), "AWS services")


def _endpoints(scope: Construct, given: VpcSettings, vpc: ec2.IVpc, groups: list[ec2.ISecurityGroup]) -> ec2.SecurityGroup | None:
    """Makes the endpoints that the settings name; the group of those that have network interfaces, None where there are none.

    Without endpoint policies: whoever else is in the VPC uses an endpoint too, and what our functions may do stands in their roles.
    """

    def make(name: str, kind: str, **properties: Any) -> None:
        service = f"com.amazonaws.{cdk.Stack.of(scope).region}.{name}"
        ec2.CfnVPCEndpoint(scope, f"Endpoint{name.title()}", vpc_id=vpc.vpc_id, service_name=service, vpc_endpoint_type=kind, **properties)

    for name in given.gateways:
        make(name, "Gateway", route_table_ids=list(given.route_table_ids))
    if not given.interfaces:
        return None
    group = ec2.SecurityGroup(scope, "EndpointsGroup", vpc=vpc, description="VPC endpoints of grafana-reencrypt", allow_all_outbound=False)
    for source in groups:
        group.add_ingress_rule(source, ec2.Port.tcp(HTTPS), "Functions of grafana-reencrypt")
    a_subnet_per_zone = dict(zip(reversed(given.availability_zones), reversed(given.subnet_ids), strict=True))  # an endpoint takes one of each zone
    for name in given.interfaces:
        make(
            name,
            "Interface",
            private_dns_enabled=True,  # the SDK calls each service by its usual name
            subnet_ids=sorted(a_subnet_per_zone.values()),
            security_group_ids=[group.security_group_id],
        )
    return group
