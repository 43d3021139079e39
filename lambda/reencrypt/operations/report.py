"""The report: the facts of a run, from what its steps have left in the run's store. No database, no keys.

The outcome is judged from the counts, never from the state machine's status: a chunk without an outcome makes the run fail.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from reencrypt.grafana.secret_columns import ALL_SYSTEMS, secret_columns
from reencrypt.operations import advice, cost, key_report
from reencrypt.operations.choose_data_key import DATA_KEY
from reencrypt.operations.judge_pass import sweeps
from reencrypt.operations.outcomes import Outcome
from reencrypt.operations.passes import Pass, collect
from reencrypt.operations.plan_chunks import PLAN
from reencrypt.operations.preflight import PREFLIGHT
from reencrypt.operations.run_input import Mode, OnUnreadable, RunInput
from reencrypt.operations.stopping import stopped_outcome
from reencrypt.operations.work import Phase
from reencrypt.storage.objects import RunStore

REPORT_JSON = "report.json"
REPORT_HTML = "report.html"
_RE_ENCRYPT_SHARE = 1.4  # measured on a database that Grafana 12.4 wrote: 0.72 s of a re-encrypt with its verify pass, 0.52 s of a plan


class RunOutcome(StrEnum):
    """How a run ended."""

    SUCCEEDED = "succeeded"
    WITH_UNREADABLE = "succeeded-with-unreadable"
    FAILED = "failed"
    NOTHING_FOUND = "nothing-found"


@dataclass(frozen=True)
class Times:
    """When the run started and finished (UTC), and the memory of a worker, for the cost."""

    started: datetime
    finished: datetime
    worker_megabytes: int

    @property
    def seconds(self) -> float:
        """The run's duration."""
        return max((self.finished - self.started).total_seconds(), 0.001)


def build(run: str, request: RunInput, store: RunStore, times: Times) -> dict[str, Any]:
    """The report of a run that went through all its steps. Raises IncompleteRun when a chunk has no outcome."""
    facts = store.get_json(PREFLIGHT)
    steps = request.mode.steps
    done = collect(store, Phase.PROCESS) if steps.reads_values else Pass()
    verified = collect(store, Phase.VERIFY) if request.mode.writes and steps.reads_values else None
    looked = collect(store, Phase.SCAN) if steps.removes else done
    chosen = store.find_json(DATA_KEY)
    after = verified or done
    totals = done.totals()
    values = sum(totals.values())
    swept = sweeps(store)
    unreadable = done.unreadable
    if verified is not None:
        known = {repr(_place(entry)) for entry in unreadable}
        unreadable = unreadable + [entry for entry in verified.unreadable if repr(_place(entry)) not in known]
    left = verified.totals()[Outcome.RE_ENCRYPTED] if verified is not None and steps.rewrites else 0
    passes = [done, *filter(None, [verified]), *([looked] if steps.removes else [])]
    worker_seconds = sum(each.seconds for each in passes) + sum(entry["seconds"] for entry in swept)
    deliveries = sum(each.deliveries for each in passes) + sum(entry["deliveries"] for entry in swept)
    keys = key_report.build(request, store, facts, after, looked, done)
    report = {
        "run": run, "mode": request.mode.value, "tables": list(request.tables),
        "outcome": _outcome(request, values - totals[Outcome.EMPTY], len(unreadable), left, keys).value,
        "engine": facts["engine"], "provider": facts["provider"],
        "data_key": chosen["data_key"] if chosen else None,
        "started": _utc(times.started), "finished": _utc(times.finished),
        "columns": _columns(done, facts, request),
        "data_keys": keys["data_keys"], "rewrapped": keys["rewrapped"], "removed": keys["removed"], "kms_keys": keys["kms_keys"],
        "unknown_ciphertext": keys["unknown_ciphertext"], "scan": keys["scan"],
        "unreadable": unreadable,
        "plaintext_values": done.plaintext,
        "totals": {"rows": sum(done.rows.values()), "values": values, **totals},
        "census": {"before": dict(done.keys), "after": dict(verified.keys) if verified else None},
        "seconds": round(times.seconds, 3),
        "values_per_second": round(values / times.seconds, 1),
        "sweeps": [{name: entry[name] for name in ("sweep", "values", "moved", "changed_by_grafana")} for entry in swept],
        "left_under_old_keys": left, "settle_seconds": facts["settle_seconds"], "restored_run": request.run,
        "undo_journal": facts["journal"] and request.mode.writes,
        "estimated_cost_usd": round(cost.estimate_usd(worker_seconds, deliveries, len(facts["data_keys"]), times.worker_megabytes), 6),
        "notes": [*facts["notes"], *advice.notes(request, totals, left, facts, done.keys)],
        "estimate": _estimate(store, facts, done, times) if request.mode is Mode.PLAN else None,
        "next_input": None if request.mode is Mode.PLAN and facts["too_old"] else advice.next_input(request, totals, left, keys["left"]),
        "error": None,
    }  # fmt: skip
    report["notes"] += advice.key_notes(report)
    report["headline"] = advice.headline(report)
    report["next_steps"] = advice.next_steps(report, facts["provider_ready"])
    return report


def build_failure(run: str, mode: str, store: RunStore, times: Times, error: Mapping[str, str]) -> dict[str, Any]:
    """The report of a run that a step ended: `error` has the exception's class `name` and its `message`. Uses what the store has."""
    facts = store.find_json(PREFLIGHT) or {}
    done = collect(store, Phase.PROCESS, complete=False)
    if stopped := stopped_outcome(store):
        done.add(stopped)
    chosen = store.find_json(DATA_KEY)
    totals = done.totals()
    values = sum(totals.values())
    report = {
        "run": run, "mode": mode, "tables": list(facts.get("tables", ())), "outcome": RunOutcome.FAILED.value,
        "engine": facts.get("engine"), "provider": facts.get("provider"),
        "data_key": chosen["data_key"] if chosen else None,
        "started": _utc(times.started), "finished": _utc(times.finished),
        "columns": _columns(done, facts, None) if facts else [],
        "data_keys": key_report.data_keys(store, facts, done) if facts else [],
        "rewrapped": key_report.rewrapped(store), "removed": key_report.removed(store), "kms_keys": [], "unknown_ciphertext": [], "scan": None,
        "unreadable": done.unreadable, "plaintext_values": done.plaintext,
        "totals": {"rows": sum(done.rows.values()), "values": values, **totals},
        "census": {"before": dict(done.keys), "after": None},
        "seconds": round(times.seconds, 3), "values_per_second": round(values / times.seconds, 1),
        "estimated_cost_usd": round(cost.estimate_usd(done.seconds, done.deliveries, len(facts.get("data_keys", ())), times.worker_megabytes), 6),
        "sweeps": [], "left_under_old_keys": None, "settle_seconds": facts.get("settle_seconds"), "restored_run": None, "undo_journal": facts.get("journal"),
        "notes": list(facts.get("notes", ())), "next_input": None, "error": dict(error),
    }  # fmt: skip
    report["headline"] = advice.headline(report)
    report["next_steps"] = advice.failure_steps(error["name"])
    return report


def _estimate(store: RunStore, facts: Mapping[str, Any], done: Pass, times: Times) -> dict[str, float]:
    """What a `re-encrypt` of all this takes: as much deriving as this plan did, once more for the writing, and two passes that derive little."""
    worker_seconds = (done.seconds - done.scan_seconds) * _RE_ENCRYPT_SHARE  # a plan also looks through every column, which the run does not
    dollars = cost.estimate_usd(worker_seconds, (done.deliveries - done.scan_deliveries) * 3, len(facts["data_keys"]), times.worker_megabytes)
    return {"seconds": max(round(worker_seconds / store.get_json(PLAN)["max_concurrency"], 1), 0.1), "cost_usd": round(dollars, 6)}


def _outcome(request: RunInput, secrets: int, unreadable: int, left: int, keys: Mapping[str, Any]) -> RunOutcome:
    if not secrets and request.mode.steps.reads_values:
        return RunOutcome.NOTHING_FOUND
    if left or keys["left"]:
        return RunOutcome.FAILED
    if unreadable:
        return RunOutcome.WITH_UNREADABLE if request.on_unreadable is OnUnreadable.REPORT else RunOutcome.FAILED
    return RunOutcome.SUCCEEDED


def _columns(done: Pass, facts: Mapping[str, Any], request: RunInput | None) -> list[dict[str, Any]]:
    """One entry for each column, whichever objects it holds: `resource.value` has those of repositories and those of snapshots."""
    entries: dict[tuple[str, str], dict[str, Any]] = {}
    for column in secret_columns(*ALL_SYSTEMS):
        if request is not None and request.tables and column.table not in request.tables:
            continue
        counts = done.counts.get(column.id, Counter())
        entry = entries.setdefault(
            (column.table, column.column),
            {"table": column.table, "column": column.column, "present": False, "rows": 0, "values": 0, **{outcome.value: 0 for outcome in Outcome}},
        )
        entry["present"] |= facts["present"][column.id]
        entry["rows"] += _rows(done, column.id)
        entry["values"] += sum(counts.values())
        for outcome in Outcome:
            entry[outcome.value] += counts[outcome.value]
    return list(entries.values())


def _rows(done: Pass, column_id: str) -> int:
    table, _, rest = column_id.partition(".")
    resource = rest.partition("/")[2]
    return done.rows[f"{table}/{resource}" if resource else table]


def _place(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in entry.items() if name != "reason"}


def _utc(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
