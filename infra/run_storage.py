"""The run's own state: the bucket (chunk manifests, outcomes, reports) and the lease table (one run at a time)."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_s3 as s3
from constructs import Construct

RUNS_KEPT = cdk.Duration.days(400)  # an auditor asks about the last year's rotation


class RunStorage(Construct):
    """`bucket` holds everything of a run under `runs/<run>/`; `lease_table` one item, which expires by itself."""

    def __init__(self, scope: Construct, construct_id: str, *, removal: cdk.RemovalPolicy) -> None:
        super().__init__(scope, construct_id)
        self.bucket = s3.Bucket(
            self,
            "RunBucket",
            # Counts, primary keys and ciphertexts, no plaintext: a key of its own would add no secrecy.
            encryption=s3.BucketEncryption.S3_MANAGED,
            enforce_ssl=True,
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            object_ownership=s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
            # A run's outcomes are written once. If a person or a bug overwrites or deletes one, the version before is the evidence (and,
            # with the undo journal, the only copy of an old ciphertext).
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
        self.lease_table = dynamodb.Table(
            self,
            "LeaseTable",
            partition_key=dynamodb.Attribute(name="pk", type=dynamodb.AttributeType.STRING),
            billing_mode=dynamodb.BillingMode.PAY_PER_REQUEST,
            time_to_live_attribute="expires",
            removal_policy=cdk.RemovalPolicy.DESTROY,
        )  # an expired lease is worth nothing
