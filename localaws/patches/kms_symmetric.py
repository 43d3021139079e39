"""Symmetric KMS: authenticated encryption, AWS's error codes, ReEncrypt, and its two IAM checks.

MiniStack 1.5.33 XORs with a pad: a flipped byte or another key named in the request "decrypts" to garbage, and ReEncrypt does not exist.
Here: AES-256-GCM with the encryption context as additional data; IncorrectKeyException for another key, InvalidCiphertextException for a
damaged ciphertext or another context; ReEncrypt checked as kms:ReEncryptFrom on the source key and kms:ReEncryptTo on the destination.
The ciphertext keeps MiniStack's 36-byte key-id prefix; after it stand the key's account and region, so that equal ids in two accounts differ.
"""

import base64
import json
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from ministack import app
from ministack.core import iam_evaluator
from ministack.core.router import extract_access_key_id, extract_region
from ministack.services import kms

from .kms_key_arns import ORIGIN_BYTES, key_of_ciphertext, origin

_PREFIX = 36 + ORIGIN_BYTES  # key id, then account and region


def _error(code, message=""):
    return kms.error_response_json(code, message, 400)


def _cipher(record):
    return AESGCM(record["_symmetric_key"][:32].ljust(32, b"\0"))


def _context(context):
    return json.dumps(context or {}, sort_keys=True).encode()


def _is_symmetric(record):
    return record is not None and "_symmetric_key" in record


def _seal(record, plaintext, context):
    nonce = os.urandom(12)
    return base64.b64encode(record["KeyId"].encode() + origin(record) + nonce + _cipher(record).encrypt(nonce, plaintext, _context(context))).decode()


def _open(blob, key_id, context):
    """(key record, plaintext, None) or (None, None, error response)."""
    raw = base64.b64decode(blob)
    own = key_of_ciphertext(raw) if len(raw) > _PREFIX + 12 else None
    if key_id:
        named = kms._resolve_key(key_id)
        if named is None:
            return None, None, _error("NotFoundException", f"Key '{key_id}' does not exist")
        if own is not None and named["Arn"] != own["Arn"]:
            return None, None, _error("IncorrectKeyException", "The key ID in the request does not identify a CMK that can perform this operation.")
    if own is None:
        return None, None, _error("InvalidCiphertextException")
    if state := kms._check_key_state(own):
        return None, None, state
    try:
        return own, _cipher(own).decrypt(raw[_PREFIX : _PREFIX + 12], raw[_PREFIX + 12 :], _context(context)), None
    except InvalidTag:
        return None, None, _error("InvalidCiphertextException")


def _re_encrypt(data, headers):
    source, plaintext, error = _open(data["CiphertextBlob"], data.get("SourceKeyId"), data.get("SourceEncryptionContext"))
    if error:
        return error
    target = kms._resolve_key(data["DestinationKeyId"])
    if target is None:
        return _error("NotFoundException", f"Key '{data['DestinationKeyId']}' does not exist")
    if app.AUTH and iam_evaluator.enforce(extract_access_key_id(headers), "kms:ReEncryptTo", "kms", extract_region(headers), target["Arn"]):
        return _error("AccessDeniedException", f"not authorized to perform: kms:ReEncryptTo on resource: {target['Arn']}")
    return kms._check_key_state(target) or kms.json_response(
        {
            "CiphertextBlob": _seal(target, plaintext, data.get("DestinationEncryptionContext")),
            "SourceKeyId": source["Arn"],
            "KeyId": target["Arn"],
            "SourceEncryptionAlgorithm": "SYMMETRIC_DEFAULT",
            "DestinationEncryptionAlgorithm": "SYMMETRIC_DEFAULT",
        }
    )


def _generate_data_key(data, with_plaintext):
    record = kms._resolve_key(data.get("KeyId", ""))
    plaintext = os.urandom(data.get("NumberOfBytes") or (16 if data.get("KeySpec") == "AES_128" else 32))
    answer = {"KeyId": record["Arn"], "CiphertextBlob": _seal(record, plaintext, data.get("EncryptionContext"))}
    if with_plaintext:
        answer["Plaintext"] = base64.b64encode(plaintext).decode()
    return kms._check_key_state(record) or kms.json_response(answer)


def apply():
    encrypt0, decrypt0, handle0, enforce0 = kms._encrypt, kms._decrypt, kms.handle_request, iam_evaluator.enforce

    def encrypt(data):
        record = kms._resolve_key(data.get("KeyId", ""))
        if not _is_symmetric(record):
            return encrypt0(data)
        plaintext = base64.b64decode(data["Plaintext"])
        if not 1 <= len(plaintext) <= 4096:
            return _error(
                "ValidationException",
                "1 validation error detected: Value at 'plaintext' failed to satisfy constraint: Member must have length between 1 and 4096",
            )
        return kms._check_key_state(record) or kms.json_response(
            {"KeyId": record["Arn"], "CiphertextBlob": _seal(record, plaintext, data.get("EncryptionContext")), "EncryptionAlgorithm": "SYMMETRIC_DEFAULT"}
        )

    def decrypt(data):
        record = kms._resolve_key(data.get("KeyId") or "")
        if record is not None and not _is_symmetric(record):
            return decrypt0(data)
        own, plaintext, error = _open(data["CiphertextBlob"], data.get("KeyId"), data.get("EncryptionContext"))
        return error or kms.json_response({"KeyId": own["Arn"], "Plaintext": base64.b64encode(plaintext).decode(), "EncryptionAlgorithm": "SYMMETRIC_DEFAULT"})

    async def handle_request(method, path, headers, body, query_params):
        operation = headers.get("x-amz-target", "").rsplit(".", 1)[-1]
        if operation == "ReEncrypt":
            return _re_encrypt(json.loads(body), headers)
        if operation.startswith("GenerateDataKey") and _is_symmetric(kms._resolve_key(json.loads(body).get("KeyId", ""))) and "Pair" not in operation:
            return _generate_data_key(json.loads(body), operation == "GenerateDataKey")
        return await handle0(method, path, headers, body, query_params)

    def enforce(access_key_id, action, *args, **kwargs):
        # The resource of a ReEncrypt request is the source key, which MiniStack reads from the ciphertext.
        return enforce0(access_key_id, "kms:ReEncryptFrom" if action == "kms:ReEncrypt" else action, *args, **kwargs)

    kms._encrypt, kms._decrypt, kms.handle_request, iam_evaluator.enforce = encrypt, decrypt, handle_request, enforce
