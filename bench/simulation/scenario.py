"""What happens in one interleaving: drawn from its seed before it begins."""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import Enum

from bench.simulation.execution import Faults

TABLES = (
    "data_source", "user_auth", "user_external_session", "plugin_setting", "sso_setting", "dashboard_snapshot", "signing_key", "alert_configuration",
)  # fmt: skip
_BROUGHT_ALONG = {"data_source": "secrets", "alert_configuration": "alert_configuration_history"}


class Second(Enum):
    """A second run: none; beside the first, which holds the lease; beside it without any lease; after the first was aborted."""

    NONE = "none"
    REFUSED = "refused"
    OVERLAPPING = "overlapping"
    AFTER_A_CRASH = "after a crash"


class Restore(Enum):
    """Undoing the first run: never; while users go on; when all is at rest."""

    NONE = "none"
    BESIDE = "beside"
    AT_REST = "at rest"


@dataclass(frozen=True)
class Scenario:
    """`empty` are tables without a row when it begins, `operations` is how many requests users make.

    `rotated`: data keys were deactivated just before the run, by another replica. `midnight`: there is no data key of today yet, so the first
    request that stores a secret makes one.
    """

    tables: tuple[str, ...]
    empty: tuple[str, ...]
    rows: int
    chunk_rows: int
    faults: Faults
    kills: int
    kill_share: float
    drops: int
    stickiness: float
    operations: int
    operation_share: float
    rotated: bool
    midnight: bool
    second: Second
    restore: Restore
    abort_after: int

    @property
    def present(self) -> frozenset[str]:
        """Every table of the database."""
        made = (*self.tables, *self.empty)
        return frozenset(made) | {_BROUGHT_ALONG[table] for table in made if table in _BROUGHT_ALONG}


def draw(rng: random.Random) -> Scenario:
    """A scenario. Calm ones are as needed as wild ones: only in a calm one are all counts known."""
    calm = rng.random() < 0.25
    wild = 0.0 if calm else 1.0
    tables = rng.sample(TABLES, rng.choice((1, 1, 2, 2, 3)))
    return Scenario(
        tables=tuple(tables),
        empty=tuple(rng.sample([table for table in TABLES if table not in tables], rng.choice((0, 0, 1)))),
        rows=rng.choice((1, 2, 2, 3, 4)),
        chunk_rows=rng.choice((1, 2, 3, 100)),
        faults=Faults(
            duplicates=wild * rng.choice((0, 0, 0.1, 0.3)), late=wild * rng.choice((0, 0, 0.05, 0.15)), out_of_time=rng.choice((0, 0.3)),
            narrow=wild * rng.choice((0, 0, 0.5)),
        ),
        kills=int(wild) * rng.choice((0, 1, 2, 4)),
        kill_share=rng.choice((0.005, 0.02)),
        drops=int(wild) * rng.choice((0, 0, 2)),
        stickiness=rng.choice((0.0, 0.0, 0.5, 0.9)),
        operations=rng.choice((0, 5, 10, 20)),
        operation_share=rng.choice((0.01, 0.03, 0.1)),
        rotated=rng.random() < 0.5,
        midnight=rng.random() < 0.3,
        second=Second.NONE if calm else rng.choice((Second.NONE, Second.NONE, Second.NONE, *Second)),
        restore=rng.choice((Restore.NONE, Restore.NONE, Restore.BESIDE, Restore.AT_REST, Restore.AT_REST)),
        abort_after=rng.randrange(20, 400),
    )  # fmt: skip
