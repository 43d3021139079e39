"""The undo journal: the old text of every value that a run writes over, in a bucket of its own, before it is written over.

One gzip object for each page and attempt, `journal/<run>/<chunk>/<time>-<random>.gz`. An attempt that died before its write leaves entries
that match nothing in the database, which `restore` passes over. In the object: for each value a line of JSON, then the old bytes as they stood,
so that a large value is never held a second time as text.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from reencrypt.storage.bucket import Bucket

_PREFIX = "journal"
_LEVEL = 1  # ciphertexts hardly shrink; base64 and JSON around them do at any level


@dataclass(frozen=True)
class Entry:
    """One secret value of one row: the bytes that stood in its place (in JSON with their quotes), and the SHA-256 (hex) of what the run put there."""

    group: str
    column: str
    key: tuple[object, ...]
    path: tuple[str | int, ...] | None
    old: bytes = field(repr=False)
    new: str


class Journal:
    """The journal of one run. Holds ciphertexts, no plaintext and no key."""

    def __init__(self, bucket: Bucket, run: str, clock: Callable[[], float] = time.time) -> None:
        self._bucket, self._run, self._clock = bucket, run, clock

    def of_run(self, run: str) -> Journal:
        """The journal of another run."""
        return Journal(self._bucket, run, self._clock)

    def record(self, chunk: int, entries: Iterable[Entry]) -> None:
        """Keeps `entries` before they are written over; when it returns they are stored."""
        packed = io.BytesIO()
        with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=_LEVEL, mtime=0) as file:
            for entry in entries:
                head = {"g": entry.group, "c": entry.column, "k": entry.key, "p": entry.path, "new": entry.new, "bytes": len(entry.old)}
                file.write(json.dumps(head).encode() + b"\n")
                file.write(entry.old)
        name = f"{int(self._clock() * 1e6):017d}-{secrets.token_hex(4)}.gz"
        self._bucket.put(f"{self._chunk(chunk)}{name}", packed.getvalue(), "application/gzip")

    def chunks(self) -> list[int]:
        """The ids of the chunks that something was written in (or was about to be), in order."""
        start = f"{_PREFIX}/{self._run}/"
        return sorted({int(key.removeprefix(start).partition("/")[0]) for key in self._bucket.keys(start)})

    def pages(self, chunk: int) -> list[str]:
        """The keys of the chunk's objects, the newest first: what was written last is put back first."""
        return sorted(self._bucket.keys(self._chunk(chunk)), reverse=True)

    def read(self, page: str) -> Iterator[Entry]:
        """The entries of one object; none if it has expired meanwhile."""
        packed = self._bucket.get(page)
        if packed is None:
            return
        with gzip.GzipFile(fileobj=io.BytesIO(packed)) as file:
            while line := file.readline():
                head: dict[str, Any] = json.loads(line)
                path = None if head["p"] is None else tuple(head["p"])
                yield Entry(head["g"], head["c"], tuple(head["k"]), path, file.read(head["bytes"]), head["new"])

    def _chunk(self, chunk: int) -> str:
        return f"{_PREFIX}/{self._run}/{chunk:06d}/"


def digest(stored: bytes) -> str:
    """The digest that an entry keeps of the new bytes. IVs are random, so the same digest is the same write."""
    return hashlib.sha256(stored).hexdigest()
