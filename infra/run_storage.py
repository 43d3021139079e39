"""The run's own state: the bucket (chunk manifests, outcomes, reports), the undo journal, and the lease table (one run at a time)."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3
from constructs import Construct

RUNS_KEPT = cdk.Duration.days(400)  # an auditor asks about the last year's rotation


class UndoJournal(Construct):
    """`bucket` holds the old ciphertexts of what runs have written over, under a KMS `key` of its own, for `days` days.

    Apart from the run's other objects, so that who reads reports cannot read ciphertexts, and so that they expire on their own.
    """

    def __init__(self, scope: Construct, construct_id: str, *, days: int, removal: cdk.RemovalPolicy) -> None:
        super().__init__(scope, construct_id)
        self.key = kms.Key(
            self,
            "Key",
            description="Encrypts the undo journal of grafana-reencrypt",
            enable_key_rotation=True,
            removal_policy=removal,  # a bucket that stays is worth nothing without its key
        )
        self.bucket = s3.Bucket(
            self,
            "Bucket",
            encryption=s3.BucketEncryption.KMS,
            encryption_key=self.key,
            bucket_key_enabled=True,  # one KMS request for many objects
            enforce_ssl=True,
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            object_ownership=s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
            versioned=True,  # what a person deletes by mistake is there for a day more
            lifecycle_rules=[
                s3.LifecycleRule(
                    id="JournalExpires",
                    expiration=cdk.Duration.days(days),
                    noncurrent_version_expiration=cdk.Duration.days(1),
                    abort_incomplete_multipart_upload_after=cdk.Duration.days(1),
                )
            ],
            removal_policy=removal,
        )


class RunStorage(Construct):
    """`bucket` holds everything of a run under `runs/<run>/`; `lease_table` one item, which expires by itself; `journal` None: switched off."""

    def __init__(self, scope: Construct, construct_id: str, *, journal_days: int, removal: cdk.RemovalPolicy) -> None:
        super().__init__(scope, construct_id)
        self.bucket = s3.Bucket(
            self,
            "RunBucket",
            # Counts and primary keys, no ciphertext: a key of its own would add no secrecy.
            encryption=s3.BucketEncryption.S3_MANAGED,
            enforce_ssl=True,
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            object_ownership=s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
            # A run's outcomes are written once. If a person or a bug overwrites or deletes one, the version before is the evidence.
            versioned=True,
            lifecycle_rules=[
                s3.LifecycleRule(
                    id="RunsExpire",
                    expiration=RUNS_KEPT,
                    noncurrent_version_expiration=cdk.Duration.days(30),
                    abort_incomplete_multipart_upload_after=cdk.Duration.days(1),
                )
            ],
            removal_policy=removal,
        )  # no auto-delete: a bucket with reports in it is emptied by a person, not by a stack's deletion
        self.journal = UndoJournal(self, "Journal", days=journal_days, removal=removal) if journal_days else None
        self.lease_table = dynamodb.Table(
            self,
            "LeaseTable",
            partition_key=dynamodb.Attribute(name="pk", type=dynamodb.AttributeType.STRING),
            billing_mode=dynamodb.BillingMode.PAY_PER_REQUEST,
            time_to_live_attribute="expires",
            removal_policy=cdk.RemovalPolicy.DESTROY,
        )  # an expired lease is worth nothing
