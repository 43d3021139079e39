"""CreateKey takes the new key's id from the tag `localaws:key-id`.

AWS draws key ids, and so does MiniStack. A rehearsal needs the very keys that a grafana.ini names: a UUID, or `mrk-` and 32 digits.
"""

from ministack.services import kms

TAG = "localaws:key-id"


def apply():
    handle0 = kms._create_key

    def create_key(data):
        wanted = next((tag["TagValue"] for tag in data.get("Tags", []) if tag["TagKey"] == TAG), None)
        if wanted is None:
            return handle0(data)
        if wanted in kms._keys:
            return kms.error_response_json("AlreadyExistsException", f"Key {wanted} exists", 400)
        answer = handle0(data)
        if answer[0] != 200:
            return answer
        drawn = next(reversed(list(kms._keys)))  # the handler runs to its end without a switch: the last key is this one
        record = kms._keys[drawn]
        del kms._keys[drawn]
        record.update(KeyId=wanted, Arn=kms._arn(wanted))
        kms._keys[wanted] = record
        return kms.json_response({"KeyMetadata": kms._key_metadata(record)})

    kms._create_key = create_key
