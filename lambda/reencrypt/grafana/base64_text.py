"""Base64 as Grafana's readers and writers use it: decoded leniently, encoded exactly.

Go's decoders skip CR and LF and reject every other foreign character. Older migrators of Grafana wrote padding where its readers want
none (`secrets`, `signing_key`), so padding is optional when reading. Source: Go encoding/base64; Grafana pkg/services/secrets/migrator/.
"""

from __future__ import annotations

import base64
import binascii
from enum import StrEnum

from reencrypt.errors import PayloadError, Reason


class Base64(StrEnum):
    """The flavour a column is written in."""

    STD = "std"
    RAWSTD = "rawstd"
    NONE = "none"


def decode(text: bytes) -> bytes:
    """The bytes of `text`, standard alphabet, padded or not. Raises PayloadError(BAD_BASE64)."""
    if b"\n" in text or b"\r" in text:
        text = text.translate(None, b"\r\n")
    text = text.rstrip(b"=")
    try:
        return binascii.a2b_base64(text + b"==="[: -len(text) % 4], strict_mode=True)
    except binascii.Error:
        raise PayloadError(Reason.BAD_BASE64) from None


def encode(data: bytes, flavour: Base64) -> bytes:
    """`data` as base64 text in exactly `flavour` (`std` padded, `rawstd` unpadded, `none` unchanged)."""
    if flavour is Base64.NONE:
        return data
    text = base64.b64encode(data)
    return text.rstrip(b"=") if flavour is Base64.RAWSTD else text
