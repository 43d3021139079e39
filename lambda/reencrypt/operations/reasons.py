"""What the words of a report mean and what to do about them: every reason, every outcome of a run, every outcome of a value.

report.html and docs/report.md are made from these tables. A new `Reason` is a new row here (a test insists).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from reencrypt.errors import Reason


@dataclass(frozen=True, slots=True)
class Explanation:
    """`meaning`: a sentence in plain words. `action`: what the reader does now; empty where nothing is to be done."""

    meaning: str
    action: str


# What undoes damage in the stored bytes: Grafana's own, whatever the kind of damage.
_RE_ENTER = "Enter the secret again in Grafana, or restore the row from a backup."

REASONS: Mapping[Reason, Explanation] = MappingProxyType(
    {
        Reason.EMPTY_PAYLOAD: Explanation(
            "Nothing follows the header where the encrypted bytes should be.",
            _RE_ENTER,
        ),
        Reason.BAD_BASE64: Explanation(
            "The stored text is not valid base64: it was cut off or edited.",
            _RE_ENTER,
        ),
        Reason.BAD_KEY_ID: Explanation(
            "The value begins as one under a data key, but the id of that key is damaged.",
            _RE_ENTER,
        ),
        Reason.UNKNOWN_ALGORITHM: Explanation(
            "The value names a cipher other than aes-cfb and aes-gcm.",
            "If another program writes to this database, ask its owner. Otherwise the value is damaged. " + _RE_ENTER,
        ),
        Reason.TOO_SHORT: Explanation(
            "The value is shorter than the smallest encrypted value: it was cut off.",
            _RE_ENTER + " If many rows of one column show this, look for a column that was too small in an earlier migration.",
        ),
        Reason.NOT_A_PAYLOAD: Explanation(
            "Bytes that Grafana's encryption cannot have written stand where an encrypted value belongs.",
            "Open the object in Grafana and save its secret again. If another program writes this column, ask its owner.",
        ),
        Reason.UNKNOWN_DATA_KEY: Explanation(
            "The data key that the value names is missing from the table data_keys.",
            "Restore that row of data_keys from a backup and run again. Without it the secret is lost: enter it again in Grafana.",
        ),
        Reason.DATA_KEY_UNREADABLE: Explanation(
            "The data key exists, but its provider does not unwrap it to a usable key.",
            "Look the key up under “Data keys”. For secretKey.v1, check that secret_key is the one that was set when the key was created; "
            "for awskms, that key_id is the KMS key that wrapped it.",
        ),
        Reason.PROVIDER_UNAVAILABLE: Explanation(
            "The provider of the value's data key is not configured, or it refuses: no section in grafana.ini, no permission, or a disabled KMS key.",
            "Add the provider's [security.encryption.…] section, allow kms:Decrypt on its key, or enable the key again. Then run again.",
        ),
        Reason.AUTHENTICATION_FAILED: Explanation(
            "The value is protected against changes (aes-gcm), and the check fails: it was altered, or the key is not its own.",
            "If every such value is under secret_key, secret_key is not the one that encrypted them. Single values are damaged. " + _RE_ENTER,
        ),
        Reason.IMPLAUSIBLE_PLAINTEXT: Explanation(
            "The value decrypts to bytes that this column cannot hold, such as binary data for a password. A wrong key does that, and so does damage.",
            "If every such value is under secret_key, secret_key is not the one that encrypted them: configure the older one for a run. "
            "Single values are damaged: enter them again in Grafana.",
        ),
        Reason.MALFORMED_JSON: Explanation(
            "The column should hold JSON and does not, so the secrets in it cannot be found.",
            "Repair the JSON of this row, or restore it from a backup, then run again.",
        ),
        Reason.NOT_A_STRING: Explanation(
            "A number, list or object stands in the JSON where an encrypted text belongs.",
            "Open the object in Grafana and save its secret again.",
        ),
        Reason.TOO_LONG_FOR_COLUMN: Explanation(
            "The new encrypted value would not fit into the column; the old one was left in place and still works.",
            "Widen the column as a newer Grafana does (for data_source.secure_json_data: upgrade to 12.3 or later), or shorten the secret. Then run again.",
        ),
        Reason.TOO_LARGE_FOR_SERVER: Explanation(
            "The database server does not accept a statement this large; the old value was left in place and still works.",
            "Raise max_allowed_packet (MySQL, MariaDB) for the run, or delete the object if it is an old dashboard snapshot. Then run again.",
        ),
        Reason.WRITE_REFUSED: Explanation(
            "The database refused to store the new value; the old one was left in place and still works.",
            "Look for triggers, constraints or missing rights on this table, then run again.",
        ),
        Reason.WORKER_DIED: Explanation(
            "Workers died whenever they read this row alone: it is too large for their memory, or takes longer than 15 minutes.",
            "Give the workers more memory (memory_mb in the deployment settings), deploy, and run again.",
        ),
    }
)

RUN_OUTCOMES: Mapping[str, Explanation] = MappingProxyType(
    {
        "succeeded": Explanation("Every value is accounted for and none is unreadable.", ""),
        "succeeded-with-unreadable": Explanation(
            "The run did all it could. Some values are unreadable; they were left exactly as they are, and the input allowed that.",
            "Go through the unreadable values below.",
        ),
        "failed": Explanation(
            "The run stopped before its end, or some values are unreadable and the input does not allow that, or values are under an old key still. "
            "What it wrote, Grafana can read.",
            "Remove the cause, then start the run again with the same input: values that are done are left alone.",
        ),
        "nothing-found": Explanation(
            "Not one secret value was found, which counts as a failure: a Grafana that is in use has some.",
            "Check that grafana.ini names the right database, and that “tables” in the input is not too narrow.",
        ),
    }
)

VALUE_OUTCOMES: Mapping[str, Explanation] = MappingProxyType(
    {
        "re_encrypted": Explanation("Was under another key, and is now under the run's data key.", ""),
        "already_current": Explanation("Already under an active data key of the provider; left alone.", ""),
        "empty": Explanation("No secret is stored there.", ""),
        "changed_by_grafana": Explanation("Grafana wrote this value while the run was at it. Grafana's value won, and a sweep brings it along.", ""),
        "plaintext": Explanation(
            "Not encrypted, where an encrypted value belongs; left alone.", "If it is a secret, save the object again in Grafana, which encrypts it."
        ),
        "unreadable": Explanation("Could not be decrypted, judged sound or stored anew; left alone, and listed with its reason.", "See its reason."),
    }
)


# In place of "re_encrypted", for the modes that write nothing.
WOULD_BE_RE_ENCRYPTED = Explanation("Under another key: a re-encrypt run would write it anew. Nothing was written.", "")


# For the mode `restore`, which puts old ciphertexts back.
WHEN_RESTORING: Mapping[str, Explanation] = MappingProxyType(
    {
        "re_encrypted": Explanation("The old ciphertext was put back.", ""),
        "already_current": Explanation("The old ciphertext stood there already.", ""),
        "changed_by_grafana": Explanation("Grafana has written or deleted this value since the run; left alone.", ""),
    }
)


def explain_run(outcome: str, *, stopped: bool, unreadable: bool, left: bool, writes: bool) -> Explanation:
    """What `outcome` means for a run that an error `stopped`, that found `unreadable` values or `left` some under an old key, in a mode that `writes`."""
    known = RUN_OUTCOMES.get(outcome, Explanation("", ""))
    if outcome != "failed":
        return known
    why = "The run did not end as it should."
    if stopped:
        why = "The run stopped before its end."
    elif unreadable:
        why = "Some values are unreadable, and the input does not allow that."
    elif left:
        why = "Values are under an old key still: Grafana writes under it, or puts old values back."
    return Explanation(f"{why} {'What it wrote, Grafana can read.' if writes else 'It wrote nothing.'}", known.action)


def explain(reason: str) -> Explanation:
    """The explanation of a reason as it stands in a report; a word that this version does not know is said to be one."""
    try:
        return REASONS[Reason(reason)]
    except ValueError:
        return Explanation("This version of the report does not know this reason.", "Read the report with the version that made the run.")
