"""The certificate of a run: what an auditor wants to file, made from report.json alone, with a hash over each of the two.

Only a run that ended well and went through everything gets one. It is a statement of this tool about one database at one time. It is not signed: who
can write to the bucket can write another one, so file the hash where that is not so.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from reencrypt.grafana.key_ring import SECRET_KEY
from reencrypt.grafana.secret_columns import ALL_SYSTEMS, secret_columns
from reencrypt.operations import key_words
from reencrypt.operations.modes import Mode
from reencrypt.operations.reasons import mode_of

CERTIFICATE = "certificate.json"
_NONE_FOR = {
    Mode.PLAN: "a plan only looks; run verify to have one",
    Mode.RESTORE: "a restore puts older keys back; run verify to have one",
}  # fmt: skip

_SAYS_NOT = (
    "It speaks of this database, and of the time when the run read it. What Grafana writes later it does not know.",
    "It does not speak of backups, replicas, exports and undo journals, which may still hold values and data keys under earlier keys.",
    "It does not say whether the secrets themselves are known to anyone: secrets that may have leaked have to be changed where they are used.",
    "It is not signed. Its hash tells whether it was changed since the hash was noted, not who made it.",
)


def certificate(report: Mapping[str, Any], report_sha256: str) -> dict[str, Any] | None:
    """The certificate for `report`, whose file has the hash `report_sha256`; None where there is a `refusal`. Pure JSON, without floats."""
    if refusal(report) is not None:
        return None
    mode = Mode(report["mode"])
    keys = _by_name(report["data_keys"])
    reads = mode.steps.reads_values
    counted = _by_key(keys, _census(report) if reads else {name: entry["values"] for name, entry in keys.items()})
    removed = (report["removed"] or {}).get("removed", [])
    anew = report["rewrapped"]
    unknown = report["unknown_ciphertext"]
    facts = {
        "certificate": "grafana-reencrypt, version 1",
        "product_version": report.get("product_version"),
        "run": report["run"],
        "mode": mode.value,
        "started": report["started"],
        "finished": report["finished"],
        "database": report["engine"],
        "provider": report["provider"],
        "data_key": report["data_key"],
        "values": _values(report) if reads else None,
        "counted": "values" if reads else "references",
        "by_key": counted,
        "data_keys": {
            "left": len(keys),
            "unreadable": sum(entry["readable"] is False for entry in keys.values()),
            "wrapped_anew": 0 if anew is None else sum(anew["rewrapped"].values()),
            "removed": len(removed),
        },
        "data_keys_removed": sorted(_name(entry) for entry in removed),
        "kms_keys": [{name: entry[name] for name in ("kms_key", "safe_to_disable", "because")} for entry in report["kms_keys"]],
        "whole_database": None
        if report["scan"] is None
        else {
            "tables": report["scan"]["tables"],
            "rows": report["scan"]["rows"],
            "columns_in_no_list": len(unknown),
            "references_in_columns_in_no_list": sum(sum(place["data_keys"].values()) for place in unknown),
        },
        "does_not_say": list(_SAYS_NOT),
        "report_sha256": report_sha256,
    }
    facts["statement"] = _statement(mode, facts)
    return {**facts, "sha256": digest(facts)}


def refusal(report: Mapping[str, Any]) -> str | None:
    """Why this run gets no certificate; None where it gets one."""
    mode = mode_of(str(report.get("mode")))
    if mode is None or report.get("error") or report.get("outcome") != "succeeded":
        return "the run did not end with every value read and accounted for"
    if mode in _NONE_FOR:
        return _NONE_FOR[mode]
    if missing := _tables_left_out(report):
        return f"the run was confined to some tables and has left out {len(missing)}"
    if mode.steps.removes and not ((report.get("removed") or {}).get("finished") and report.get("scan")):
        return "the run did not look through the whole database"
    if mode.steps.reads_values and (not report.get("totals") or report["totals"].get("unreadable")):
        return "the run could not read every value"
    if mode.steps.reads_values and _under_old_keys(report):
        return "values are under an old key still"
    return None


def digest(facts: Mapping[str, Any]) -> str:
    """SHA-256 over the certificate without its own hash: JSON with sorted keys, no spaces, in ASCII."""
    rest = {name: value for name, value in facts.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def file_of(facts: Mapping[str, Any]) -> str:
    """certificate.json: in ASCII, so that no reader's locale matters."""
    return json.dumps(facts, indent=2) + "\n"


def report_file(report: Mapping[str, Any]) -> str:
    """report.json, whose bytes `report_sha256` is about; with escapes where a name of the database is no text that UTF-8 can hold."""
    try:
        text = json.dumps(report, indent=2, ensure_ascii=False)
        text.encode()
    except UnicodeEncodeError:
        text = json.dumps(report, indent=2)
    return text + "\n"


def _tables_left_out(report: Mapping[str, Any]) -> set[str]:
    return {column.table for column in secret_columns(*ALL_SYSTEMS)} - {column.get("table") for column in report.get("columns") or ()}


def _under_old_keys(report: Mapping[str, Any]) -> int:
    """What a run that writes has left, or what a verify has found, under another key than it should be."""
    left = report.get("left_under_old_keys") if Mode(report["mode"]).writes else report["totals"].get("re_encrypted")
    return int(left or 0)


def _census(report: Mapping[str, Any]) -> Mapping[str, int]:
    census = report["census"]
    counts: Mapping[str, int] = census["before"] if census["after"] is None else census["after"]
    return counts


def _values(report: Mapping[str, Any]) -> dict[str, int]:
    counts = _census(report)
    return {
        "read": sum(counts.values()),
        "under_an_old_key": _under_old_keys(report),
        "directly_under_secret_key": counts.get(SECRET_KEY, 0),
        "plaintext": report["totals"]["plaintext"],
        "unreadable": report["totals"]["unreadable"],
    }


def _by_key(keys: Mapping[str, Mapping[str, Any]], counts: Mapping[str, int]) -> list[dict[str, Any]]:
    """`counts`, by what protects them: keys of the same store, provider and KMS key are one line, since Grafana makes one a day."""
    values: Counter[tuple[str, str | None, str | None]] = Counter()
    number: Counter[tuple[str, str | None, str | None]] = Counter()
    for name, count in counts.items():
        entry = keys.get(name)
        if name == SECRET_KEY:
            line: tuple[str, str | None, str | None] = ("Grafana", None, None)
        elif entry is None:
            line = ("Grafana", "unknown", None)
        else:
            line = (key_words.store(entry["system"], entry["namespace"]), entry["provider"], entry["kms_key"])
        if count:
            values[line] += count
            number[line] += name != SECRET_KEY
    return [
        {"store": store, "provider": provider, "kms_key": kms_key, "data_keys": number[store, provider, kms_key], "count": count}
        for (store, provider, kms_key), count in sorted(values.items(), key=lambda item: tuple(map(str, item[0])))
    ]


def _by_name(entries: Iterable[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    return {_name(entry): entry for entry in entries}


def _name(entry: Mapping[str, Any]) -> str:
    """The data key as a census calls it."""
    return f"{entry['namespace']}/{entry['id']}" if entry.get("namespace") else str(entry["id"])


def _statement(mode: Mode, facts: Mapping[str, Any]) -> str:
    keys, whole = facts["data_keys"], facts["whole_database"]
    gone = f"{_keys(keys['removed'])} that nothing refers to {_were(keys['removed'])} removed, {keys['left']} left."
    if facts["values"] is None:
        return f"{whole['tables']} tables with {whole['rows']} rows were looked through for references to data keys. {gone}"
    values = facts["values"]
    read = f"{values['read']} encrypted values were read when the run ended."
    legacy = values["directly_under_secret_key"]
    directly = f" {legacy} of them {_were(legacy)} directly under secret_key, where Grafana reads nothing else." if legacy else ""
    old = f"{values['under_an_old_key']} of them were"
    manager = any(line["store"] != "Grafana" for line in facts["by_key"])
    provider = f"{facts['provider']}{' (in the secrets manager: of its own provider)' if manager else ''}"
    return {
        Mode.RE_ENCRYPT: f"{read} {old} under another key than an active data key of {provider}.{directly}",
        Mode.VERIFY: f"{read} {old} under another key than an active data key of {provider}.{directly}",
        Mode.ROTATE: f"{read} {old} under another data key than those that this run has made.{directly}",
        Mode.REWRAP_DATA_KEYS: f"{_keys(keys['wrapped_anew'])} {_were(keys['wrapped_anew'])} wrapped anew, and none is wrapped by another provider than the "
        f"run was asked for. {read}",
        Mode.ROTATE_SECRET_KEY: f"{read} {old} directly under the old secret_key. {_keys(keys['wrapped_anew'])} {_were(keys['wrapped_anew'])} wrapped anew.",
        Mode.ROLLBACK: f"{read} {old} in Grafana's own store and under a data key. {gone}",
    }[mode]


def _keys(number: int) -> str:
    return f"{number} data key{'' if number == 1 else 's'}"


def _were(number: int) -> str:
    return "was" if number == 1 else "were"
