"""Which function may do what, as data: each entry says why. `infra/workers.py` makes the IAM statements of it.

Nothing else grants a function anything, but for its own log group, X-Ray segments and, in a VPC, network interfaces.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Target = Literal[
    "settings secrets", "settings parameters", "settings object", "settings object version", "settings keys",
    "database user", "database instance", "database cluster",
    "kms keys", "kms role",
    "run objects", "run bucket", "lease table", "journal objects", "journal bucket", "journal key",
]  # fmt: skip


@dataclass(frozen=True)
class Permission:
    """`actions` on `target`, because of `why`. A target that the settings leave empty (no KMS key, no role) grants nothing.

    `through`: the AWS services that use the KMS key for the function; without one, the function uses it itself.
    """

    sid: str
    actions: tuple[str, ...]
    target: Target
    why: str
    through: tuple[str, ...] = ()


READ_SECRETS = Permission(
    "ReadGrafanaSecrets", ("secretsmanager:GetSecretValue",), "settings secrets", "grafana.ini, its variables and the database's password are kept in them"
)
READ_PARAMETERS = Permission("ReadGrafanaParameters", ("ssm:GetParameter",), "settings parameters", "grafana.ini or its variables are kept in them")
READ_INI = Permission("ReadGrafanaIni", ("s3:GetObject",), "settings object", "grafana.ini is kept in it")
READ_INI_VERSION = Permission("ReadGrafanaIniVersion", ("s3:GetObjectVersion",), "settings object version", "grafana.ini is a version of it")
OPEN_SETTINGS = Permission(
    "OpenGrafanaSettings", ("kms:Decrypt",), "settings keys", "the settings lie under a customer-managed key; only the service that keeps them may use it",
    through=("secretsmanager", "ssm", "s3"),
)  # fmt: skip
CONNECT = Permission("ConnectToDatabase", ("rds-db:connect",), "database user", "each connection logs in with an IAM token, as this user of this database only")
FIND_INSTANCE = Permission("FindDatabaseInstance", ("rds:DescribeDBInstances",), "database instance", "the settings name the instance, AWS its address")
FIND_CLUSTER = Permission("FindDatabaseCluster", ("rds:DescribeDBClusters",), "database cluster", "the settings name the cluster, AWS its writer's address")
UNWRAP = Permission("UnwrapDataKeys", ("kms:Decrypt",), "kms keys", "data keys of a KMS provider are readable through KMS only")
WRAP = Permission("WrapTheNewDataKey", ("kms:Encrypt",), "kms keys", "the run's new data key is wrapped once, by one function")
WRAP_ANEW = Permission("WrapDataKeysAnew", ("kms:Encrypt",), "kms keys", "a data key that another provider wrapped is wrapped by the run's")
RE_ENCRYPT = Permission(
    "MoveDataKeysWithinKms", ("kms:ReEncryptFrom", "kms:ReEncryptTo"), "kms keys", "from one KMS key to another a data key never leaves KMS"
)
DESCRIBE = Permission("NameKmsKeys", ("kms:DescribeKey",), "kms keys", "the report names KMS keys by ARN where grafana.ini has an alias; works without")
ASSUME = Permission("UseKeysOfTheKmsRole", ("sts:AssumeRole",), "kms role", "keys of another account are used as that account's role")
WRITE_RUN = Permission("WriteRun", ("s3:PutObject",), "run objects", "leaves its part of the run: facts, manifest, outcomes, report")
READ_RUN = Permission("ReadRun", ("s3:GetObject",), "run objects", "goes on from what earlier functions of the run left")
LIST_RUNS = Permission("ListRuns", ("s3:ListBucket",), "run bucket", "lists outcomes; without it S3 answers 403, not 404, where there is no outcome yet")
RENEW_LEASE = Permission("RenewLease", ("dynamodb:UpdateItem",), "lease table", "a long run keeps its lease while it works, and adds up what its workers see")
TAKE_LEASE = Permission("TakeLease", ("dynamodb:PutItem", "dynamodb:GetItem"), "lease table", "takes a free or expired lease, or reads who holds it")
DROP_LEASE = Permission("DropLease", ("dynamodb:DeleteItem",), "lease table", "deletes the lease, only if this run holds it")

WRITE_JOURNAL = Permission(
    "WriteJournal", ("s3:PutObject",), "journal objects", "old ciphertexts and data keys are kept before they are written over or removed"
)
READ_JOURNAL = Permission("ReadJournal", ("s3:GetObject",), "journal objects", "a restore puts them back")
LIST_JOURNAL = Permission("ListJournal", ("s3:ListBucket",), "journal bucket", "a restore goes through what its run has written")
JOURNAL_KEY = Permission("EncryptJournal", ("kms:GenerateDataKey", "kms:Decrypt"), "journal key", "S3 encrypts the journal under the stack's own key")

_READ_ROWS = (READ_SECRETS, READ_PARAMETERS, READ_INI, READ_INI_VERSION, OPEN_SETTINGS, CONNECT, FIND_INSTANCE, FIND_CLUSTER)
_READ_GRAFANA = (*_READ_ROWS, UNWRAP, ASSUME)
_RUN_OBJECTS = (READ_RUN, WRITE_RUN, LIST_RUNS)
_KEEP_JOURNAL = (WRITE_JOURNAL, JOURNAL_KEY)

PERMISSIONS: Mapping[str, tuple[Permission, ...]] = {
    "preflight": (*_READ_GRAFANA, DESCRIBE, *_RUN_OBJECTS, LIST_JOURNAL),
    "plan_chunks": (*_READ_ROWS, *_RUN_OBJECTS, LIST_JOURNAL),  # keys and sizes of rows, no value
    "acquire_lease": (TAKE_LEASE,),
    "choose_data_key": (*_READ_GRAFANA, WRAP, *_RUN_OBJECTS),  # a rotation that is repeated finds the key that it made
    "process_chunk": (*_READ_GRAFANA, *_RUN_OBJECTS, RENEW_LEASE, *_KEEP_JOURNAL, READ_JOURNAL, LIST_JOURNAL),
    "narrow_chunk": (*_READ_ROWS, *_RUN_OBJECTS),  # reads keys and sizes of rows, decrypts nothing
    "judge_pass": (*_RUN_OBJECTS, RENEW_LEASE),
    "rewrap_data_keys": (*_READ_GRAFANA, WRAP_ANEW, RE_ENCRYPT, *_RUN_OBJECTS, RENEW_LEASE, *_KEEP_JOURNAL),
    "judge_scan": (*_READ_ROWS, *_RUN_OBJECTS, RENEW_LEASE),  # deactivates rows of data keys, opens none
    "remove_data_keys": (*_READ_ROWS, *_RUN_OBJECTS, RENEW_LEASE, *_KEEP_JOURNAL),  # removes rows of data keys, opens none
    "report": _RUN_OBJECTS,  # adds up what the workers left: neither the database nor a key
    "report_failure": _RUN_OBJECTS,
    "release_lease": (DROP_LEASE,),
    "end_failed": (),  # says so, and touches nothing
    "watch_age": _RUN_OBJECTS,  # the time of the last successes is an object beside the runs'
}
