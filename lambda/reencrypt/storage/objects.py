"""The run's own objects: what one step leaves for the next, under `runs/<run>/` of the bucket. JSON and JSON lines, never a secret."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from reencrypt.storage.bucket import Bucket

_PREFIX = "runs"


class RunStore:
    """The objects of one run; keys are relative to it."""

    def __init__(self, bucket: Bucket, run: str) -> None:
        self._bucket, self._run = bucket, run

    def full_key(self, key: str) -> str:
        """The key in the bucket."""
        return f"{_PREFIX}/{self._run}/{key}"

    def of_run(self, run: str) -> RunStore:
        """The objects of another run."""
        return RunStore(self._bucket, run)

    def put_json(self, key: str, value: object, *, once: bool = False) -> bool:
        """Writes `value`; with `once` only if there is nothing yet. Tells whether it was written."""
        if once:
            return self._bucket.put_once(self.full_key(key), _dump(value), "application/json")
        self._bucket.put(self.full_key(key), _dump(value), "application/json")
        return True

    def get_json(self, key: str) -> Any:
        """The value of `key`. Raises LookupError where there is none."""
        value = self.find_json(key)
        if value is None:
            raise LookupError(f"the run has no {key}")
        return value

    def find_json(self, key: str) -> Any:
        """The value of `key`, or None."""
        body = self._bucket.get(self.full_key(key))
        return None if body is None else json.loads(body)

    def exists(self, key: str) -> bool:
        """Whether there is an object `key`."""
        return self._bucket.exists(self.full_key(key))

    def keys(self, prefix: str) -> Iterator[str]:
        """The keys that begin with `prefix`, in the order of their bytes."""
        start = len(self.full_key(""))
        return (key[start:] for key in self._bucket.keys(self.full_key(prefix)))

    def put_lines(self, key: str, values: Iterable[object]) -> None:
        """Writes one JSON text a line."""
        self._bucket.put(self.full_key(key), b"".join(_dump(value) + b"\n" for value in values), "application/jsonl")

    def iter_lines(self, key: str) -> Iterator[Any]:
        """The values of `put_lines`, read as they come. Raises LookupError."""
        return (json.loads(line) for line in self._bucket.lines(self.full_key(key)))

    def put_text(self, key: str, text: str, content_type: str) -> None:
        """Writes a text."""
        self._bucket.put(self.full_key(key), text.encode(), content_type)


def _dump(value: object) -> bytes:
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:  # half a surrogate pair, which a path takes over from a key in Grafana's JSON such as "\ud800"
        return json.dumps(value, separators=(",", ":")).encode()
