"""The run's own objects: what one step leaves for the next, under `runs/<run>/` of the bucket, or in a folder.

JSON and JSON lines, never a secret. `once` writes with If-None-Match, so that of two deliveries of the same work the first one counts.
Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
"""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import boto3
from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_PREFIX = "runs"
_TRIES = 5
_ABSENT = frozenset({"NoSuchKey", "404", "NotFound"})  # not NoSuchBucket, which is a 404 as well; an answer to HEAD has no better code


class Store(Protocol):
    """The objects of one run; keys are relative to it."""

    def put_json(self, key: str, value: object, *, once: bool = False) -> bool:
        """Writes `value`; with `once` only if there is nothing yet. Tells whether it was written."""

    def get_json(self, key: str) -> Any:
        """The value of `key`. Raises LookupError where there is none."""

    def find_json(self, key: str) -> Any:
        """The value of `key`, or None."""

    def exists(self, key: str) -> bool:
        """Whether there is an object `key`."""

    def put_lines(self, key: str, values: Iterable[object]) -> None:
        """Writes one JSON text a line."""

    def iter_lines(self, key: str) -> Iterator[Any]:
        """The values of `put_lines`, read as they come. Raises LookupError."""

    def put_text(self, key: str, text: str, content_type: str) -> None:
        """Writes a text."""

    def full_key(self, key: str) -> str:
        """The key in the bucket."""


class RunStore:
    """A run's objects in S3."""

    def __init__(self, bucket: str, run: str, client: S3Client | None = None) -> None:
        self._bucket, self._run = bucket, run
        self._s3 = client or boto3.client("s3")

    def full_key(self, key: str) -> str:
        return f"{_PREFIX}/{self._run}/{key}"

    def put_json(self, key: str, value: object, *, once: bool = False) -> bool:
        put = functools.partial(self._s3.put_object, Bucket=self._bucket, Key=self.full_key(key), Body=_dump(value), ContentType="application/json")
        if not once:
            put()
            return True
        for again in reversed(range(_TRIES)):
            try:
                put(IfNoneMatch="*")
            except ClientError as error:
                if _status(error) == 412:
                    return False
                # 409: two conditional writes at the same moment. S3 does not say which one counts, but to try again.
                if _status(error) != 409 or not again:
                    raise
            else:
                break
        return True

    def get_json(self, key: str) -> Any:
        value = self.find_json(key)
        if value is None:
            raise LookupError(f"the run has no {key}")
        return value

    def find_json(self, key: str) -> Any:
        try:
            return json.loads(self._s3.get_object(Bucket=self._bucket, Key=self.full_key(key))["Body"].read())
        except ClientError as error:
            if _is_absent(error):
                return None
            raise

    def exists(self, key: str) -> bool:
        try:
            self._s3.head_object(Bucket=self._bucket, Key=self.full_key(key))
        except ClientError as error:
            if _is_absent(error):
                return False
            raise
        return True

    def put_lines(self, key: str, values: Iterable[object]) -> None:
        body = b"".join(_dump(value) + b"\n" for value in values)
        self._s3.put_object(Bucket=self._bucket, Key=self.full_key(key), Body=body, ContentType="application/jsonl")

    def iter_lines(self, key: str) -> Iterator[Any]:
        try:
            body = self._s3.get_object(Bucket=self._bucket, Key=self.full_key(key))["Body"]
        except ClientError as error:
            if _is_absent(error):
                raise LookupError(f"the run has no {key}") from None
            raise
        with contextlib.closing(body):
            for line in body.iter_lines():
                yield json.loads(line)

    def put_text(self, key: str, text: str, content_type: str) -> None:
        self._s3.put_object(Bucket=self._bucket, Key=self.full_key(key), Body=text.encode(), ContentType=content_type)


class LocalRunStore:
    """A run's objects in a folder: the same promises, for tests and benchmarks."""

    def __init__(self, folder: Path, run: str) -> None:
        self._folder, self._run = folder, run

    def full_key(self, key: str) -> str:
        return f"{_PREFIX}/{self._run}/{key}"

    def put_json(self, key: str, value: object, *, once: bool = False) -> bool:
        try:
            with self._new(key).open("xb" if once else "wb") as file:
                file.write(_dump(value))
        except FileExistsError:
            return False
        return True

    def get_json(self, key: str) -> Any:
        value = self.find_json(key)
        if value is None:
            raise LookupError(f"the run has no {key}")
        return value

    def find_json(self, key: str) -> Any:
        return json.loads(self._path(key).read_bytes()) if self.exists(key) else None

    def exists(self, key: str) -> bool:
        return self._path(key).is_file()

    def put_lines(self, key: str, values: Iterable[object]) -> None:
        self._new(key).write_bytes(b"".join(_dump(value) + b"\n" for value in values))

    def iter_lines(self, key: str) -> Iterator[Any]:
        if not self.exists(key):
            raise LookupError(f"the run has no {key}")
        with self._path(key).open("rb") as file:
            for line in file:
                yield json.loads(line)

    def put_text(self, key: str, text: str, content_type: str) -> None:
        self._new(key).write_bytes(text.encode())

    def _path(self, key: str) -> Path:
        return self._folder / self.full_key(key)

    def _new(self, key: str) -> Path:
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


def _dump(value: object) -> bytes:
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:  # half a surrogate pair, which a path takes over from a key in Grafana's JSON such as "\ud800"
        return json.dumps(value, separators=(",", ":")).encode()


def _is_absent(error: ClientError) -> bool:
    return error.response.get("Error", {}).get("Code") in _ABSENT


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
