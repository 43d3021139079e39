"""What a run costs on AWS, by list price: the same formula for an estimate and for a report.

Prices of us-east-1 in USD, 2026: aws.amazon.com/lambda/pricing (arm64), /step-functions/pricing (Standard), /kms/pricing, /s3/pricing.
A run's network, logs and the key itself (USD 1 a month) are not in it.
"""

from __future__ import annotations

LAMBDA_GIGABYTE_SECOND = 0.0000133334
STATE_TRANSITION = 0.025 / 1000
KMS_REQUEST = 0.03 / 10_000
S3_PUT = 0.005 / 1000

_TRANSITIONS_PER_CHUNK = 4  # map iteration, process, choice, end
_TRANSITIONS_PER_RUN = 30  # of a re-encrypt with one sweep, its announcements included
_OTHER_FUNCTION_SECONDS = 10.0


def estimate_usd(worker_seconds: float, deliveries: int, data_keys: int, memory_megabytes: int) -> float:
    """USD for `worker_seconds` of Lambda time over `deliveries` of chunks, each of which may unwrap every one of `data_keys`."""
    compute = (worker_seconds + _OTHER_FUNCTION_SECONDS) * memory_megabytes / 1024 * LAMBDA_GIGABYTE_SECOND
    transitions = (_TRANSITIONS_PER_RUN + deliveries * _TRANSITIONS_PER_CHUNK) * STATE_TRANSITION
    return compute + transitions + deliveries * data_keys * KMS_REQUEST + (deliveries + 5) * S3_PUT
