"""What a report says about keys: the data keys, what became of them, the columns that nobody knows, and which KMS keys may be disabled."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from reencrypt.grafana.key_ring import SECRET_KEY
from reencrypt.grafana.secret_columns import System
from reencrypt.operations import keys_after, removable, rewrap
from reencrypt.operations.choose_data_key import DATA_KEY
from reencrypt.operations.judge_scan import unknown_places
from reencrypt.operations.keys import listed_name
from reencrypt.operations.passes import Pass
from reencrypt.operations.remove_data_keys import REMOVED
from reencrypt.operations.run_input import Mode, RunInput
from reencrypt.storage.objects import RunStore

_KMS_KINDS = ("awskms.", "aws_kms.")


def build(request: RunInput, store: RunStore, facts: Mapping[str, Any], after: Pass, looked: Pass, done: Pass) -> dict[str, Any]:
    """{"data_keys", "rewrapped", "left" (that could not be wrapped anew), "removed", "kms_keys", "unknown_ciphertext", "scan"}.

    `after` is the last pass over the secret columns, `looked` the last look through every column, `done` the first pass.
    """
    listed = data_keys(store, facts, looked if request.mode is Mode.PRUNE_DATA_KEYS else after)
    anew = rewrapped(store)
    if anew is not None and request.mode is Mode.REWRAP_DATA_KEYS:
        targets = {System.GRAFANA.value: facts["provider"], System.MANAGER.value: facts["manager_provider"]}
        anew["under_other_providers"] = sum(entry["provider"] not in (None, targets[entry["system"]]) for entry in listed)
    return {
        "data_keys": listed,
        "rewrapped": anew,
        "left": 0 if anew is None else len(anew["failed"]) + anew["under_other_providers"],
        "removed": removed(store),
        "kms_keys": kms_keys(facts, listed),
        "unknown_ciphertext": unknown_places(looked),
        "scan": None if not looked.scanned_tables else {"tables": len(looked.scanned_tables), "rows": looked.scanned_rows, "references": _references(looked)},
    }


def data_keys(store: RunStore, facts: Mapping[str, Any], after: Pass) -> list[dict[str, Any]]:
    """Every data key as it is now, those that payloads name and no row has, and how many values are under each."""
    values = Counter(after.keys) or _references(after)
    now = keys_after.find(store)
    entries = {listed_name(entry): entry for entry in (facts["data_keys"] if now is None else now)}
    for entry in (store.find_json(DATA_KEY) or {"entries": []})["entries"]:
        entries.setdefault(listed_name(entry), entry)
    for entry in after.new_data_keys.values():
        entries.setdefault(listed_name(entry), entry)
    for name in values:
        if name != SECRET_KEY and name not in entries and not any(entry["id"] == name for entry in entries.values()):
            entries[name] = {
                "id": name, "system": System.GRAFANA.value, "namespace": None, "provider": None, "active": False, "label": None, "readable": False,
                "kms_key": None,
            }  # fmt: skip
    return [{**entry, "values": values[name] or (values[entry["id"]] if not after.keys else 0)} for name, entry in entries.items()]


def rewrapped(store: RunStore) -> dict[str, Any] | None:
    """What became of the data keys that the run wrapped anew; None where it wrapped none."""
    found = rewrap.results(store)
    if not found.pop("names"):
        return None
    return {**found, "under_other_providers": 0}


def removed(store: RunStore) -> dict[str, Any] | None:
    """The data keys that were removed, and why the others were kept; None where the run removes none."""
    found: dict[str, Any] | None = store.find_json(REMOVED)
    return found


def kms_keys(facts: Mapping[str, Any], listed: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """For each KMS key that is configured or that a data key names: {"kms_key", "providers", "data_keys", "values", "safe_to_disable", "because"}.

    A KMS key is needed as long as a data key is wrapped by it, or Grafana wraps new ones with it. Payloads do not name KMS keys. What cannot be told is
    no "yes": an alias stands for a key that nobody named, and a data key that did not open may be under any.
    """
    in_grafana = (facts["provider_in_grafana"], facts["manager_provider"])
    unknown = [entry["id"] for entry in listed if entry["kms_key"] is None and (entry["provider"] or "").startswith(_KMS_KINDS)]
    answers = []
    for kms_key, providers in sorted(facts["kms_keys"].items()):
        wrapped = [entry for entry in listed if entry["kms_key"] == kms_key]
        values = sum(entry["values"] for entry in wrapped)
        current = next((provider for provider in providers if provider in in_grafana), None)
        if current is not None:
            because = f"Grafana wraps new data keys with it: it is the key of its encryption_provider {current}"
        elif wrapped:
            because = (
                f"{'a data key is' if len(wrapped) == 1 else f'{len(wrapped)} data keys are'} wrapped by it and protect {values} values: wrap them anew "
                "(rewrap-data-keys), or move their values (re-encrypt) and prune"
            )
        elif unknown:
            because = f"it cannot be told which KMS key wraps the data key {unknown[0]}{f' and {len(unknown) - 1} more' if len(unknown) > 1 else ''}"
        elif not kms_key.startswith("arn:"):
            because = "it cannot be told which KMS key that is: allow kms:DescribeKey, or write the key's ARN into key_id"
        else:
            because = "no data key of this database is wrapped by it, and it is not the key of encryption_provider"
        answers.append({
            "kms_key": kms_key, "providers": providers, "data_keys": len(wrapped), "values": values,
            "safe_to_disable": not (wrapped or current or unknown) and kms_key.startswith("arn:"), "because": because,
        })  # fmt: skip
    return answers


def _references(looked: Pass) -> Counter[str]:
    known, unknown = removable.references(looked)
    return known + unknown
