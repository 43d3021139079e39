"""The lease: one run that writes at a time. An item of a DynamoDB table with an owner and an expiry.

A run that died is followed by the next one once its lease has expired. `expires` is the table's TTL attribute too, but DynamoDB deletes
expired items late, so it is compared here. Source: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Expressions.ConditionExpressions.html
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

import boto3
from botocore.exceptions import ClientError

from reencrypt.errors import LeaseHeld

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import AttributeValueTypeDef

_KEY: dict[str, AttributeValueTypeDef] = {"pk": {"S": "run"}}
_SEEN = "unreadable/"  # and the stretch: an attribute for each stretch of a chunk with unreadable values, of which there are few
_REFUSED = "ConditionalCheckFailedException"


class Lease:
    """The lease of one deployment. Times are seconds since the epoch."""

    def __init__(self, table: str, client: DynamoDBClient | None = None, clock: Callable[[], float] = time.time) -> None:
        self._table = table
        self._dynamodb = client or boto3.client("dynamodb")
        self._clock = clock

    def acquire(self, owner: str, seconds: int) -> None:
        """Takes the lease for `owner` (an execution's ARN) if it is free, expired, or its own already. Raises LeaseHeld, naming the holder."""
        now = int(self._clock())
        try:
            self._dynamodb.put_item(
                TableName=self._table,
                Item={**_KEY, "owner": {"S": owner}, "expires": {"N": str(now + seconds)}},
                ConditionExpression="attribute_not_exists(pk) OR expires < :now OR #owner = :owner",
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
                ExpressionAttributeNames={"#owner": "owner"},
                ExpressionAttributeValues={":now": {"N": str(now)}, ":owner": {"S": owner}},
            )
        except ClientError as error:
            raise LeaseHeld(
                f"another run is going on: {_holder(_refused_for(error))}. Wait for it to end, or stop it in the Step Functions console; "
                "if it is dead already, start again when its lease has expired"
            ) from None

    def renew(self, owner: str, seconds: int, stretch: str = "", unreadable: int = 0) -> int:
        """Prolongs the lease of `owner`; returns how many unreadable values its workers have seen by now.

        `unreadable` is how many the worker of `stretch` has seen in it so far: kept for each stretch, so that one that is tried again counts once.
        Expired or not, as long as nobody else has taken it. Raises LeaseHeld when it is gone: this run was taken for dead, or has ended and this is
        a worker that comes late; it must write nothing more.
        """
        seen = {"#seen": f"{_SEEN}{stretch}"} if unreadable else {}
        count: dict[str, AttributeValueTypeDef] = {":seen": {"N": str(unreadable)}} if unreadable else {}
        try:
            answer = self._dynamodb.update_item(
                TableName=self._table,
                Key=_KEY,
                UpdateExpression="SET expires = :expires, #seen = :seen" if seen else "SET expires = :expires",
                ConditionExpression="#owner = :owner",
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
                ReturnValues="ALL_NEW",
                ExpressionAttributeNames={"#owner": "owner", **seen},
                ExpressionAttributeValues={":owner": {"S": owner}, ":expires": {"N": str(int(self._clock()) + seconds)}, **count},
            )
        except ClientError as error:
            raise LeaseHeld(f"this run has lost its lease, now held by {_holder(_refused_for(error))}. Start it again when that one has ended") from None
        return sum(int(value["N"]) for name, value in answer["Attributes"].items() if name.startswith(_SEEN))

    def release(self, owner: str) -> None:
        """Gives the lease back if `owner` has it; another run's stays. Safe to repeat."""
        try:
            self._dynamodb.delete_item(
                TableName=self._table,
                Key=_KEY,
                ConditionExpression="#owner = :owner",
                ExpressionAttributeNames={"#owner": "owner"},
                ExpressionAttributeValues={":owner": {"S": owner}},
            )
        except ClientError as error:
            _refused_for(error)


def _refused_for(error: ClientError) -> Mapping[str, Any]:
    """The item that stands against a condition, empty if there is none; raises any other error again."""
    if error.response["Error"]["Code"] != _REFUSED:
        raise error
    answer = cast("Mapping[str, Any]", error.response)  # the stubs do not know that this error carries an Item
    return answer.get("Item") or {}


def _holder(item: Mapping[str, Any]) -> str:
    if not item:
        return "nobody (its lease has just ended)"
    until = datetime.fromtimestamp(int(item["expires"]["N"]), UTC)
    return f"{item['owner']['S']} (its lease expires at {until:%Y-%m-%d %H:%M:%S} UTC)"
