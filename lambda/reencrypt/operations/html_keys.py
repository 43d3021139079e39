"""What report.html shows of keys: each data key and what became of it, the KMS keys that may go, the columns in no list, what was looked through.

Grafana makes a data key per day and provider. A page with a thousand of them shows those that a reader must see, and folds and counts the others.
Never fails for a missing key, as html_report promises.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from reencrypt.grafana.secret_columns import System
from reencrypt.operations import key_words, reasons

MOST_KEYS = 25  # in the table of data keys; the next ones are folded
MOST_LISTED = 10  # in the lists of what was removed, and of columns in no list
MOST_FOLDED = 1000  # and what is behind these stands in report.json alone
_MOST_NAMED = 5  # data keys, where one line names several

Row = Mapping[str, Any]
_KEY = ("id", "system", "namespace", "provider", "active", "label", "readable", "kms_key", "values")
_FAILED = ("id", "label", "system", "namespace", "reason", "why")
_KMS = ("kms_key", "safe_to_disable", "because")


def view(report: Row, census: tuple[Mapping[str, int], Mapping[str, int] | None]) -> dict[str, Any]:
    """What the template needs; `census` are the values by data key that stand beside each, before and after."""
    fates = _fates(report)
    keys = [
        dict.fromkeys(_KEY) | dict(key) | {
            "elsewhere": _elsewhere(key), "fate": fates.get(name_of(key)), "counts": _counts(key, census), "own": _is_own(key, report),
        }
        for key in sorted(_rows(report, "data_keys"), key=lambda key: _urgency(key, report, fates))
    ]  # fmt: skip
    unknown = [_unknown(place) for place in _rows(report, "unknown_ciphertext")]
    return {
        "data_keys": keys[:MOST_KEYS],
        "folded_keys": _folded(keys),
        "fates": any(key["fate"] for key in keys),
        "rewrapped": _rewrapped(report.get("rewrapped")),
        "removed": _removed(report.get("removed")),
        "kms_keys": [dict.fromkeys(_KMS) | {"providers": ()} | dict(row) for row in _rows(report, "kms_keys")],
        "unknown": unknown[:MOST_LISTED],
        "folded_unknown": unknown[MOST_LISTED : MOST_LISTED + MOST_FOLDED],
        "scan": {"tables": 0, "rows": 0} | dict(report["scan"]) if report.get("scan") else None,
    }


def by_name(report: Row) -> dict[str, Row]:
    """Every data key that the report speaks of, those that were removed as well, by its name in a census."""
    return {name_of(key): key for key in (*_rows(report.get("removed") or {}, "removed"), *_rows(report, "data_keys"))}


def name_of(key: Row) -> str:
    """A data key as a census calls it."""
    return f"{key['namespace']}/{key.get('id')}" if key.get("namespace") else str(key.get("id"))


def _urgency(key: Row, report: Row, fates: Mapping[str, str]) -> tuple[bool, bool, bool, int, str]:
    """What needs attention first: keys that cannot be read or were not done, the run's own, those in use, then by the number of values under them."""
    failed = fates.get(name_of(key), "").startswith(_NOT_WRAPPED)
    return key.get("readable") is not False and not failed, not _is_own(key, report), not key.get("active"), -(key.get("values") or 0), name_of(key)


def _is_own(key: Row, report: Row) -> bool:
    return report.get("data_key") is not None and key.get("id") == report.get("data_key")


_NOT_WRAPPED = "not wrapped anew"


def _fates(report: Row) -> dict[str, str]:
    """What the run could not do with a data key, by its name."""
    failed = {str(entry.get("name") or entry.get("id")): f"{_NOT_WRAPPED}: {entry.get('reason')}" for entry in _rows(report.get("rewrapped") or {}, "failed")}
    return {name_of(entry): f"kept: {entry.get('why')}" for entry in _rows(report.get("removed") or {}, "kept")} | failed


def _counts(key: Row, census: tuple[Mapping[str, int], Mapping[str, int] | None]) -> tuple[int, ...]:
    """The values under the key, before and after; one number where there is but one side, or (without a census) its references."""
    before, after = census
    if after is not None:
        return before.get(name_of(key), 0), after.get(name_of(key), 0)
    return (before.get(name_of(key), 0) if before else key.get("values") or 0,)


def _folded(keys: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    rest = keys[MOST_KEYS:]
    if not rest:
        return None
    return {
        "rows": rest[:MOST_FOLDED],
        "more": len(rest[MOST_FOLDED:]),
        "number": len(rest),
        "values": sum(key["counts"][-1] for key in rest),
        "active": sum(bool(key["active"]) for key in rest),
        "unreadable": sum(key["readable"] is False for key in rest),
    }


def _rewrapped(found: Row | None) -> dict[str, Any] | None:
    if not found:
        return None
    ways: Mapping[str, int] = found.get("rewrapped") or {}
    failed = [dict.fromkeys(_FAILED) | dict(entry) for entry in _rows(found, "failed")]
    for entry in failed:
        namespace = entry["namespace"] or str(entry.get("name") or "").rpartition("/")[0]
        entry |= {"elsewhere": _elsewhere(entry | {"namespace": namespace}), "own": False, "said": reasons.explain(str(entry["reason"]))}
    return {
        "number": sum(ways.values()),
        "ways": [(how, count, key_words.explain_way(how)) for how, count in ways.items() if count],
        "left": found.get("left") or 0,
        "under_other_providers": found.get("under_other_providers") or 0,
        "failed": failed[:MOST_FOLDED],
        "failed_more": len(failed[MOST_FOLDED:]),
        "failures": len(failed),
    }


def _removed(found: Row | None) -> dict[str, Any] | None:
    if not found:
        return None
    gone = [dict.fromkeys(_KEY) | dict(entry) | {"elsewhere": _elsewhere(entry), "own": False} for entry in _rows(found, "removed")]
    kept: dict[str, list[str]] = {}
    for entry in _rows(found, "kept"):
        kept.setdefault(str(entry.get("why")), []).append(name_of(entry))
    return {
        "rows": gone[:MOST_LISTED],
        "folded": gone[MOST_LISTED : MOST_LISTED + MOST_FOLDED],
        "more": len(gone[MOST_LISTED + MOST_FOLDED :]),
        "number": len(gone),
        "kept": [(why, len(names), key_words.explain_kept(why), *_named(names)) for why, names in sorted(kept.items())],
        "kept_number": sum(map(len, kept.values())),
        "disposed": found.get("disposed") or 0,
        "finished": found.get("finished", True),
    }


def _unknown(place: Row) -> dict[str, Any]:
    keys = Counter({str(key): int(count) for key, count in (place.get("data_keys") or {}).items()})
    names, more = _named([key for key, _ in keys.most_common()])
    return {"table": place.get("table"), "column": place.get("column"), "number": keys.total(), "names": names, "more": more}


def _named(names: Sequence[str]) -> tuple[list[str], int]:
    """The first of `names`, and how many more there are."""
    return list(names[:_MOST_NAMED]), max(len(names) - _MOST_NAMED, 0)


def _elsewhere(key: Row) -> str | None:
    """The store of a key that is not in Grafana's own."""
    return key_words.store(key["system"], key.get("namespace")) if key.get("system") not in (None, System.GRAFANA.value) else None


def _rows(report: Row, name: str) -> list[Row]:
    return list(report.get(name) or [])
