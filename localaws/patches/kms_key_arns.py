"""KMS and IAM agree on which key a request means: by alias, by ciphertext, and in another account.

AWS checks kms: actions against the ARN of the key, whatever names it in the request (an alias, an alias ARN, the ciphertext), and accepts a
key or alias ARN of another account; then both that key's policy and the caller's must allow. MiniStack 1.5.33 checks an alias's ARN, so a
policy that names the key denies a request by alias, and answers NotFoundException for any other account.
"""

import json

from ministack.core import iam_actions
from ministack.core.arn import ArnParseError, parse_arn
from ministack.core.responses import get_account_id, get_region, request_scope
from ministack.services import kms

ORIGIN_BYTES = 32


def origin(record):
    """Where `record`'s key is, as it stands in a ciphertext after the 36 characters of the key id: account and region."""
    arn = parse_arn(record["Arn"])
    return f"{arn.account_id}{arn.region}".encode().ljust(ORIGIN_BYTES, b"\0")


def key_of_ciphertext(raw):
    """The record of the key that the ciphertext `raw` names, in any account of this region; None if there is none."""
    key_id, where = raw[:36].decode("latin-1"), raw[36 : 36 + ORIGIN_BYTES].rstrip(b"\0").decode("latin-1")
    return kms._keys.get_scoped(where[:12], get_region(), key_id) if where[12:] == get_region() else None


def apply():
    resolve0, resource0 = kms._resolve_key, iam_actions.extract_resource_arn

    def resolve(reference):
        if (reference or "").startswith("arn:"):
            try:
                arn = parse_arn(reference)
            except ArnParseError:
                return None
            if arn.service == "kms" and arn.region == get_region() and arn.account_id != get_account_id():
                with request_scope(arn.account_id, arn.region):
                    return resolve0(reference)
        return resolve0(reference)

    def policy(resource_arn):
        record = kms._resolve_key(resource_arn)
        return (record.get("Policy") or "", parse_arn(record["Arn"]).account_id) if record else None

    def extract_resource_arn(service, method, path, headers, body, *arguments, **keywords):
        if service == "kms":
            try:
                request = json.loads(body or b"{}")
            except ValueError:
                request = {}
            named = request.get("KeyId") or request.get("SourceKeyId")
            record = kms._resolve_key(named) if named else key_of_ciphertext(kms.base64.b64decode(request.get("CiphertextBlob") or ""))
            if record is not None:
                return record["Arn"]
        return resource0(service, method, path, headers, body, *arguments, **keywords)

    kms._resolve_key, kms.key_policy_for_arn, iam_actions.extract_resource_arn = resolve, policy, extract_resource_arn
