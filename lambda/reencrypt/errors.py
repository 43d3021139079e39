"""Every exception that this product raises on purpose: one small tree.

    ReencryptError
    ├── InvalidInput               the execution's input is wrong
    ├── ConfigurationError         grafana.ini, its environment or the deployment is wrong
    │   └── InvalidIni             grafana.ini cannot be parsed
    ├── DatabaseError
    │   ├── DatabaseUnavailable    no connection, or lost; retried by the state machine
    │   ├── DatabaseBusy           locked or deadlocked; retried by the state machine
    │   └── ValueRefused           the server refuses this one value; counted, never ends a run
    ├── ProviderError              a provider could not wrap or unwrap
    │   ├── DataKeyUnwrapFailed    this data key does not unwrap to 16 bytes
    │   ├── KeyAccessDenied        KMS refuses: names key, action and principal
    │   ├── KeyUnusable            the KMS key is disabled, pending deletion, absent or of another kind
    │   └── ProviderThrottled      throttled after every retry; retried by the state machine
    ├── SafetyError                going on would risk a value
    │   ├── WrongSecretKey         the sample decrypts to garbage
    │   ├── ProviderNotReady       no proof that the running Grafana has the provider
    │   ├── TooManyUnreadable      the failure budget is spent
    │   ├── UnknownCiphertext      data keys are needed by columns that this product does not re-encrypt
    │   └── IncompleteRun          chunks without an outcome
    ├── AwsRefused                 an AWS service of the run's own (S3, DynamoDB, Secrets Manager) refuses
    ├── InternalError              a bug: names where, never what
    ├── LeaseHeld                  another run is going on
    ├── RunFailed                  how an execution ends whose report says that it failed
    └── PayloadError               one value is unreadable: carries the `Reason`; counted, never ends a run

The class name is what the state machine's Retry and Catch know. Messages name the setting, table or key at fault and what to do;
they never hold a secret, a payload or a data key.
"""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """Why a value is unreadable: the closed list of words in a report. Never free text, which could carry a value."""

    EMPTY_PAYLOAD = "empty-payload"
    BAD_BASE64 = "bad-base64"
    BAD_KEY_ID = "bad-key-id"
    UNKNOWN_ALGORITHM = "unknown-algorithm"
    TOO_SHORT = "too-short"
    NOT_A_PAYLOAD = "not-a-payload"
    UNKNOWN_DATA_KEY = "unknown-data-key"
    DATA_KEY_UNREADABLE = "data-key-unreadable"
    PROVIDER_UNAVAILABLE = "provider-unavailable"
    AUTHENTICATION_FAILED = "authentication-failed"
    IMPLAUSIBLE_PLAINTEXT = "implausible-plaintext"
    AMBIGUOUS_KEY = "ambiguous-key"
    MALFORMED_JSON = "malformed-json"
    NOT_A_STRING = "not-a-string"
    TOO_LONG_FOR_COLUMN = "too-long-for-column"
    TOO_LARGE_FOR_SERVER = "too-large-for-server"
    WRITE_REFUSED = "write-refused"
    WORKER_DIED = "worker-died"


class ReencryptError(Exception):
    """Root of the tree. `str()` of it is safe to log and to show."""


class InvalidInput(ReencryptError):
    """The execution's input has an unknown key or a value that is not allowed; the message names it and what is allowed."""


class ConfigurationError(ReencryptError):
    """A setting of Grafana or of the deployment is missing or wrong; the message names it."""


class InvalidIni(ConfigurationError):
    """grafana.ini cannot be parsed; the message names the line number, never its text."""


class DatabaseError(ReencryptError):
    """The database refuses; the message carries the server's error code, never a statement or its parameters."""


class DatabaseUnavailable(DatabaseError):
    """No connection to the database, or it was lost."""


class DatabaseBusy(DatabaseError):
    """Locked, deadlocked or timed out waiting for a lock: try again."""


class ValueRefused(DatabaseError):
    """The server refuses to store this value: too long, a constraint, a character set."""


class ProviderError(ReencryptError):
    """A provider could not wrap or unwrap a data key."""


class DataKeyUnwrapFailed(ProviderError):
    """A data key's ciphertext does not unwrap to 16 bytes."""


class KeyAccessDenied(ProviderError):
    """KMS or IAM denies; the message names the key and the missing action."""


class KeyUnusable(ProviderError):
    """The KMS key is disabled, pending deletion, absent, or not symmetric."""


class ProviderThrottled(ProviderError):
    """KMS throttles or does not answer, after every retry."""


class SafetyError(ReencryptError):
    """Going on would risk a value; nothing more is written."""


class WrongSecretKey(SafetyError):
    """The configured `secret_key` decrypts the stored samples to garbage."""


class ProviderNotReady(SafetyError):
    """There is no proof that the running Grafana has the target provider configured."""


class TooManyUnreadable(SafetyError):
    """More values are unreadable than the run may leave behind; it stops before it touches the rest."""


class UnknownCiphertext(SafetyError):
    """Columns that are in no list hold values under data keys that the run would remove."""


class IncompleteRun(SafetyError):
    """Some chunks have no outcome."""


class LeaseHeld(ReencryptError):
    """Another run holds the lease; the message names its execution."""


class RunFailed(ReencryptError):
    """The run has ended as failed; the message is the first line of its report."""


class AwsRefused(ReencryptError):
    """A service that the run itself needs refuses; the message names the operation and AWS's error code."""


class InternalError(ReencryptError):
    """An exception that nobody expected: named by class and place only, since its text could carry a value."""


class PayloadError(ReencryptError):
    """One value is unreadable."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.value)
        self.reason = reason
