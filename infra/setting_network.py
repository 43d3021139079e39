"""`[vpc]` of the deployment's settings: where the functions run, and what of a network the stack makes for them."""

from __future__ import annotations

from typing import Annotated, Literal, Self, get_args

from pydantic import StringConstraints, model_validator

from infra.setting_types import SecurityGroupId, Strict, setting

Endpoint = Literal["s3", "dynamodb", "kms", "secretsmanager", "ssm", "sts", "rds", "logs", "states", "xray"]
ENDPOINTS: tuple[str, ...] = get_args(Endpoint)
GATEWAYS = ("s3", "dynamodb")  # free of charge, and routes instead of network interfaces


def _resource(prefix: str) -> StringConstraints:
    return StringConstraints(pattern=rf"^{prefix}-[0-9a-f]+$")


class VpcSettings(Strict):
    """An existing VPC for the functions, with routes to the database and to the AWS services that a run uses."""

    vpc_id: str = setting(..., 'an existing VPC, such as "vpc-0123456789abcdef0"', pattern=r"^vpc-[0-9a-f]+$")
    subnet_ids: tuple[Annotated[str, _resource("subnet")], ...] = setting(
        ..., 'one or more private subnets of it, such as ["subnet-0123456789abcdef0"]', min_length=1
    )
    availability_zones: tuple[str, ...] = setting(..., "the zone of each subnet, in the same order", min_length=1)
    security_group: Literal["existing", "make"] = setting("existing", '"existing" (those of security_group_ids) or "make"')
    security_group_ids: tuple[SecurityGroupId, ...] = setting(
        (), 'one or more existing security groups of the functions, such as ["sg-0123456789abcdef0"]; none with security_group = "make"'
    )
    prefix_list_ids: tuple[Annotated[str, _resource("pl")], ...] = setting(
        (), 'IDs of prefix lists that a made security group may reach by HTTPS, such as ["pl-0123456789abcdef0"]; only with security_group = "make"'
    )
    endpoints: tuple[Endpoint, ...] = setting((), f"a list of VPC endpoints to make, of {', '.join(ENDPOINTS)}")
    route_table_ids: tuple[Annotated[str, _resource("rtb")], ...] = setting(
        (), 'the route tables of the subnets, such as ["rtb-0123456789abcdef0"], for the endpoints s3 and dynamodb'
    )

    @property
    def gateways(self) -> tuple[str, ...]:
        return tuple(name for name in self.endpoints if name in GATEWAYS)

    @property
    def interfaces(self) -> tuple[str, ...]:
        return tuple(name for name in self.endpoints if name not in GATEWAYS)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if len(self.subnet_ids) != len(self.availability_zones):
            raise ValueError("availability_zones must name the zone of each subnet: as many zones as subnet_ids")
        if self.security_group == "make" and self.security_group_ids:
            raise ValueError('security_group_ids: not with security_group = "make"; allowed: one of the two')
        if self.security_group == "existing" and not self.security_group_ids:
            raise ValueError('security_group_ids: is missing; one or more existing security groups, or security_group = "make"')
        if self.prefix_list_ids and self.security_group == "existing":
            raise ValueError('prefix_list_ids: only with security_group = "make", whose rules they are')
        if len(set(self.endpoints)) != len(self.endpoints):
            raise ValueError("endpoints: one is named twice")
        if self.gateways and not self.route_table_ids:
            raise ValueError("route_table_ids: is missing; the route tables of the subnets, for the endpoints s3 and dynamodb")
        if self.route_table_ids and not self.gateways:
            raise ValueError("route_table_ids: only with s3 or dynamodb in endpoints")
        return self
