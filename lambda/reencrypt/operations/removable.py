"""Which data keys may be deactivated, and which removed: the rules that stand between a data key and the loss of what it protects."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from reencrypt.grafana.data_keys import DataKey
from reencrypt.grafana.secret_columns import System
from reencrypt.operations.keys import provider_of
from reencrypt.operations.passes import Pass
from reencrypt.operations.run_input import Mode, RunInput
from reencrypt.operations.scan import Known

_LABEL_DAYS = timedelta(days=2)  # a label is a date in the server's own time zone


class Kept(StrEnum):
    """Why a data key stays."""

    REFERENCED = "referenced"
    REFERENCED_BY_UNKNOWN = "referenced-by-unknown-column"
    IN_USE = "in-use"
    TOO_YOUNG = "too-young"
    CACHE_TTL_NOT_OVER = "cache-ttl-not-over"
    CHANGED = "changed-meanwhile"


@dataclass(frozen=True)
class Verdict:
    """What is to become of a data key; `kept` None: it may go. `references` counts those that are not disposable."""

    system: System
    row: DataKey
    kept: Kept | None
    references: int


def references(found: Pass) -> tuple[Counter[str], Counter[str]]:
    """How often each key id is named: by columns that this product re-encrypts, and by others. Disposable places count for nothing."""
    known: Counter[str] = Counter()
    unknown: Counter[str] = Counter()
    for (_, _, kind, key), count in found.references.items():
        if kind == Known.KNOWN:
            known[key] += count
        elif kind == Known.UNKNOWN:
            unknown[key] += count
    return known, unknown


def retirable(request: RunInput, facts: Mapping[str, Any], rows: Mapping[System, Sequence[DataKey]], found: Pass, now: datetime) -> dict[System, list[DataKey]]:
    """The active keys that no Grafana is to write under any more.

    A rollback: all of Grafana's own store, unless an old Grafana could not decrypt with an inactive key. A prune: those that nothing refers to, but
    for the ones that Grafana uses now.
    """
    if request.mode is Mode.ROLLBACK:
        return {System.GRAFANA: [] if facts["keeps_keys_active"] else [row for row in rows[System.GRAFANA] if row.active]}
    known, unknown = references(found)
    return {
        system: [
            row for row in keys
            if row.active and not known[row.name] and not unknown[row.name] and not _in_use(system, row, keys, facts, now)
        ]
        for system, keys in rows.items()
    }  # fmt: skip


def verdicts(
    request: RunInput, facts: Mapping[str, Any], retired: Mapping[str, Any], rows: Mapping[System, Sequence[DataKey]], looks: Sequence[Pass], now: datetime
) -> list[Verdict]:
    """What is to become of each data key. `looks` are those through every column that must have found nothing under it.

    A prune asks two looks, a cache's life apart: a save that copies an old payload from a row not yet read into one read already escapes one, not both.
    A rollback leaves the secrets manager alone.
    """
    known, unknown = Counter[str](), Counter[str]()
    for found in looks:
        for total, part in zip((known, unknown), references(found), strict=True):
            total |= part
    systems: Iterable[System] = (System.GRAFANA,) if request.mode is Mode.ROLLBACK else System
    found_keys = []
    for system in systems:
        there = set(retired["there"].get(system.value, ()))
        for row in rows[system]:
            kept: Kept | None = None
            if known[row.name]:
                kept = Kept.REFERENCED
            elif unknown[row.name]:
                kept = Kept.REFERENCED_BY_UNKNOWN
            elif f"{row.scope}/{row.name}" not in there or _is_young(row, facts, now):
                kept = Kept.TOO_YOUNG
            elif _may_be_written_with(request, system, row, rows[system], facts, now):
                kept = Kept.IN_USE
            elif facts["settle_seconds"] and facts["settle_seconds"] < facts["cache_seconds"]:  # the run waited, but not long enough
                kept = Kept.CACHE_TTL_NOT_OVER
            found_keys.append(Verdict(system, row, kept, known[row.name] + unknown[row.name]))
    return found_keys


def _may_be_written_with(request: RunInput, system: System, row: DataKey, rows: Sequence[DataKey], facts: Mapping[str, Any], now: datetime) -> bool:
    """Whether the key is active although it should have been deactivated; an 8.x database, whose keys are never, has Grafana stopped instead."""
    if not row.active or not facts["keeps_keys_active"]:
        return row.active
    return request.mode is Mode.PRUNE_DATA_KEYS and _in_use(system, row, rows, facts, now)


def _in_use(system: System, row: DataKey, rows: Sequence[DataKey], facts: Mapping[str, Any], now: datetime) -> bool:
    """Whether Grafana may encrypt under this active key today, or this product tomorrow: the newest of the current provider, or one with today's label."""
    provider = facts["provider"] if system is System.GRAFANA else facts["manager_provider"]
    if provider_of(row, system) != provider:
        return False
    newest = [other for other in rows if other.active and provider_of(other, system) == provider and other.scope == row.scope][-1]
    return row is newest or _has_label_of_about(row, now)


def _has_label_of_about(row: DataKey, now: datetime) -> bool:
    try:
        day = datetime.fromisoformat((row.label or row.name)[:10]).replace(tzinfo=now.tzinfo)
    except ValueError:
        return True  # a label that nobody knows
    return abs(now - day) < _LABEL_DAYS


def _is_young(row: DataKey, facts: Mapping[str, Any], now: datetime) -> bool:
    """Made within the life of a cache entry, so that a transaction may be about to use it; with Grafana stopped there is none."""
    return bool(facts["settle_seconds"]) and row.created is not None and abs(now - row.created) < timedelta(seconds=facts["cache_seconds"])
