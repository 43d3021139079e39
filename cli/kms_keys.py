"""The KMS keys and credentials that a grafana.ini names, made anew in the local AWS so that a rehearsal runs under the same configuration.

Each form of `key_id` that Grafana's documentation lists works: key id, key ARN, alias, alias ARN, in any region and of any account. The keys
share nothing but their names with the real ones: a data key that the real KMS wrapped cannot be unwrapped here.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from localaws.aws import ACCOUNT, REGION
from reencrypt.errors import ConfigurationError
from reencrypt.grafana.settings import GrafanaSettings, KmsSection

KEY_ID_TAG = "localaws:key-id"  # see localaws/patches/kms_chosen_key_id.py
USER_TAG = "localaws:"  # see localaws/patches/iam_chosen_access_key.py
_TAG_VALUE_LENGTH = 256
_KEY_ID = re.compile(r"mrk-[0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_ALIAS = re.compile(r"alias/[A-Za-z0-9/_-]{1,250}")
_ARN = re.compile(r"arn:aws:kms:(?P<region>[a-z0-9-]+):(?P<account>\d{12}):(?:key/(?P<key>.+)|(?P<alias>alias/.+))")
_USES = ["kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:DescribeKey"]

Client = Callable[..., Any]
"""`LocalAws.client`."""


@dataclass(frozen=True, order=True)
class WantedKey:
    """A key that must exist: `key_id` in `account` and `region`, with the `aliases` (each `alias/…`) by which it is also called."""

    account: str
    region: str
    key_id: str
    alias: str | None = None

    @property
    def arn(self) -> str:
        return f"arn:aws:kms:{self.region}:{self.account}:key/{self.key_id}"


@dataclass(frozen=True)
class WantedUser:
    """A user with exactly these credentials, who may use the keys of `arns`."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str | None = field(repr=False)
    arns: tuple[str, ...]


def kms_sections(settings: GrafanaSettings) -> tuple[KmsSection, ...]:
    """Every section of a KMS key, of [security] and of the secrets manager."""
    return (*settings.kms.values(), *settings.manager.kms.values())


def wanted_key(section: KmsSection) -> WantedKey:
    """The key that `section` names; an alias gets an id of its own, the same in every rehearsal. Raises ConfigurationError, naming the section."""
    key_id, region, account, alias = section.key_id, section.region or REGION, ACCOUNT, None
    if arn := _ARN.fullmatch(key_id):
        region, account, key_id = arn["region"], arn["account"], arn["key"] or arn["alias"]
    if _ALIAS.fullmatch(key_id):
        alias, key_id = key_id, str(uuid.uuid5(uuid.NAMESPACE_URL, f"arn:aws:kms:{region}:{account}:{key_id}"))
    if not _KEY_ID.fullmatch(key_id):
        raise ConfigurationError(
            f"{section.title} key_id is none of: a key id (1234abcd-12ab-34cd-56ef-1234567890ab), a key ARN "
            "(arn:aws:kms:REGION:ACCOUNT:key/ID), an alias (alias/NAME), an alias ARN (arn:aws:kms:REGION:ACCOUNT:alias/NAME)"
        )
    return WantedKey(account, region, key_id, alias)


def wanted_users(sections: Iterable[KmsSection]) -> list[WantedUser]:
    """The users that the sections' credentials belong to. Raises ConfigurationError where one access key comes with two secrets."""
    users: dict[str, WantedUser] = {}
    for section in sections:
        if not section.access_key_id or not section.secret_access_key:
            continue
        known = users.get(section.access_key_id)
        if known and (known.secret_access_key, known.session_token) != (section.secret_access_key, section.session_token):
            raise ConfigurationError(f"{section.title} gives an access_key_id of another section a different secret_access_key")
        arns = (known.arns if known else ()) + (wanted_key(section).arn,)
        users[section.access_key_id] = WantedUser(section.access_key_id, section.secret_access_key, section.session_token, arns)
    return list(users.values())


def create_keys(client: Client, keys: Iterable[WantedKey]) -> None:
    """Makes the keys and their aliases, usable from the local account; a key of another account allows the local one in its policy."""
    made: set[str] = set()
    for key in sorted(set(keys), key=lambda key: (key.arn, key.alias or "")):
        kms = client("kms", region=key.region, account=key.account)
        if key.arn not in made:
            policy = [_allow(key.account, ["kms:*"])] + ([_allow(ACCOUNT, _USES)] if key.account != ACCOUNT else [])
            kms.create_key(Tags=[{"TagKey": KEY_ID_TAG, "TagValue": key.key_id}], Policy=json.dumps({"Version": "2012-10-17", "Statement": policy}))
            made.add(key.arn)
        if key.alias:
            kms.create_alias(AliasName=key.alias, TargetKeyId=key.key_id)


def create_users(client: Client, users: Iterable[WantedUser], *, first: int = 1) -> None:
    """Makes the users in the local account, each allowed to use its keys and nothing else; `first` numbers their names."""
    iam = client("iam")
    for number, user in enumerate(users, first):
        name, token = f"grafana-kms-{number}", user.session_token or ""
        tags = {"access-key-id": user.access_key_id, "secret-access-key": user.secret_access_key} | {
            f"session-token-{part}": token[start : start + _TAG_VALUE_LENGTH] for part, start in enumerate(range(0, len(token), _TAG_VALUE_LENGTH))
        }
        iam.create_user(UserName=name, Tags=[{"Key": f"{USER_TAG}{key}", "Value": value} for key, value in tags.items()])
        iam.put_user_policy(
            UserName=name,
            PolicyName="kms",
            PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": _USES, "Resource": list(user.arns)}]}),
        )
        iam.create_access_key(UserName=name)


def _allow(account: str, actions: list[str]) -> dict[str, object]:
    return {"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{account}:root"}, "Action": actions, "Resource": "*"}
