"""What a report says about data keys, in plain words: why one was kept, how one was wrapped anew, which store it belongs to.

report.html and docs/report.md are made from these tables. A new `Kept`, `How` or `System` is a new row here (a test insists).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from reencrypt.grafana.secret_columns import System
from reencrypt.operations.reasons import Explanation
from reencrypt.operations.removable import Kept
from reencrypt.providers.rewrap import How

KEPT: Mapping[Kept, Explanation] = MappingProxyType(
    {
        Kept.REFERENCED: Explanation(
            "Values still name it, in columns that this product knows.",
            "Nothing, if it is the key of today. Else move its values with re-encrypt, then prune again; a verify lists those that cannot be moved.",
        ),
        Kept.REFERENCED_BY_UNKNOWN: Explanation(
            "A column that is in no list of secret columns names it.",
            "See “Columns in no list” in the report: declare them in the deployment settings, run re-encrypt, then prune again.",
        ),
        Kept.IN_USE: Explanation(
            "It is active, and Grafana may write under it today.",
            "Nothing. If it is to go as well, run rotate, then prune again.",
        ),
        Kept.TOO_YOUNG: Explanation(
            "It was made while the run went on, or so shortly before that a Grafana may be about to write under it.",
            "Prune again later.",
        ),
        Kept.CACHE_TTL_NOT_OVER: Explanation(
            "It was deactivated so lately that a Grafana may still have it in its cache and write under it.",
            "Prune again, without a settleSeconds that is too short.",
        ),
        Kept.CHANGED: Explanation(
            "Its row was changed or deleted while the run was at it.",
            "Prune again.",
        ),
    }
)

WAYS: Mapping[How, Explanation] = MappingProxyType(
    {
        How.RE_ENCRYPT: Explanation("By KMS itself, from one key to the other (kms:ReEncrypt). The data key never left KMS.", ""),
        How.UNWRAP_AND_WRAP: Explanation("Unwrapped and wrapped again by the worker, which had the data key in its memory for that moment.", ""),
    }
)

STORES: Mapping[System, str] = MappingProxyType({System.GRAFANA: "Grafana", System.MANAGER: "secrets manager"})


def explain_kept(why: str) -> Explanation:
    """Why a data key was kept; a word that this version does not know is said to be one."""
    return KEPT[Kept(why)] if why in list(Kept) else Explanation("This version of the report does not know this word.", "")


def explain_way(how: str) -> Explanation:
    """How a data key was wrapped anew."""
    return WAYS[How(how)] if how in list(How) else Explanation("This version of the report does not know this word.", "")


def store(system: object, namespace: object) -> str:
    """Which store a data key belongs to: `Grafana`, or `secrets manager, namespace default`."""
    name = STORES[System(str(system))] if str(system) in list(System) else str(system or STORES[System.GRAFANA])
    return f"{name}, namespace {namespace}" if namespace else name
