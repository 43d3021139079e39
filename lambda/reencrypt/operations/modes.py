"""The modes of a run, and what each goes through: a table that the steps, the state machine and the docs go by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType


class Mode(StrEnum):
    """What a run does."""

    PLAN = "plan"
    RE_ENCRYPT = "re-encrypt"
    ROTATE = "rotate"
    REWRAP_DATA_KEYS = "rewrap-data-keys"
    ROTATE_SECRET_KEY = "rotate-secret-key"  # noqa: S105  (a mode's name)
    ROLLBACK = "rollback"
    VERIFY = "verify"
    RESTORE = "restore"
    PRUNE_DATA_KEYS = "prune-data-keys"

    @property
    def steps(self) -> Steps:
        """What a run of this mode goes through."""
        return STEPS[self]

    @property
    def writes(self) -> bool:
        """Whether the mode changes the database: it then takes the lease."""
        return self.steps.writes

    @property
    def encrypts(self) -> bool:
        """Whether the mode encrypts values under a data key: it then needs one."""
        return self.steps.data_key


@dataclass(frozen=True)
class Steps:
    """The steps of a mode beside preflight, plan and report.

    `writes`: takes the lease. `data_key`: chooses the data key that values go under. `retires`: deactivates data keys, so that no Grafana writes
    under them any more. `surveys`: looks through every column of the database before it writes anything. `rewrites`: puts new payloads over old ones, so
    it has a failure budget, and fails where something is left under an old key. `sweeps`: waits out Grafana's caches and goes over what a running
    Grafana has put back. `rewraps`: wraps data keys anew, after every value under them has been read. `removes`: looks through every column once more,
    and removes data keys. `reads_values`: goes through the secret columns at all. `secret_keys`: needs the old secret_key beside the new one.
    `by_table`: may be confined to some tables.
    """

    writes: bool = True
    data_key: bool = False
    retires: bool = False
    surveys: bool = False
    rewrites: bool = False
    sweeps: bool = False
    rewraps: bool = False
    removes: bool = False
    reads_values: bool = True
    secret_keys: bool = False
    by_table: bool = True


STEPS: Mapping[Mode, Steps] = MappingProxyType(
    {
        Mode.PLAN: Steps(writes=False),
        Mode.RE_ENCRYPT: Steps(data_key=True, rewrites=True, sweeps=True),
        Mode.ROTATE: Steps(data_key=True, retires=True, rewrites=True, sweeps=True),
        Mode.REWRAP_DATA_KEYS: Steps(rewraps=True, by_table=False),
        Mode.ROTATE_SECRET_KEY: Steps(surveys=True, rewrites=True, rewraps=True, secret_keys=True, by_table=False),
        Mode.ROLLBACK: Steps(retires=True, surveys=True, rewrites=True, sweeps=True, removes=True),
        Mode.VERIFY: Steps(writes=False),
        Mode.RESTORE: Steps(),
        Mode.PRUNE_DATA_KEYS: Steps(retires=True, surveys=True, removes=True, reads_values=False, by_table=False),
    }
)


def mode_word(given: object) -> str:
    """The mode that an input's `given` is about, for logs, metrics and reports: `invalid` for what is none.

    Only what is a mode is repeated: whatever else stands there may have been pasted by mistake.
    """
    if not isinstance(given, dict):
        return "invalid"
    mode = given.get("mode", Mode.PLAN)
    return str(mode) if mode in list(Mode) else "invalid"
