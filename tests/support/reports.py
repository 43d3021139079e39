"""Reports as a run makes them, for tests of what people see: one for each outcome and each picture worth looking at."""

from __future__ import annotations

from typing import Any

from reencrypt.grafana.secret_columns import ALL_SYSTEMS, secret_columns

OUTCOMES = ("re_encrypted", "already_current", "empty", "changed_by_grafana", "plaintext", "unreadable")
PROVIDER = "awskms.example-encryption-key"

# (table, column, rows, the six outcomes of its values); None: absent.
_COLUMNS: tuple[tuple[str, str, int, tuple[int, ...] | None], ...] = (
    ("dashboard_snapshot", "dashboard_encrypted", 41, (38, 0, 3, 0, 0, 0)),
    ("user_auth", "o_auth_access_token", 612, (0, 0, 612, 0, 0, 0)),
    ("user_auth", "o_auth_refresh_token", 612, (598, 0, 12, 2, 0, 0)),
    ("user_auth", "o_auth_token_type", 612, (610, 0, 0, 2, 0, 0)),
    ("user_auth", "o_auth_id_token", 612, (0, 0, 612, 0, 0, 0)),
    ("secrets", "value", 87, (80, 7, 0, 0, 0, 0)),
    ("data_source", "secure_json_data", 84, (131, 12, 9, 0, 0, 1)),
    ("plugin_setting", "secure_json_data", 9, (11, 0, 2, 0, 0, 0)),
    ("signing_key", "private_key", 2, (2, 0, 0, 0, 0, 0)),
    ("alert_configuration", "alertmanager_configuration", 6, (23, 0, 1, 0, 1, 0)),
    ("alert_configuration_history", "alertmanager_configuration", 600, (12_804, 0, 91, 0, 0, 0)),
    ("sso_setting", "settings", 3, (5, 0, 2, 0, 1, 0)),
    ("user_external_session", "access_token", 2310, (2301, 0, 0, 0, 0, 9)),
    ("user_external_session", "id_token", 2310, (2295, 0, 15, 0, 0, 0)),
    ("user_external_session", "refresh_token", 2310, (2310, 0, 0, 0, 0, 0)),
    ("user_external_session", "session_id", 2310, (0, 0, 2310, 0, 0, 0)),
    ("user_external_session", "name_id", 2310, (0, 0, 2310, 0, 0, 0)),
    ("cloud_migration_session", "auth_token", 0, (0, 0, 0, 0, 0, 0)),
    ("alert_notification", "secure_settings", 0, None),
    ("resource", "value", 0, None),
)


def minimal() -> dict[str, Any]:
    """What a run that failed before it knew anything can say."""
    return {"run": "r", "mode": "plan", "outcome": "failed"}


def sample(mode: str = "re-encrypt", outcome: str = "succeeded-with-unreadable") -> dict[str, Any]:
    """The report of a run over a well-used Grafana: 20 columns, unreadable and plaintext values, four kinds of keys."""
    writes = mode == "re-encrypt"
    columns = [_column(*declared) for declared in _COLUMNS]
    totals = {name: sum(column[name] for column in columns) for name in ("rows", "values", *OUTCOMES)}
    encrypted = totals["re_encrypted"] + totals["already_current"]
    before = {
        "secret_key": 3_310, "eejw1hkc5vtvke": 11_200, "dfg5b0mreqohdsa": encrypted - 3_310 - 11_200 - 19 - 240, "cde9rekyadzpcda": 240,
        "fhk2m8wq41zt6b": 19, "aaaagone00000a": 9,
    }  # fmt: skip
    after = {"fhk2m8wq41zt6b": encrypted, "aaaagone00000a": 9} if writes else None
    unreadable = [
        _place("data_source", "secure_json_data", 12, ["basicAuthPassword"]) | {"reason": "implausible-plaintext"},
        *(_place("user_external_session", "access_token", 400 + n, None) | {"reason": "unknown-data-key"} for n in range(9)),
    ]
    left = f"{totals['unreadable']} unreadable"
    words = f"{encrypted} values under {PROVIDER}, {left}" if writes else f"{totals['re_encrypted']} values would be re-encrypted, {left}"
    return {
        "run": "2026-11-24T22-10-05Z-6f1c", "mode": mode, "outcome": outcome, "engine": "MySQL 8.0.36", "provider": PROVIDER,
        "started": "2026-11-24T22:10:05.120Z", "finished": "2026-11-24T22:10:46Z", "seconds": 41.2, "values_per_second": 612.4,
        "estimated_cost_usd": 0.0021, "headline": f"{outcome}: {words}", "columns": columns, "totals": totals,
        "data_keys": [
            _key("eejw1hkc5vtvke", "secretKey.v1", True, "2026-11-24/root@secretKey.v1", before, after),
            _key("dfg5b0mreqohdsa", "secretKey.v1", False, "2026-03-02/root@secretKey.v1", before, after),
            _key("cde9rekyadzpcda", "awskms.retired-key", False, "2025-01-19/root@awskms.retired-key", before, after, readable=False),
            _key("fhk2m8wq41zt6b", PROVIDER, True, f"2026-11-24/root@{PROVIDER}", before, after),
        ],
        "census": {"before": before, "after": after}, "unreadable": unreadable,
        "plaintext_values": [
            _place("alert_configuration", "alertmanager_configuration", 3, ["extra_config", 0, "alertmanager_config"]),
            _place("sso_setting", "settings", "0b5e1c1e-8f6a-4e0e-9c57-1c9d6a4f2f10", ["tls_client_certificate"]),
        ],
        "notes": ["alert_notification and resource are not in this database: this Grafana is older than 12.0 or newer than 11.0."],
        "next_steps": [
            "Restore the data key aaaagone00000a from a backup of data_keys, or let the 9 users of those sessions sign in again.",
            "Enter the password of data source 12 again in Grafana.",
            "Start a re-encrypt run with the input below." if not writes else "Start a verify run with the input below.",
        ],
        "next_input": {"mode": "verify" if writes else "re-encrypt", "provider": PROVIDER, "onUnreadable": "report"},
        "error": None, "data_key": "fhk2m8wq41zt6b" if writes else None,
    }  # fmt: skip


def clean() -> dict[str, Any]:
    """A run with nothing to complain about."""
    report = sample(outcome="succeeded")
    for column in report["columns"]:
        for bad in ("unreadable", "plaintext"):
            column["values"] -= column[bad]
            column[bad] = 0
    report["totals"] = {name: sum(column[name] for column in report["columns"]) for name in ("rows", "values", *OUTCOMES)}
    for side in report["census"].values():
        del side["aaaagone00000a"]
    moved = report["totals"]["re_encrypted"] + report["totals"]["already_current"]
    return report | {
        "headline": f"succeeded: {moved} values under {PROVIDER}, 0 under an old key, 0 unreadable",
        "unreadable": [], "plaintext_values": [], "notes": [],
        "next_steps": ["Start a verify run whenever you want proof."], "next_input": {"mode": "verify"},
    }  # fmt: skip


OLD_KMS_KEY = "arn:aws:kms:eu-north-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
NEW_KMS_KEY = "arn:aws:kms:eu-north-1:444455556666:key/9999abcd-12ab-34cd-56ef-1234567890ab"


def whole(mode: str) -> dict[str, Any]:
    """A run of `mode` that ended well, went through everything, and has the facts about keys that go with it."""
    report = clean()
    known = {(column["table"], column["column"]) for column in report["columns"]}
    others = {(column.table, column.column) for column in secret_columns(*ALL_SYSTEMS)} - known
    report["columns"] += [_column(table, column, 0, None) for table, column in sorted(others)]
    reads, writes, removes = mode != "prune-data-keys", mode not in ("plan", "verify"), mode in ("rollback", "prune-data-keys")
    census = report["census"]["after"] | {"default/mk1": 2}
    keys = [
        listed("fhk2m8wq41zt6b", PROVIDER, census["fhk2m8wq41zt6b"], kms_key=NEW_KMS_KEY),
        listed("eejw1hkc5vtvke", "secretKey.v1", 0),
        listed("mk1", "secret_key.v1", 2, namespace="default"),
    ]
    gone = [listed(key, "awskms.retired-key", 0, active=False, kms_key=OLD_KMS_KEY) | {"references": 0, "why": None} for key in ("gone2", "gone1")]
    kept = [keys[0] | {"references": census["fhk2m8wq41zt6b"], "why": "referenced"}, keys[1] | {"references": 0, "why": "in-use"}]
    zeros = dict.fromkeys(("rows", "values", *OUTCOMES), 0)
    return report | {
        "mode": mode, "headline": "succeeded: as it should be", "data_keys": keys, "left_under_old_keys": 0 if writes else None,
        "census": {"before": census if reads else {}, "after": census if writes and reads else None},
        "columns": report["columns"] if reads else [column | zeros for column in report["columns"]],
        "totals": (report["totals"] if writes else _as_current(report["totals"])) if reads else zeros,
        "rewrapped": {"rewrapped": {"kms:ReEncrypt": 2, "unwrap and wrap": 1}, "left": 1, "failed": [], "under_other_providers": 0}
        if mode in ("rewrap-data-keys", "rotate-secret-key") else None,
        "removed": {"removed": gone, "kept": kept, "disposed": 4, "finished": True} if removes else None,
        "kms_keys": [
            {"kms_key": OLD_KMS_KEY, "providers": ["awskms.retired-key"], "data_keys": 0, "values": 0, "safe_to_disable": True, "because": "nothing needs it"},
            {"kms_key": NEW_KMS_KEY, "providers": [PROVIDER], "data_keys": 1, "values": 9, "safe_to_disable": False, "because": "Grafana wraps with it"},
        ],
        "unknown_ciphertext": [{"table": "setting", "column": "value", "data_keys": {"eejw1hkc5vtvke": 3, "secret_key": 1}}] if removes else [],
        "scan": {"tables": 82, "rows": 1875, "references": {"fhk2m8wq41zt6b": 5}} if removes else None,
        "restored_run": "run-1" if mode == "restore" else None,
    }  # fmt: skip


def with_many_keys(number: int) -> dict[str, Any]:
    """A prune of a database with `number` data keys that were kept, as many that were removed, and a hundred columns in no list."""
    report = whole("prune-data-keys")
    keys = [listed(f"k{n:06}", "secretKey.v1", n % 9, active=n % 50 == 0, readable=n % 300 != 5) for n in range(number)]
    gone = [listed(f"g{n:06}", "secretKey.v1", 0, active=False) | {"references": 0, "why": None} for n in range(number)]
    kept = [key | {"references": key["values"], "why": "referenced"} for key in keys]
    return report | {
        "data_keys": keys, "removed": {"removed": gone, "kept": kept, "disposed": 0, "finished": True},
        "unknown_ciphertext": [{"table": f"plugin_{n:03}", "column": "blob", "data_keys": {f"k{m:06}": 2 for m in range(n, n + 8)}} for n in range(100)],
        "notes": [f"note {n}" for n in range(100)],
    }  # fmt: skip


def not_wrapped_anew() -> dict[str, Any]:
    """A re-wrap that could not do two data keys of one id, in either store."""
    why = f"awskms.retired-key: KMS says AccessDenied for kms:Decrypt on {OLD_KMS_KEY}"
    failed_keys = [
        {"id": "twin", "name": "twin", "system": "grafana", "reason": "provider-unavailable", "why": why},
        {"id": "twin", "name": "stack-1/twin", "system": "secrets_manager", "reason": "ambiguous-key", "why": "nothing tells"},
    ]
    report = whole("rewrap-data-keys")
    return report | {
        "outcome": "failed", "headline": "failed: 2 COULD NOT BE WRAPPED ANEW",
        "data_keys": [*report["data_keys"], listed("twin", "awskms.retired-key", 7), listed("twin", "secret_key.v1", 8, namespace="stack-1")],
        "rewrapped": {"rewrapped": {"kms:ReEncrypt": 2}, "left": 0, "failed": failed_keys, "under_other_providers": 2},
    }  # fmt: skip


def listed(
    key: str, provider: str, values: int, *, active: bool = True, readable: bool = True, namespace: str | None = None, kms_key: str | None = None
) -> dict[str, Any]:
    """A data key as a run lists it; with a namespace it belongs to the secrets manager."""
    return {
        "id": key, "system": "secrets_manager" if namespace else "grafana", "namespace": namespace, "provider": provider, "active": active,
        "label": f"2026-11-24/root@{provider}", "readable": readable, "kms_key": kms_key, "values": values,
    }  # fmt: skip


def _as_current(totals: dict[str, int]) -> dict[str, int]:
    return totals | {"re_encrypted": 0, "already_current": totals["re_encrypted"] + totals["already_current"]}


def failed() -> dict[str, Any]:
    """A run that KMS stopped before anything was read."""
    return minimal() | {
        "run": "2026-11-24T22-10-05Z-6f1c", "mode": "re-encrypt", "engine": "PostgreSQL 16.4", "provider": PROVIDER,
        "started": "2026-11-24T22:10:05Z", "finished": "2026-11-24T22:10:09Z", "seconds": 4.2,
        "headline": "failed: KMS denies kms:Encrypt on the key of " + PROVIDER + "; nothing was written",
        "error": {
            "name": "KeyAccessDenied",
            "message": f"data keys cannot be wrapped by {PROVIDER}: KMS says AccessDenied for kms:Encrypt on "
            "arn:aws:kms:eu-north-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab; "
            "allow the role grafana-reencrypt-WorkerRole that action in the key's policy.",
        },
        "next_steps": [
            "Allow kms:Encrypt and kms:Decrypt for the worker's role in the key's policy.", "Start the run again with the input below.",
        ],
        "next_input": {"mode": "re-encrypt"},
    }  # fmt: skip


def _column(table: str, column: str, rows: int, counts: tuple[int, ...] | None) -> dict[str, Any]:
    filled = counts or (0,) * len(OUTCOMES)
    outcomes = dict(zip(OUTCOMES, filled, strict=True))
    return {"table": table, "column": column, "present": counts is not None, "rows": rows, "values": sum(filled)} | outcomes


def _place(table: str, column: str, row: int | str, path: list[str | int] | None) -> dict[str, Any]:
    return {"table": table, "column": column, "primary_key": {"id": row}, "path": path}


def _key(key: str, provider: str, active: bool, label: str, before: dict[str, int], after: dict[str, int] | None, readable: bool = True) -> dict[str, Any]:
    values = (before if after is None else after).get(key, 0)
    return {"id": key, "provider": provider, "active": active, "label": label, "readable": readable, "values": values}
