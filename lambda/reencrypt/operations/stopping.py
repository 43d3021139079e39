"""A run that its failure budget stops: the worker that spent the last of it leaves why, and what it had seen; the report tells both."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reencrypt.errors import TooManyUnreadable
from reencrypt.storage.objects import RunStore

_STOPPED = "stopped.json"


def stop(store: RunStore, error: TooManyUnreadable, outcome: Mapping[str, Any]) -> None:
    """Keeps `error` and the outcome of the stretch so far; of several workers the first one counts."""
    store.put_json(_STOPPED, {"message": str(error), "outcome": outcome}, once=True)


def stopped_outcome(store: RunStore) -> dict[str, Any] | None:
    """What the worker that stopped the run had seen of its stretch."""
    stopped = store.find_json(_STOPPED)
    return None if stopped is None else dict(stopped["outcome"])


def raise_if_stopped(store: RunStore) -> None:
    """Raises the TooManyUnreadable that stopped the run's workers, if one did."""
    stopped = store.find_json(_STOPPED)
    if stopped is not None:
        raise TooManyUnreadable(stopped["message"])
