"""The settings of runs that start by themselves: when, with what input, and how old the last success may become."""

from __future__ import annotations

import zoneinfo
from collections.abc import Collection
from typing import Any

from pydantic import field_validator

from infra.setting_types import Strict, setting
from reencrypt.errors import InvalidInput
from reencrypt.operations import run_input
from reencrypt.operations.modes import Mode


class ScheduleSettings(Strict):
    """One EventBridge schedule that starts the state machine; off until `enabled`."""

    name: str = setting(..., "letters, digits and hyphens, at most 40, different for each schedule", pattern=r"^[A-Za-z][A-Za-z0-9-]{0,39}$")
    expression: str = setting(..., '"rate(7 days)", "cron(0 3 ? * SUN *)" or "at(2027-01-31T03:00:00)"', pattern=r"^(rate|cron|at)\([^()]+\)$")
    time_zone: str = setting("UTC", 'an IANA time zone, such as "Europe/Berlin"')
    input: dict[str, Any] = setting({}, 'the execution\'s input, such as {mode = "re-encrypt"}; {} plans only')
    enabled: bool = setting(False, "true or false")
    flexible_minutes: int = setting(0, "a whole number of minutes from 1 to 1440, or 0 for exactly then", ge=0, le=1440)
    retry_minutes: int = setting(60, "a whole number of minutes from 1 to 1440", ge=1, le=1440)
    alarm_after_days: int | None = setting(None, "a whole number of days from 1 to 366", ge=1, le=366)

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, zone: str) -> str:
        if zone not in zoneinfo.available_timezones():
            raise ValueError("no such time zone")
        return zone

    @property
    def mode(self) -> Mode:
        """What its runs do."""
        return Mode(self.input.get("mode", Mode.PLAN))

    @property
    def watched(self) -> bool:
        """Whether an alarm tells when its runs have not succeeded for too long."""
        return self.enabled and self.alarm_after_days is not None

    def problem(self, own_tables: Collection[str]) -> str | None:
        """What is wrong with the input: checked as a run will check it, but before anything is deployed. `own_tables`: those of [[secret_column]]."""
        given = dict(self.input)
        if isinstance(tables := given.get("tables"), list):  # these the functions will know, and this process does not
            given["tables"] = [table for table in tables if table not in own_tables]
        try:
            run_input.parse(given)
        except InvalidInput as error:
            return str(error)
        return None
