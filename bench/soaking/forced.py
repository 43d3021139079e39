"""Forced misses: between our read and our write of a page, Grafana changes some of those very rows.

In nature that is rare: the time between the two is milliseconds, and users save a secret now and then.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from bench.live_grafana import LiveGrafana, Operation
from bench.simulation.secrets_service import SecretsService
from bench.simulation.truth import Place, Truth
from bench.soaking.runner import RunOrder, Seam, local_run, options
from bench.soaking.stock import SECRET_KEY, derive, now
from reencrypt.database.database import Swap
from reencrypt.grafana.secret_columns import ColumnGroup

_SHARE = 0.5  # of a page's rows
_DELETED = 0.05  # of those: the row is gone when we come to write it
_MOST_RUNS = 100


class Meddler:
    """The Grafana that comes between. One for all workers; what it stores is in `truth`."""

    def __init__(self, engine: sa.Engine, order: RunOrder, truth: Truth, seed: int) -> None:
        secrets = SecretsService(
            engine, SECRET_KEY.encode(), order.kms.name, {order.kms.name: order.kms}, now, ttl=timedelta(seconds=order.cache_seconds), derive=derive
        )
        self._rng = random.Random(seed)  # noqa: S311 - which rows
        self._grafana = LiveGrafana(engine, secrets, truth, self._rng, now)
        self._lock = threading.Lock()
        self.saves = 0

    @property
    def wrong_reads(self) -> list[Place]:
        """Places where it read something else than what its users had stored."""
        return self._grafana.wrong_reads

    def before(self, group: ColumnGroup, swaps: Sequence[Swap]) -> None:
        """Saves some of the rows that are about to be written."""
        with self._lock:  # one user at a time: what matters is that he comes between
            for swap in swaps:
                if self._rng.random() < _SHARE:
                    for operation in self._operations(group.table, swap.row.key[0]):
                        self.saves += 1
                        for _ in operation:
                            pass

    def _operations(self, table: str, key: object) -> Iterator[Operation]:
        grafana = self._grafana
        savers = {
            "user_auth": grafana.refresh_login, "user_external_session": grafana.refresh_session, "data_source": grafana.save_data_source,
            "secrets": grafana.save_data_source, "plugin_setting": grafana.save_plugin, "alert_configuration": grafana.save_alerting,
        }  # fmt: skip
        deleters = {
            "user_auth": grafana.delete_login, "user_external_session": grafana.log_out, "dashboard_snapshot": grafana.expire_snapshot,
        }  # fmt: skip
        if table == "sso_setting":
            yield grafana.save_sso(str(key))
        elif isinstance(key, int):
            if table in deleters and self._rng.random() < _DELETED:
                yield deleters[table](key)
            elif table in savers:
                yield savers[table](key)


def force(order: RunOrder, engine: sa.Engine, truth: Truth, seed: int, saves: int) -> tuple[list[dict[str, Any]], Meddler]:
    """Rewrites everything, again and again, until users have come between at least `saves` times; the reports, with `misses`, and who came between."""
    meddler = Meddler(engine, order, truth, seed)
    seam = Seam(meddler.before, order.plant)
    run = local_run(order, seam)
    reports: list[dict[str, Any]] = []
    while meddler.saves < saves and len(reports) < _MOST_RUNS:
        before = seam.misses
        # The meddler's cache is the only one left, and holds the current key: there is nothing to wait for.
        report = run.run("re-encrypt", **{**options(order), "settleSeconds": 0, "force": True})
        reports.append({**report, "misses": seam.misses - before})
    return reports, meddler
