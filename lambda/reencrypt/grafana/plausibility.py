"""Is this plaintext what its column holds? The judgement that stands between a wrong key and a write.

AES-CFB does not authenticate: a wrong key yields random bytes of the right length. Those are hardly ever UTF-8, PEM or JSON, so each plaintext
is judged before it is encrypted anew. Control characters are no sign: Grafana stores whatever text a form or the API gave it. The shorter a
plaintext is, the less the judgement says for its key: `is_convincing`.
"""

from __future__ import annotations

import codecs
from enum import StrEnum

from reencrypt.grafana import document

_PIECE = 1 << 20
_PRINTABLE_BYTES = 6
_UTF8_BYTES = 16


class PlaintextKind(StrEnum):
    """What a secret column's plaintexts are, as declared in secret_columns.toml."""

    TEXT = "text"
    JSON = "json"
    PEM = "pem"


def is_plausible(kind: PlaintextKind, plaintext: bytes) -> bool:
    """Whether `plaintext` is what a column of `kind` holds: JSON that parses, PEM armour, or UTF-8 text.

    The empty plaintext is plausible as text: Grafana encrypts empty tokens.
    """
    if kind is PlaintextKind.JSON:
        return document.is_json(plaintext)
    if kind is PlaintextKind.PEM and not (plaintext.startswith(b"-----BEGIN ") and b"-----END " in plaintext):
        return False
    return _is_utf8(plaintext)


def is_convincing(kind: PlaintextKind, plaintext: bytes) -> bool:
    """Whether this plausible plaintext speaks for its key, since random bytes would hardly have passed.

    A random byte continues UTF-8 text with a chance of about a half, and is printable ASCII with one of 0.37: chances of 1 in 400 at six
    printable bytes, 1 in 30 000 at sixteen bytes of UTF-8. JSON and PEM speak for themselves.
    """
    if kind is not PlaintextKind.TEXT:
        return True
    return len(plaintext) >= _UTF8_BYTES or (len(plaintext) >= _PRINTABLE_BYTES and plaintext.isascii() and plaintext.decode().isprintable())


def _is_utf8(data: bytes) -> bool:
    if data.isascii():
        return True
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for start in range(0, len(data), _PIECE):
            decoder.decode(data[start : start + _PIECE], final=start + _PIECE >= len(data))
    except UnicodeDecodeError:
        return False
    return True
