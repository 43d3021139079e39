"""S3 and DynamoDB in memory: the Bucket of the run's objects and of its journal, and what the lease's two conditional writes need."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from botocore.exceptions import ClientError

Pause = Callable[[str], None]


class MemoryBucket:
    """reencrypt.storage.bucket.Bucket over a dict; others may go on before and after each write."""

    def __init__(self, name: str, pause: Pause) -> None:
        self._name, self._pause = name, pause
        self._objects: dict[str, bytes] = {}

    def put(self, key: str, body: bytes, content_type: str) -> None:
        self._pause(f"{self._name} put")
        self._objects[key] = body
        self._pause(f"{self._name} put done")

    def put_once(self, key: str, body: bytes, content_type: str) -> bool:
        self._pause(f"{self._name} put once")
        written = key not in self._objects
        self._objects.setdefault(key, body)
        self._pause(f"{self._name} put once done")
        return written

    def get(self, key: str) -> bytes | None:
        return self._objects.get(key)

    def lines(self, key: str) -> Iterator[bytes]:
        body = self.get(key)
        if body is None:
            raise LookupError(f"there is no object {key}")
        yield from body.splitlines()

    def exists(self, key: str) -> bool:
        return key in self._objects

    def keys(self, prefix: str) -> Iterator[str]:
        return iter(sorted((key for key in self._objects if key.startswith(prefix)), key=str.encode))


class MemoryDynamo:
    """The one item of the lease's table, with the conditions that storage/lease.py writes; an unknown one is an error."""

    def __init__(self, pause: Pause) -> None:
        self._pause = pause
        self._item: dict[str, Any] = {}

    def put_item(self, **call: Any) -> dict[str, Any]:
        """Writes the item whole, if the condition holds."""
        self._check("PutItem", call)
        self._item = dict(call["Item"])
        return {}

    def update_item(self, **call: Any) -> dict[str, Any]:
        """`SET a = :x, b = :y ADD c :z`."""
        self._check("UpdateItem", call)
        assignments, _, additions = call["UpdateExpression"].removeprefix("SET ").partition(" ADD ")
        values, names = call["ExpressionAttributeValues"], call["ExpressionAttributeNames"]
        self._item |= call["Key"]
        for part in assignments.split(", "):
            name, _, value = part.partition(" = ")
            self._item[names.get(name, name)] = values[value]
        for part in filter(None, additions.split(", ")):
            name, value = part.split(" ")
            self._item[name] = {"N": str(int(self._item.get(name, {"N": "0"})["N"]) + int(values[value]["N"]))}
        return {"Attributes": dict(self._item)}

    def delete_item(self, **call: Any) -> dict[str, Any]:
        """Deletes the item, if the condition holds."""
        self._check("DeleteItem", call)
        self._item = {}
        return {}

    def _check(self, operation: str, call: dict[str, Any]) -> None:
        self._pause(f"lease {operation}")
        values = call["ExpressionAttributeValues"]
        for clause in call["ConditionExpression"].split(" OR "):
            met = {
                "attribute_not_exists(pk)": not self._item,
                "expires < :now": bool(self._item) and int(self._item["expires"]["N"]) < int(values.get(":now", {"N": "0"})["N"]),
                "#owner = :owner": bool(self._item) and self._item["owner"] == values[":owner"],
            }
            if met[clause]:
                return
        error = {"Error": {"Code": "ConditionalCheckFailedException", "Message": ""}, "Item": dict(self._item)}
        raise ClientError(error, operation)  # type: ignore[arg-type]  # the stubs do not know that this error carries an Item
