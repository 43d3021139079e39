"""The two forms in which the secrets manager stores a value, and the one form in which this product handles both.

    split    encrypted_data = payload                  data_key_id = uid     written since the column exists (Grafana 12.3)
    joined   encrypted_data = #<base64(uid)>#payload   data_key_id empty, or no such column

Here a value is always joined, so that a value is one run of bytes: read, judged, kept in the undo journal and compared as one. A database splits it
again when it writes. The payload begins with `*`, its salt may be any bytes: the first `#` after the one in front closes the id.
Source: Grafana pkg/storage/secret/encryption/encrypted_value_store.go, encryptedValMigrationExecutor (12.4).
"""

from __future__ import annotations

from reencrypt.errors import PayloadError, Reason
from reencrypt.grafana import base64_text
from reencrypt.grafana.base64_text import Base64


def joined(encrypted_data: bytes, data_key_id: bytes | None) -> bytes:
    """A row's two columns as one value; `data_key_id` is the text of its column, None where there is no such column. Never fails.

    Where an id is given, it is put in front of whatever `encrypted_data` holds, even of bytes that begin with `#`: so `split` gives back both columns
    as they were, and a row that holds an id twice is unreadable to us as it is to Grafana. Where none is given, the bytes stay as they are.
    """
    if not data_key_id:
        return encrypted_data
    return b"".join((b"#", base64_text.encode(data_key_id, Base64.RAWSTD), b"#", encrypted_data))


def split(value: bytes) -> tuple[bytes, bytes]:
    """(payload, uid) of a joined value; the payload is not looked at.

    Raises PayloadError: EMPTY_PAYLOAD, BAD_KEY_ID (no `#` in front, none that closes, an id that is empty, no base64 or no UTF-8).
    """
    if not value:
        raise PayloadError(Reason.EMPTY_PAYLOAD)
    end = value.find(b"#", 1)
    if value[:1] != b"#" or end < 0:
        raise PayloadError(Reason.BAD_KEY_ID)
    try:
        uid = base64_text.decode(value[1:end])
        uid.decode()
    except (PayloadError, UnicodeDecodeError):
        raise PayloadError(Reason.BAD_KEY_ID) from None
    if not uid:
        raise PayloadError(Reason.BAD_KEY_ID)
    return value[end + 1 :], uid
