"""The sentences of a report: what happened, in one line, and what to do next."""

from __future__ import annotations

from collections import Counter
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
    "TooManyUnreadable": "Look at the reasons of the unreadable values below: so many at once mean a missing key or a wrong setting more often than damage.",
    "UnknownCiphertext": "Nothing was written. Declare the columns that the message names, or re-encrypt what they hold another way, then start again.",
    "IncompleteRun": "Start the run again: what is already current stays, the rest is done.",
    "LeaseHeld": "Wait for the other run to end, or stop it in the Step Functions console.",
}
_SHOWN = 5
_AGAIN = "Start again with the same input: a run that was interrupted is finished by the next one. If it fails again, see the worker's log."


def headline(report: Mapping[str, Any]) -> str:
    """The first line: outcome, counts, and what stands against it."""
    if report["error"]:
        return f"failed: {report['error']['message']}"
    totals = report["totals"]
    values = totals["values"] - totals[Outcome.EMPTY]
    if report["mode"] == Mode.PRUNE_DATA_KEYS:
        return f"{report['outcome']}: {_keys_line(report)}"
    if not values:
        return "nothing-found: not a single secret in this database; is it the right one?"
    if report["mode"] == Mode.RESTORE:
        counts = (
            f"{_many(totals[Outcome.RE_ENCRYPTED])} put back as they were before {report['restored_run']}, "
            f"{_many(totals[Outcome.ALREADY_CURRENT])} stood so already"
        )
        if totals[Outcome.CHANGED_BY_GRAFANA]:
            counts += f", {_many(totals[Outcome.CHANGED_BY_GRAFANA])} left alone since Grafana has written or deleted them"
        return f"{report['outcome']}: {_many(values)} values: {counts}, {_many(len(report['unreadable']))} unreadable"
    current, old = totals[Outcome.ALREADY_CURRENT], totals[Outcome.RE_ENCRYPTED]
    if report["mode"] in (Mode.RE_ENCRYPT, Mode.ROTATE):
        anew = " with a new data key" if report["mode"] == Mode.ROTATE else ""
        counts = f"{_many(old)} re-encrypted under {report['provider']}{anew}, {_many(current)} already current"
    elif report["mode"] == Mode.ROLLBACK:
        counts = f"{_many(old)} brought back directly under secret_key, {_many(current)} there already"
    elif report["mode"] == Mode.ROTATE_SECRET_KEY:
        counts = f"{_many(old)} directly under secret_key re-encrypted under the new one, {_many(current)} that need no change"
    elif report["mode"] == Mode.REWRAP_DATA_KEYS:
        counts = f"{_many(current)} read"
    else:
        counts = f"{_many(current)} current under {report['provider']}, {_many(old)} under an old key"
    if totals[Outcome.CHANGED_BY_GRAFANA]:
        counts += f", {_many(totals[Outcome.CHANGED_BY_GRAFANA])} changed by Grafana meanwhile"
    if report["sweeps"]:
        counts += f", {_many(sum(entry['moved'] for entry in report['sweeps']))} brought along by {_sweeps(len(report['sweeps']))}"
    if report["left_under_old_keys"]:
        counts += f", {_many(report['left_under_old_keys'])} STILL UNDER AN OLD KEY"
    line = _keys_line(report)
    return f"{report['outcome']}: {_many(values)} values: {counts}, {_many(len(report['unreadable']))} unreadable{f'; {line}' if line else ''}"


def _keys_line(report: Mapping[str, Any]) -> str:
    """What became of the data keys, in a few words; empty where nothing did."""
    parts = []
    if anew := report["rewrapped"]:
        parts.append(f"{_keys(sum(anew['rewrapped'].values()))} wrapped anew")
        if anew["left"]:
            parts.append(f"{_many(anew['left'])} that needed no change")
        if anew["failed"]:
            parts.append(f"{_many(len(anew['failed']))} COULD NOT BE WRAPPED ANEW")
        if anew["under_other_providers"]:
            parts.append(f"{_many(anew['under_other_providers'])} STILL UNDER ANOTHER PROVIDER")
    if gone := report["removed"]:
        kept = Counter(entry["why"] for entry in gone["kept"])
        why = f" ({', '.join(f'{_many(count)} {word}' for word, count in sorted(kept.items()))})" if kept else ""
        parts.append(f"{_keys(len(gone['removed']))} removed, {_many(len(gone['kept']))} kept{why}")
    return ", ".join(parts)


def key_notes(report: Mapping[str, Any]) -> list[str]:
    """What a reader should know about the keys."""
    found = []
    if places := report["unknown_ciphertext"]:
        named = ", ".join(f"{place['table']}.{place['column']}" for place in places[:_SHOWN])
        if len(places) > _SHOWN:
            named += f" and {len(places) - _SHOWN} more"
        found.append(
            f"in no list of secret columns, but with what looks like Grafana's payloads: {named}. No run re-encrypts them, and the data keys that they name "
            "stay needed. Declare them in the deployment's settings (docs/unknown-ciphertext.md)"
        )
    if (anew := report["rewrapped"]) and (failed := anew["failed"]):
        found += [f"data key {entry['id']} was not wrapped anew ({entry['reason']}): {entry['why']}" for entry in failed[:_SHOWN]]
        if len(failed) > _SHOWN:
            found.append(f"nor were {_many(len(failed) - _SHOWN)} more data keys, listed below")
    if report["mode"] == Mode.ROTATE_SECRET_KEY:
        found.append(
            "secret_key also signs sessions, OAuth states and the codes of e-mails: when Grafana starts with the new one, everybody is logged out and "
            "such codes are void. A Grafana that runs with the old one cannot read what this run has written: start it with the new one now"
        )
    return found


def notes(request: RunInput, totals: Mapping[str, int], left: int, facts: Mapping[str, Any], before: Mapping[str, int]) -> list[str]:
    """What a reader of the counts should know. `left` are values under an old key at the end of a run that encrypts."""
    found = []
    if left and facts["settle_seconds"]:
        found.append(
            f"under an old key after the run and its sweeps: {_many(left)}; Grafana still writes under an old key, or puts old values back. Restart "
            "every replica that may run with an older configuration, then run again"
        )
    elif left:
        found.append(
            f"under an old key after the run: {_many(left)}; Grafana wrote them while it went on, and settleSeconds 0 (Grafana is stopped) "
            "leaves the sweep out. Run again without settleSeconds"
        )
    if request.mode.writes and not facts["journal"]:
        found.append("there is no undo journal of this run (journal_days = 0): only a backup brings the old values back")
    if totals[Outcome.PLAINTEXT]:
        found.append(f"plaintext where a payload belongs, left alone and listed by place: {_many(totals[Outcome.PLAINTEXT])}")
    if before.get(SECRET_KEY) and request.mode not in (Mode.ROLLBACK, Mode.ROTATE_SECRET_KEY):
        found.append(
            f"encrypted directly under secret_key, without a data key, when the run began: {_many(before[SECRET_KEY])} "
            "(those of alert_notification stay so: its reader knows no data keys)"
        )
    if request.tables:
        found.append(f"only these tables were looked at: {', '.join(request.tables)}")
    return found


def next_input(request: RunInput, totals: Mapping[str, int], left: int, keys_left: int = 0) -> dict[str, Any] | None:
    """The input of the run that should follow, or None. `keys_left` data keys could not be wrapped anew."""
    if keys_left or (request.mode is Mode.ROTATE_SECRET_KEY and left):
        return request.as_input()
    if request.mode in (Mode.RE_ENCRYPT, Mode.ROTATE) and left:
        return request.model_copy(update={"mode": Mode.RE_ENCRYPT, "settle_seconds": None, "force": False}).as_input()
    if request.mode is Mode.ROLLBACK:
        return request.as_input() if left else None
    if request.mode is Mode.PRUNE_DATA_KEYS:
        return {"mode": Mode.VERIFY.value}
    if request.mode.writes:
        only_writing = {"force": False, "provider_ready": False, "run": None, "settle_seconds": None}
        return request.model_copy(update={"mode": Mode.VERIFY, **only_writing}).as_input()
    if totals[Outcome.RE_ENCRYPTED]:
        return request.model_copy(update={"mode": Mode.RE_ENCRYPT}).as_input()
    return None


def next_steps(report: Mapping[str, Any], provider_ready: bool) -> list[str]:
    """What a person should do now, most urgent first."""
    steps = []
    if report["unreadable"]:
        steps.append("Look at each unreadable value below: its reason says what to do. Enter the secret anew in Grafana where it cannot be recovered.")
    if report["outcome"] == "nothing-found":
        steps.append("Check [database] in the configuration: it may name another database than the running Grafana's.")
    if report["mode"] in (Mode.PLAN, Mode.VERIFY) and report["totals"][Outcome.RE_ENCRYPTED]:
        if report["next_input"] is not None:
            if not provider_ready:
                steps.append(f'Make sure that the running Grafana has the provider {report["provider"]}; then add "providerReady": true to the input below.')
            steps.append("Take a backup of the database, then start the run below.")
        if report["estimate"]:
            took, dollars = report["estimate"]["seconds"], report["estimate"]["cost_usd"]
            steps.append(f"Its workers will be busy for about {took:.0f} s (start-up not counted), for about USD {max(dollars, 0.001):.3f}.")
    if report["mode"] in (Mode.RE_ENCRYPT, Mode.ROTATE):
        steps.append(
            "Keep the old keys until a run has pruned them: Grafana's caches and histories may still bring them back. Start the run below to "
            f"{'bring the rest along' if report['left_under_old_keys'] else 'verify'}."
        )
        if report["undo_journal"] and report["totals"][Outcome.RE_ENCRYPTED]:
            steps.append(f'To undo this run, start {{"mode": "restore", "run": "{report["run"]}"}} while its journal is kept.')
    if report["mode"] in (Mode.REWRAP_DATA_KEYS, Mode.ROTATE_SECRET_KEY) and _keys_left(report):
        steps.append("Look at each data key that could not be wrapped anew: its reason says what to do. Keep the old keys, and start the run below again.")
    elif report["mode"] == Mode.REWRAP_DATA_KEYS:
        steps.append(
            "The values name the same data keys as before, so nothing else has to be done in Grafana. See below which KMS keys are not needed any more; "
            "the undo journal and your backups still hold data keys as the old ones wrapped them."
        )
    elif report["mode"] == Mode.ROTATE_SECRET_KEY:
        steps.append("Start every replica of Grafana with the new secret_key now, then remove old_secret_key from this configuration.")
    if report["mode"] == Mode.ROLLBACK:
        steps.append(
            "Start the run below again once Grafana is stopped: it writes under data keys as long as it runs."
            if report["left_under_old_keys"]
            else "Nothing in the secret columns needs a KMS key any more. Remove the provider from Grafana's configuration before you start it."
        )
    if report["mode"] == Mode.PRUNE_DATA_KEYS:
        steps.append(
            "Data keys that were kept are listed below with the reason; run re-encrypt for values under old ones, then prune again. "
            "See below which KMS keys are not needed any more."
        )
    if report["mode"] == Mode.RESTORE:
        steps.append(
            "Values that Grafana has written since were left alone; they stay under the key that Grafana wrote them under, so keep that key. "
            "Start the run below to see where every value stands."
        )
    return steps


def failure_steps(error: str) -> list[str]:
    """What to do after the exception class `error`."""
    return [_AFTER_FAILURE.get(error, _AGAIN)]


def _sweeps(number: int) -> str:
    return "a sweep" if number == 1 else f"{number} sweeps"


def _keys_left(report: Mapping[str, Any]) -> int:
    anew = report["rewrapped"]
    return 0 if anew is None else len(anew["failed"]) + anew["under_other_providers"]


def _keys(number: int) -> str:
    return "a data key" if number == 1 else f"{_many(number)} data keys"


def _many(number: int) -> str:
    return f"{number:,}".replace(",", " ")
