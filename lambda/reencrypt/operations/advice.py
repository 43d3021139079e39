"""The sentences of a report: what happened, in one line, and what to do next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reencrypt.grafana.key_ring import SECRET_KEY
from reencrypt.operations.outcomes import Outcome
from reencrypt.operations.run_input import Mode, RunInput

# By exception class; what stands in the message itself is not repeated.
_AFTER_FAILURE = {
    "InvalidInput": "Correct the input and start again; the message names what is allowed.",
    "InvalidIni": "Correct grafana.ini at the line that the message names; Grafana itself would not start with it either.",
    "ConfigurationError": "Correct the setting that the message names and start again.",
    "DatabaseUnavailable": "Check that the database runs and that the workers can reach it (subnets, security groups, [database] host), then start again.",
    "DatabaseBusy": "Another session held locks for long: look for long transactions on the database, then start again.",
    "DataKeyUnwrapFailed": "See docs/security.md on encryption contexts; the key of the message cannot be used as it is configured.",
    "KeyAccessDenied": "Allow the action in the key's policy or in the role that the message names, then start again.",
    "KeyUnusable": "Enable the KMS key, or cancel its deletion, then start again.",
    "ProviderThrottled": "KMS was throttling or out of reach: start again, with a smaller maxConcurrency if it happens twice.",
    "WrongSecretKey": "Nothing was written. Configure the secret_key that the running Grafana uses.",
    "ProviderNotReady": "Nothing was written. Make sure that Grafana has the provider before its values go under it.",
    "IncompleteRun": "Start the run again: what is already current stays, the rest is done.",
    "LeaseHeld": "Wait for the other run to end, or stop it in the Step Functions console.",
}
_AGAIN = "Start again with the same input: a run that was interrupted is finished by the next one. If it fails again, see the worker's log."


def headline(report: Mapping[str, Any]) -> str:
    """The first line: outcome, counts, and what stands against it."""
    if report["error"]:
        return f"failed: {report['error']['message']}"
    totals = report["totals"]
    values = totals["values"] - totals[Outcome.EMPTY]
    if not values:
        return "nothing-found: not a single secret in this database; is it the right one?"
    if report["mode"] == Mode.RE_ENCRYPT:
        counts = f"{_many(totals[Outcome.RE_ENCRYPTED])} re-encrypted under {report['provider']}, {_many(totals[Outcome.ALREADY_CURRENT])} already current"
    else:
        current, old = totals[Outcome.ALREADY_CURRENT], totals[Outcome.RE_ENCRYPTED]
        counts = f"{_many(current)} current under {report['provider']}, {_many(old)} under an old key"
    if totals[Outcome.CHANGED_BY_GRAFANA]:
        counts += f", {_many(totals[Outcome.CHANGED_BY_GRAFANA])} changed by Grafana meanwhile"
    return f"{report['outcome']}: {_many(values)} values: {counts}, {_many(len(report['unreadable']))} unreadable"


def notes(request: RunInput, totals: Mapping[str, int], verified: Mapping[str, int] | None, before: Mapping[str, int]) -> list[str]:
    """What a reader of the counts should know."""
    found = []
    if verified is not None and verified[Outcome.RE_ENCRYPTED]:
        found.append(
            f"under an old key after the run: {_many(verified[Outcome.RE_ENCRYPTED])}; Grafana wrote them while it went on. Run it again once "
            "Grafana's data key caches have expired (data_keys_cache_ttl, 15 minutes unless configured)"
        )
    if totals[Outcome.PLAINTEXT]:
        found.append(
            f"plaintext where a payload belongs, left alone and listed by place: {_many(totals[Outcome.PLAINTEXT])}"
        )
    if before.get(SECRET_KEY):
        found.append(
            f"encrypted directly under secret_key, without a data key, when the run began: {_many(before[SECRET_KEY])} "
            "(those of alert_notification stay so: its reader knows no data keys)"
        )
    if request.tables:
        found.append(f"only these tables were looked at: {', '.join(request.tables)}")
    return found


def next_input(request: RunInput, totals: Mapping[str, int]) -> dict[str, Any] | None:
    """The input of the run that should follow, or None."""
    if request.mode is Mode.RE_ENCRYPT:
        return request.model_copy(update={"mode": Mode.VERIFY, "force": False, "provider_ready": False}).as_input()
    if totals[Outcome.RE_ENCRYPTED]:
        return request.model_copy(update={"mode": Mode.RE_ENCRYPT}).as_input()
    return None


def next_steps(report: Mapping[str, Any], provider_ready: bool) -> list[str]:
    """What a person should do now, most urgent first."""
    steps = []
    if report["unreadable"]:
        steps.append(
            "Look at each unreadable value below: its reason says what to do. Enter the secret anew in Grafana where it cannot be recovered."
        )
    if report["outcome"] == "nothing-found":
        steps.append("Check [database] in the configuration: it may name another database than the running Grafana's.")
    if report["mode"] != Mode.RE_ENCRYPT and report["totals"][Outcome.RE_ENCRYPTED]:
        if not provider_ready:
            steps.append(
                f'Make sure that the running Grafana has the provider {report["provider"]}; then add "providerReady": true to the input below.'
            )
        steps.append("Take a backup of the database, then start the run below.")
        if report["estimate"]:
            took, dollars = report["estimate"]["seconds"], report["estimate"]["cost_usd"]
            steps.append(f"Its workers will be busy for about {took:.0f} s (start-up not counted), for about USD {max(dollars, 0.001):.3f}.")
    if report["mode"] == Mode.RE_ENCRYPT:
        steps.append(
            "Keep the old keys: a running Grafana may still write under them, and its caches hold them for 15 minutes. Start the run below to verify."
        )
    return steps


def failure_steps(error: str) -> list[str]:
    """What to do after the exception class `error`."""
    return [_AFTER_FAILURE.get(error, _AGAIN)]


def _many(number: int) -> str:
    return f"{number:,}".replace(",", " ")
