"""Where a run's objects lie: a bucket of S3, or a folder with the same promises for tests and benchmarks.

`put_once` writes with If-None-Match, so that of two deliveries of the same work the first one counts.
Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import boto3
from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_TRIES = 5
_UNFINISHED = ".unfinished"
_ABSENT = frozenset({"NoSuchKey", "404", "NotFound"})  # not NoSuchBucket, which is a 404 as well; an answer to HEAD has no better code


class Bucket(Protocol):
    """Objects by key. An object is there whole or not at all."""

    def put(self, key: str, body: bytes, content_type: str) -> None:
        """Writes the object, over an older one too."""

    def put_once(self, key: str, body: bytes, content_type: str) -> bool:
        """Writes the object only if there is none yet; tells whether it was written."""

    def get(self, key: str) -> bytes | None:
        """The object's bytes, or None."""

    def lines(self, key: str) -> Iterator[bytes]:
        """The object's lines, read as they come. Raises LookupError where there is none."""

    def exists(self, key: str) -> bool:
        """Whether there is such an object."""

    def keys(self, prefix: str) -> Iterator[str]:
        """The keys that begin with `prefix`, in the order of their bytes."""


class S3Bucket:
    """A bucket of S3."""

    def __init__(self, name: str, client: S3Client | None = None) -> None:
        self._name = name
        self._s3 = client or boto3.client("s3")

    def put(self, key: str, body: bytes, content_type: str) -> None:
        self._s3.put_object(Bucket=self._name, Key=key, Body=body, ContentType=content_type)

    def put_once(self, key: str, body: bytes, content_type: str) -> bool:
        for again in reversed(range(_TRIES)):
            try:
                self._s3.put_object(Bucket=self._name, Key=key, Body=body, ContentType=content_type, IfNoneMatch="*")
            except ClientError as error:
                if _status(error) == 412:
                    return False
                # 409: two conditional writes at the same moment. S3 does not say which one counts, but to try again.
                if _status(error) != 409 or not again:
                    raise
            else:
                break
        return True

    def get(self, key: str) -> bytes | None:
        try:
            return self._s3.get_object(Bucket=self._name, Key=key)["Body"].read()
        except ClientError as error:
            if _is_absent(error):
                return None
            raise

    def lines(self, key: str) -> Iterator[bytes]:
        try:
            body = self._s3.get_object(Bucket=self._name, Key=key)["Body"]
        except ClientError as error:
            if _is_absent(error):
                raise LookupError(f"there is no object {key}") from None
            raise
        with contextlib.closing(body):
            yield from body.iter_lines()

    def exists(self, key: str) -> bool:
        try:
            self._s3.head_object(Bucket=self._name, Key=key)
        except ClientError as error:
            if _is_absent(error):
                return False
            raise
        return True

    def keys(self, prefix: str) -> Iterator[str]:
        for page in self._s3.get_paginator("list_objects_v2").paginate(Bucket=self._name, Prefix=prefix):
            yield from (entry["Key"] for entry in page.get("Contents", ()))


class FolderBucket:
    """A folder as a bucket: keys are paths under it. An object is written beside its place and then moved there, so that nobody finds half of it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, key: str, body: bytes, content_type: str) -> None:
        with self._written(key, body) as file:
            file.replace(self._folder / key)

    def put_once(self, key: str, body: bytes, content_type: str) -> bool:
        try:
            with self._written(key, body) as file:
                (self._folder / key).hardlink_to(file)
        except FileExistsError:
            return False
        return True

    def get(self, key: str) -> bytes | None:
        return (self._folder / key).read_bytes() if self.exists(key) else None

    def lines(self, key: str) -> Iterator[bytes]:
        if not self.exists(key):
            raise LookupError(f"there is no object {key}")
        with (self._folder / key).open("rb") as file:
            for line in file:
                yield line.removesuffix(b"\n")

    def exists(self, key: str) -> bool:
        return (self._folder / key).is_file()

    def keys(self, prefix: str) -> Iterator[str]:
        start = self._folder / prefix.rpartition("/")[0]
        found = (path.relative_to(self._folder).as_posix() for path in start.rglob("*") if path.suffix != _UNFINISHED and path.is_file())
        yield from sorted((key for key in found if key.startswith(prefix)), key=str.encode)

    @contextlib.contextmanager
    def _written(self, key: str, body: bytes) -> Iterator[Path]:
        place = self._folder / key
        place.parent.mkdir(parents=True, exist_ok=True)
        file = place.with_name(f".{secrets.token_hex(8)}{_UNFINISHED}")
        try:
            file.write_bytes(body)
            yield file
        finally:
            file.unlink(missing_ok=True)


def _is_absent(error: ClientError) -> bool:
    return error.response.get("Error", {}).get("Code") in _ABSENT


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
