"""CreateAccessKey takes the new key from the user's tags `localaws:access-key-id` and `localaws:secret-access-key`.

AWS draws access keys, and so does MiniStack. A rehearsal needs the very credentials that a grafana.ini names. With tags
`localaws:session-token-0`, `-1` … (their values joined) they are temporary credentials of that user, as GetSessionToken gives them.
"""

import time

from ministack.services import iam, sts

PREFIX = "localaws:"


def apply():
    create0 = iam._create_access_key

    def create_access_key(parameters):
        user = iam._users.get(iam._p(parameters, "UserName"))
        tags = {tag["Key"][len(PREFIX) :]: tag["Value"] for tag in (user or {}).get("Tags") or [] if tag["Key"].startswith(PREFIX)}
        if "access-key-id" not in tags:
            return create0(parameters)
        name, key_id, secret = user["UserName"], tags["access-key-id"], tags["secret-access-key"]
        parts = sorted((int(tag.rsplit("-", 1)[1]), value) for tag, value in tags.items() if tag.startswith("session-token-"))
        if parts:
            sts._sessions[key_id] = {
                "Arn": user["Arn"],
                "SecretAccessKey": secret,
                "SessionToken": "".join(part for _, part in parts),
                "Expiration": time.time() + 12 * 3600,
                "UserId": user["UserId"],
                "PrincipalType": "User",
                "PrincipalName": name,
            }
        else:
            iam._access_keys[key_id] = {"UserName": name, "AccessKeyId": key_id, "SecretAccessKey": secret, "Status": "Active", "CreateDate": iam._now()}
        return iam._xml(
            200,
            "CreateAccessKeyResponse",
            f"<CreateAccessKeyResult><AccessKey><UserName>{name}</UserName><AccessKeyId>{key_id}"
            "</AccessKeyId><SecretAccessKey/><Status>Active</Status></AccessKey></CreateAccessKeyResult>",
            ns="iam",
        )

    iam._IAM_HANDLERS["CreateAccessKey"] = create_access_key
