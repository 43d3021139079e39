"""Add up a pass over all chunks from the outcomes that its workers left, each exactly once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from reencrypt.errors import IncompleteRun
from reencrypt.operations import last_error
from reencrypt.operations.keys import listed_name
from reencrypt.operations.outcomes import Outcome
from reencrypt.operations.plan_chunks import EVERYTHING_MANIFEST, MANIFEST, is_scan
from reencrypt.operations.stopping import raise_if_stopped
from reencrypt.operations.work import Phase, outcome_name
from reencrypt.storage.objects import RunStore


@dataclass
class Pass:
    """What one pass over all chunks found, added up."""

    rows: Counter[str] = field(default_factory=Counter)
    counts: dict[str, Counter[str]] = field(default_factory=dict)
    keys: Counter[str] = field(default_factory=Counter)
    unreadable: list[dict[str, Any]] = field(default_factory=list)
    plaintext: list[dict[str, Any]] = field(default_factory=list)
    new_data_keys: dict[str, dict[str, Any]] = field(default_factory=dict)
    witnesses: dict[str, dict[str, Any]] = field(default_factory=dict)
    references: Counter[tuple[str, str, str, str]] = field(default_factory=Counter)
    scanned_rows: int = 0
    scanned_tables: set[str] = field(default_factory=set)
    scan_seconds: float = 0.0
    scan_deliveries: int = 0
    seconds: float = 0.0
    deliveries: int = 0

    def add(self, outcome: Mapping[str, Any]) -> None:
        """Adds what became of one stretch of a chunk."""
        if is_scan(outcome["group"]):
            self.scanned_rows += outcome["rows"]
            self.scanned_tables.add(outcome["group"])
            self.scan_seconds += outcome["seconds"]
            self.scan_deliveries += 1
        else:
            self.rows[outcome["group"]] += outcome["rows"]
        self.references.update({tuple(name): count for *name, count in outcome["references"]})
        for key, witness in outcome["witnesses"].items():
            if key not in self.witnesses or (witness["convincing"] and not self.witnesses[key]["convincing"]):
                self.witnesses[key] = witness
        self.keys.update(outcome["keys"])
        self.unreadable += outcome["unreadable"]
        self.plaintext += outcome["plaintext"]
        self.new_data_keys |= {listed_name(entry): entry for entry in outcome["new_data_keys"]}
        self.seconds += outcome["seconds"]
        self.deliveries += 1
        for column_id, counts in outcome["columns"].items():
            self.counts.setdefault(column_id, Counter()).update(counts)

    def totals(self) -> dict[str, int]:
        """The six outcomes over all columns."""
        return {outcome.value: sum(counts[outcome.value] for counts in self.counts.values()) for outcome in Outcome}


def collect(store: RunStore, phase: Phase, *, complete: bool = True) -> Pass:
    """The outcomes of the pass over its manifest, added up.

    Raises IncompleteRun, or what stopped the workers, where a chunk has none; not with `complete` False.
    """
    total = Pass()
    for outcome in _outcomes(store, phase, complete):
        total.add(outcome)
    return total


def _outcomes(store: RunStore, phase: Phase, complete: bool) -> Iterator[dict[str, Any]]:
    """Every stretch of every chunk of the manifest, in order, each exactly once."""
    manifest = EVERYTHING_MANIFEST if phase in (Phase.SURVEY, Phase.SCAN) else MANIFEST
    if not complete and not store.exists(manifest):
        return
    for chunk in store.iter_lines(manifest):
        position = None
        while True:
            outcome = store.find_json(outcome_name(phase, chunk["id"], position))
            if outcome is None:
                if complete:
                    raise_if_stopped(store)
                    error = last_error.found(store, phase.value, chunk["id"])
                    raise IncompleteRun(
                        f"chunk {chunk['id']} ({chunk['group']}) has no outcome in the {phase.value} pass: its worker failed each time"
                        f"{f', at last with {error}' if error else ''}. "
                        "See the Map Run in the Step Functions console and the worker's log, then start the run again"
                    )
                break
            yield outcome
            position = outcome["to"]
            if position is None:
                break
