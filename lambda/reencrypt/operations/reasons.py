"""What the words of a report mean and what to do about them: every reason, every outcome of a run and of a value, in each mode.

report.html and docs/report.md are made from these tables; what became of data keys has its own, in key_words.py. A new `Reason` or `Mode` is a new row
here (a test insists).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from reencrypt.errors import Reason
from reencrypt.operations.modes import Mode


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
        Reason.AMBIGUOUS_KEY: Explanation(
            "Both the old and the new secret_key open it to something that could be right, and nothing tells which of them is.",
            "Save the secret again in Grafana, which writes it under the new secret_key, then run rotate-secret-key again.",
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
            "The run stopped before its end, or some values are unreadable and the input does not allow that, or values are under an old key still, "
            "or a data key could not be wrapped anew. "
            "What it wrote, Grafana can read.",
            "Remove the cause, then start the run again with the same input: what is done is left alone.",
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


@dataclass(frozen=True, slots=True)
class Word:
    """An outcome as a mode calls it, in the words of a table's head, and what it means there."""

    shown: str
    said: Explanation


_ALREADY_READ = Word("read, left as it is", Explanation("It was decrypted and judged sound. This mode changes data keys, not values.", ""))
_NOT_HERE = Word("re-encrypted", Explanation("None: this mode changes data keys, not values.", ""))
_WRITTEN_SINCE = Explanation("Grafana wrote this value while the run was at it. Grafana's value won.", "")

# The modes in which an outcome means something else than in VALUE_OUTCOMES.
WORDS_OF_MODES: Mapping[Mode, Mapping[str, Word]] = MappingProxyType(
    {
        Mode.PLAN: {
            "re_encrypted": Word("would be re-encrypted", Explanation("Under another key: a re-encrypt run would write it anew. Nothing was written.", "")),
        },
        Mode.VERIFY: {
            "re_encrypted": Word("would be re-encrypted", Explanation("Under another key: a re-encrypt run would write it anew. Nothing was written.", "")),
        },
        Mode.ROTATE: {
            "re_encrypted": Word("re-encrypted", Explanation("Was under an earlier key, and is now under the run's new data key.", "")),
            "already_current": Word(
                "already current",
                Explanation("Under the new data key already, or where Grafana reads nothing but secret_key (alert_notification); left alone.", ""),
            ),
        },
        Mode.REWRAP_DATA_KEYS: {
            "re_encrypted": _NOT_HERE,
            "already_current": _ALREADY_READ,
            "changed_by_grafana": Word("changed by Grafana", _WRITTEN_SINCE),
        },
        Mode.ROTATE_SECRET_KEY: {
            "re_encrypted": Word("under the new secret_key", Explanation("Was directly under the old secret_key, and is now under the new one.", "")),
            "already_current": Word(
                "needs no change",
                Explanation("Under a data key, which the run wraps anew instead, or directly under the new secret_key already; left alone.", ""),
            ),
            "changed_by_grafana": Word("changed by Grafana", _WRITTEN_SINCE),
        },
        Mode.ROLLBACK: {
            "re_encrypted": Word("brought back", Explanation("Was under a data key, and is now directly under secret_key.", "")),
            "already_current": Word(
                "needs no change", Explanation("Directly under secret_key already, or in the secrets manager, which a rollback leaves alone.", "")
            ),
        },
        Mode.RESTORE: {
            "re_encrypted": Word("put back", Explanation("The old ciphertext was put back.", "")),
            "already_current": Word("stood so already", Explanation("The old ciphertext stood there already.", "")),
            "changed_by_grafana": Word("left alone", Explanation("Grafana has written or deleted this value since the run; left alone.", "")),
        },
    }
)

# What each mode is for: said under the headline, whatever the outcome.
MODES: Mapping[Mode, str] = MappingProxyType(
    {
        Mode.PLAN: "Reads and counts every secret, and says what a re-encrypt would do. Writes nothing.",
        Mode.RE_ENCRYPT: "Brings every value under a data key of the provider.",
        Mode.ROTATE: "Makes new data keys, retires those before them, and brings every value under the new ones.",
        Mode.REWRAP_DATA_KEYS: "Has every data key wrapped anew by the provider. The values themselves stay as they are.",
        Mode.ROTATE_SECRET_KEY: "Brings everything that depends on secret_key from the old one to the new one.",
        Mode.ROLLBACK: "Brings every value of Grafana's own store back directly under secret_key, then removes the data keys that nothing needs.",
        Mode.VERIFY: "Reads every secret and says which key protects it. Writes nothing.",
        Mode.RESTORE: "Puts back what an earlier run has overwritten, from its undo journal.",
        Mode.PRUNE_DATA_KEYS: "Looks through every column of the database, and removes the data keys that nothing refers to.",
    }
)


def mode_of(name: str) -> Mode | None:
    """The mode of that name; None for a word that this version does not know."""
    return Mode(name) if name in list(Mode) else None


def words(mode: str, labels: Mapping[str, str]) -> dict[str, Word]:
    """Each outcome of a value as `mode` calls it; `labels` are the words of a mode without its own."""
    usual = {name: Word(labels[name], said) for name, said in VALUE_OUTCOMES.items()}
    known = mode_of(mode)
    return usual | dict(WORDS_OF_MODES.get(known, {}) if known else {})


def explain_run(outcome: str, mode: str, *, stopped: bool, unreadable: bool, left: bool, keys_left: bool = False) -> Explanation:
    """What `outcome` means for a run that an error `stopped`, that found `unreadable` values or `left` some under an old key, or (`keys_left`) data keys."""
    said = RUN_OUTCOMES.get(outcome, Explanation("", ""))
    known = mode_of(mode)
    if outcome == "succeeded" and known is Mode.PRUNE_DATA_KEYS:
        return Explanation("Every column was looked through, and every data key is accounted for.", "")
    if outcome != "failed":
        return said
    why = "The run did not end as it should."
    if stopped:
        why = "The run stopped before its end."
    elif keys_left:
        why = "Not every data key could be wrapped anew."
    elif unreadable:
        why = "Some values are unreadable, and the input does not allow that."
    elif left:
        why = "Values are under an old key still: Grafana writes under it, or puts old values back."
    if known is None or not known.writes:
        return Explanation(f"{why} It wrote nothing.", said.action)
    if known is Mode.ROTATE_SECRET_KEY:
        return Explanation(f"{why} What it wrote needs the new secret_key, the rest the old one; nothing is lost, and both must be kept.", said.action)
    return Explanation(f"{why} What it wrote, Grafana can read.", said.action)


def explain(reason: str) -> Explanation:
    """The explanation of a reason as it stands in a report; a word that this version does not know is said to be one."""
    try:
        return REASONS[Reason(reason)]
    except ValueError:
        return Explanation("This version of the report does not know this reason.", "Read the report with the version that made the run.")
