"""Why a worker failed: the error of a chunk's last delivery, so that a report says it and not only that the chunk has no outcome."""

from __future__ import annotations

from reencrypt.errors import ReencryptError
from reencrypt.storage.objects import RunStore


def leave(store: RunStore, phase: str, chunk: int, error: ReencryptError) -> None:
    """Keeps `error`; that of an earlier delivery is forgotten."""
    store.put_json(_name(phase, chunk), {"name": type(error).__name__, "message": str(error)})


def found(store: RunStore, phase: str, chunk: int) -> str:
    """Class and message of the error that was left, or '' where there is none: the process died, or S3 was what refused."""
    error = store.find_json(_name(phase, chunk))
    return "" if error is None else f"{error['name']}: {error['message']}"


def _name(phase: str, chunk: int) -> str:
    return f"errors/{phase}/{chunk:06d}.json"
