"""Users and passwords that are asked for anew for each connection: RDS IAM tokens, which live 15 minutes, and secrets that AWS rotates.

A pool opens connections for as long as a process lives, so a password that was read at its start would be refused sooner or later.
Source: https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/UsingWithRDS.IAMDBAuth.Connecting.Python.html
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import boto3
import sqlalchemy as sa

from reencrypt.grafana.settings import DatabaseSettings


@dataclass(frozen=True)
class Credentials:
    """Of one connection."""

    user: str
    password: str = field(repr=False)


Login = Callable[[], Credentials]
"""Called for each new connection."""


def iam_login(settings: DatabaseSettings, user: str, client: Any = None) -> Login:
    """A fresh IAM token for `user` each time. It is signed here, so AWS is not called; the database asks IAM whether the role may `rds-db:connect`."""
    signer = client or _signer()
    return lambda: Credentials(user, signer.generate_db_auth_token(DBHostname=settings.host, Port=settings.port, DBUsername=user))


@functools.cache
def _signer() -> Any:
    return boto3.client("rds")  # RDS's model is large: read once a process


def log_in_with(engine: sa.Engine, login: Login) -> None:
    """From now on each new connection of `engine` uses the credentials that `login` gives then."""

    @sa.event.listens_for(engine, "do_connect")
    def provide(_dialect: object, _record: object, _arguments: object, parameters: dict[str, Any]) -> None:
        credentials = login()
        parameters["user"], parameters["password"] = credentials.user, credentials.password
