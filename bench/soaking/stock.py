"""The database that a soak begins with: some thousand values of every age, shared out among the replicas whose users own them.

Each replica has a ground truth of its own, since processes share no memory: a row belongs to the replica that its key falls to (keys are dealt
out in turn, so every page of a table has rows of all of them).
"""

from __future__ import annotations

import random
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC

from bench.live_grafana import LiveGrafana
from bench.simulation import past, tables
from bench.simulation.secrets_service import SecretsService, Wrapper
from bench.simulation.truth import Truth

SECRET_KEY = "soak-secret-key"  # noqa: S105 - of a database that exists for a minute
GRAFANAS_KMS_KEY = "cg7e1p5r3s9u4a"  # data_keys.name: made by Grafana itself, before the run
_VALUES_A_ROUND = 16  # what one row in each table holds
_ANSI = "SET SESSION sql_mode = 'ANSI_QUOTES'"  # Grafana's own sessions: not strict


@dataclass
class ReplicaTruth(Truth):
    """The truth of one replica of `step`. Its keys are `offset` + 1, `offset` + 1 + `step`, … Can be sent to another process."""

    offset: int = 0
    step: int = 1

    def next_id(self, table: str) -> int:
        return (super().next_id(table) - 1) * self.step + self.offset + 1

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _lock=threading.Lock())


def merged(truths: Iterable[ReplicaTruth]) -> ReplicaTruth:
    """One truth of all replicas, for one writer that goes on alone; its new keys lie behind all of theirs."""
    whole = ReplicaTruth()
    for truth in truths:
        whole.values |= truth.values
        whole.former |= truth.former
        whole.gone |= truth.gone
        whole.ever |= truth.ever
        for table, rows in truth.rows.items():
            whole.rows.setdefault(table, {}).update(rows)
        for table, last in truth._last.items():
            whole._last[table] = max(whole._last.get(table, 0), last * truth.step)
    return whole


def grafana_engine(url: sa.URL) -> sa.Engine:
    """Connections as Grafana's are."""
    if url.drivername == "sqlite":
        # Five retries of 10 ms each are Grafana's own patience; LiveGrafana counts the tries, the driver waits.
        return sa.create_engine(url, connect_args={"timeout": 0.01})
    engine = sa.create_engine(url)
    if url.drivername.startswith("mysql"):

        @sa.event.listens_for(engine, "connect")
        def prepare(connection: sa.engine.interfaces.DBAPIConnection, _record: object) -> None:
            cursor = connection.cursor()
            cursor.execute(_ANSI)
            cursor.close()

    return engine


def fill(engine: sa.Engine, kms: Mapping[str, Wrapper], values: int, replicas: int, seed: int) -> list[ReplicaTruth]:
    """Makes the tables and about `values` values in them, under secret_key and older data keys; the truth of each replica.

    The provider of `kms` has an active data key that Grafana made 20 minutes ago, and nothing under it yet.
    """
    tables.create(engine)
    old = past.PastSecrets(engine, SECRET_KEY.encode(), now, derive=derive)
    provider = next(iter(kms))
    grafana = SecretsService(engine, SECRET_KEY.encode(), provider, kms, now, derive=derive)
    grafana.insert_key(GRAFANAS_KMS_KEY, provider, active=True, age=timedelta(minutes=20))
    truths = [ReplicaTruth(offset=number, step=replicas) for number in range(replicas)]
    for number, truth in enumerate(truths):
        past.fill(LiveGrafana(engine, old, truth, random.Random(seed * 1000 + number), now), rows=max(2, values // _VALUES_A_ROUND // replicas))  # noqa: S311
        truth.writes.clear()
    return truths


def derive(password: bytes, salt: bytes) -> bytes:
    """PBKDF2 as Grafana pays for it: the whole price for every value. (The library is faster than hashlib, and about as fast as Go's.)"""
    return PBKDF2HMAC(algorithm=SHA256(), length=32, salt=salt, iterations=10_000).derive(password)


def now() -> datetime:
    """The real clock."""
    return datetime.now(UTC)
