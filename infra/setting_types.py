"""What the models of the deployment's settings have in common: strictness, a description of what is allowed, and the forms of AWS's names."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

_ARN = r"arn:aws[a-z-]*"
_SECRET_ARN = rf"{_ARN}:secretsmanager:[a-z0-9-]+:\d{{12}}:secret:[A-Za-z0-9/_+=.@!-]{{1,512}}"
_PARAMETER_ARN = rf"{_ARN}:ssm:[a-z0-9-]+:\d{{12}}:parameter/[A-Za-z0-9/_.-]{{1,1011}}"

# No form takes a wildcard: each of these names ends up as the one resource of a grant.
KeyArn = Annotated[str, StringConstraints(pattern=rf"^{_ARN}:kms:[a-z0-9-]+:\d{{12}}:key/(mrk-[0-9a-f]{{32}}|[0-9a-f-]{{36}})$")]
RoleArn = Annotated[str, StringConstraints(pattern=rf"^{_ARN}:iam::\d{{12}}:role/[\w+=,.@/-]+$")]
PolicyArn = Annotated[str, StringConstraints(pattern=rf"^{_ARN}:iam::(\d{{12}}|aws):policy/[\w+=,.@/-]+$")]
SecretId = Annotated[str, StringConstraints(pattern=rf"^({_ARN}:secretsmanager:[a-z0-9-]+:\d{{12}}:secret:)?[A-Za-z0-9/_+=.@!-]{{1,512}}$")]
SecretArn = Annotated[str, StringConstraints(pattern=rf"^{_SECRET_ARN}$")]
ParameterId = Annotated[str, StringConstraints(pattern=rf"^({_PARAMETER_ARN}|/?[A-Za-z0-9_.-][A-Za-z0-9/_.-]{{0,1010}})$")]
# As `valueFrom` of an ECS task definition: a secret's ARN, optionally with `:json-key:version-stage:version-id`, or a parameter's ARN.
# https://docs.aws.amazon.com/AmazonECS/latest/developerguide/secrets-envvar-secrets-manager.html
EnvironmentReference = Annotated[
    str, StringConstraints(pattern=rf"^({_SECRET_ARN}(:[A-Za-z0-9_.@/+=-]*:[A-Za-z0-9_.@/+=-]*:[A-Za-z0-9-]*)?|{_PARAMETER_ARN})$")
]
VariableName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
TopicArn = Annotated[str, StringConstraints(pattern=rf"^{_ARN}:sns:[a-z0-9-]+:\d{{12}}:[A-Za-z0-9_-]{{1,256}}$")]
SecurityGroupId = Annotated[str, StringConstraints(pattern=r"^sg-[0-9a-f]+$")]


class Strict(BaseModel):
    """Neither unknown keys nor converted values, and no change afterwards."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def setting(default: Any, allowed: str, **limits: Any) -> Any:
    """A field whose `allowed` text is what an error message ends with; `...` as default: the setting must be given."""
    return Field(default, description=allowed, **limits)
