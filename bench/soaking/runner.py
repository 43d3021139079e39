"""A full run with several workers at a time, in a process of its own: the product's own operations, over the database that the replicas use.

Rows that Grafana changed between our read and our write are counted at the seam where a worker writes. Three bugs can be planted, for the soak to show
that it finds them: `no-compare` (writes whatever stands there now), `no-sweep` (ends after the first pass) and `prune-blindly` (removes data keys
without waiting and without asking what refers to them, as somebody does by hand).
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from bench.soaking.child import Child
from bench.soaking.stock import SECRET_KEY
from reencrypt.database.database import Database, Swap, Swapped
from reencrypt.errors import TooManyUnreadable
from reencrypt.grafana import cipher
from reencrypt.grafana.secret_columns import ColumnGroup
from reencrypt.grafana.settings import GrafanaSettings, load_settings
from reencrypt.operations import preflight, removable
from reencrypt.operations.run_input import RunInput
from reencrypt.operations.work import Delivery, Phase, work
from reencrypt.operations.workspace import Workspace
from tests.support.local_run import FakeKms, LocalRun, manifest_of
from tests.support.servers import settings_of

PLANTS = ("no-compare", "no-sweep", "prune-blindly")
CHUNK_ROWS = 100  # small, so that several workers have something to do
_SETTLE_MARGIN = 2  # seconds after the caches' time to live: a request under way may write a little later
_ANSWER_SECONDS = 600.0
BeforeSwap = Callable[[ColumnGroup, Sequence[Swap]], None]


@dataclass(frozen=True)
class RunOrder:
    """What a run works on. `cache_seconds` is the replicas' data_keys_cache_ttl."""

    url: sa.URL
    kms: FakeKms = field(repr=False)
    folder: Path
    workers: int
    cache_seconds: float
    plant: str | None = None

    @property
    def settings(self) -> GrafanaSettings:
        """grafana.ini of the replicas."""
        ini = f"[security]\nsecret_key = {SECRET_KEY}\nencryption_provider = {self.kms.name}\n[security.encryption.{self.kms.name}]\nkey_id = alias/soak\n"
        settings = load_settings(ini)
        ttl = timedelta(seconds=self.cache_seconds)
        return GrafanaSettings(**{**settings.__dict__, "database": settings_of(self.url), "data_keys_cache_ttl": ttl})


class ParallelRun(LocalRun):
    """A run whose chunks are worked on by `workers` threads, each with connections of its own, as the Distributed Map does it with functions."""

    workers: int = 1
    derive: cipher.DeriveKey = staticmethod(cipher.caching_derivation())  # for the life of the process, as a function has it

    def over_all_chunks(self, request: RunInput, workspace: Workspace, phase: Phase) -> None:
        def deliver(chunk: dict[str, Any]) -> None:
            position, limit, done = None, None, False
            while not done:
                delivery = Delivery(phase, chunk, None if position is None else tuple(position), limit)
                answer = work(request, delivery, workspace, self.out_of_time, self.derive)
                position, limit, done = answer["position"], answer["limit"], answer["done"]

        with ThreadPoolExecutor(self.workers) as pool:
            delivered = [pool.submit(deliver, chunk) for chunk in workspace.store.iter_lines(manifest_of(phase))]
            failed = [error for each in delivered if (error := each.exception())]
        for error in failed:
            if not isinstance(error, TooManyUnreadable):  # judge_pass tells that one
                raise error


@dataclass
class Seam:
    """Stands before each write of a worker: `before` may do something to the rows first. Counts the rows that were not as they had been read."""

    before: BeforeSwap = lambda group, swaps: None
    plant: str | None = None
    misses: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def wrap(self, database: Database) -> Database:
        """`database`, with this seam in it."""
        swap = database.compare_and_swap

        def compare_and_swap(group: ColumnGroup, swaps: Sequence[Swap]) -> list[Swapped]:
            self.before(group, swaps)
            if self.plant == "no-compare":
                swaps = [Swap(database.row(group, each.row.key) or each.row, each.new) for each in swaps]
            results = swap(group, swaps)
            with self._lock:
                self.misses += results.count(Swapped.MISSED)
            return results

        database.compare_and_swap = compare_and_swap  # type: ignore[method-assign]  # the seam between read and write
        return database


def local_run(order: RunOrder, seam: Seam) -> ParallelRun:
    """Runs over `order`'s database, with `seam` in each worker's connection."""
    run = ParallelRun(order.settings, order.folder, order.kms, seam.wrap, settle=time.sleep)  # the state machine has a Wait state here
    run.workers = order.workers
    return run


def options(order: RunOrder, mode: str = "re-encrypt") -> dict[str, Any]:
    """The run's input. The replicas have the provider, but after a rotation no active key of it that proves so."""
    hasty = order.plant == "prune-blindly" or (order.plant == "no-sweep" and mode == "re-encrypt")
    settle = 0 if hasty else int(order.cache_seconds) + _SETTLE_MARGIN
    return {"providerReady": True, "settleSeconds": settle, "chunkRows": CHUNK_ROWS, "maxConcurrency": order.workers}


class Runner(Child):
    """The process, seen from outside."""

    def __init__(self, order: RunOrder) -> None:
        super().__init__(_main, order, _ANSWER_SECONDS, "the run has not ended")

    def ready(self) -> None:
        """Waits until it could start a run at once."""
        self._answer()

    def run(self, mode: str = "re-encrypt") -> dict[str, Any]:
        """One whole run; its report, with `misses`."""
        self._pipe.send(mode)
        report: dict[str, Any] = self._answer()
        return report


def _main(pipe: Connection, order: RunOrder) -> None:
    try:
        preflight.SETTLE_MARGIN_SECONDS = _SETTLE_MARGIN  # of this process: a minute would be most of a soak
        if order.plant == "prune-blindly":
            removable.references = lambda found: (Counter(), Counter())
        seam = Seam(plant=order.plant)
        run = local_run(order, seam)
        pipe.send(None)
        while (mode := pipe.recv()) is not None:
            before = seam.misses
            report = run.run(mode, **options(order, mode))
            pipe.send({**report, "misses": seam.misses - before})
    except Exception as error:  # the soak must not wait for a run that has died of a mistake
        pipe.send(RuntimeError(f"the run died: {type(error).__name__}: {error}"))
