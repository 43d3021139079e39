"""JSON documents edited in place: find the strings, replace some, keep every other byte.

Grafana's own migrator parses and re-marshals, which loses unknown fields, formatting and large numbers. Here a document stays bytes:
`leaves` walks it without building it (memory stays flat, whatever its size and depth), and `splice` replaces spans.
Grammar: RFC 8259, which is what Go's encoding/json accepts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from enum import Enum
from typing import NamedTuple

from reencrypt.errors import PayloadError, Reason

Path = tuple[str | int, ...]

MAXIMUM_DEPTH = 1000

_SPACE = re.compile(rb"[ \t\r\n]*+")
_STRING = re.compile(rb'"(?:[^"\\\x00-\x1f]++|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*+"')
_SCALAR = re.compile(rb"null|true|false|-?+(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?+(?:[eE][+-]?+[0-9]++)?+")


class Kind(Enum):
    """What stands at a place of a document."""

    STRING = "string"
    NULL = "null"
    SCALAR = "number or boolean"
    OBJECT = "object"
    ARRAY = "array"


class Leaf(NamedTuple):
    """A value of the document; containers are reported where they open. `start` and `end` are byte offsets, quotes included."""

    path: Path
    kind: Kind
    start: int
    end: int


def leaves(document: bytes) -> Iterator[Leaf]:
    """Every value of `document` in order, with its path. Raises PayloadError(MALFORMED_JSON), possibly after some leaves."""
    position = _skip(document, 0)
    stack: list[str | int] = []
    in_object: list[bool] = []
    while True:
        byte = document[position : position + 1]
        if byte == b'"':
            end = _match(_STRING, document, position)
            yield Leaf(tuple(stack), Kind.STRING, position, end)
            position = end
        elif byte in (b"{", b"["):
            is_object = byte == b"{"
            yield Leaf(tuple(stack), Kind.OBJECT if is_object else Kind.ARRAY, position, position + 1)
            position = _skip(document, position + 1)
            if document[position : position + 1] == (b"}" if is_object else b"]"):
                position += 1
            else:
                if len(stack) >= MAXIMUM_DEPTH:
                    raise PayloadError(Reason.MALFORMED_JSON)
                in_object.append(is_object)
                if is_object:
                    key, position = _key(document, position)
                    stack.append(key)
                else:
                    stack.append(0)
                continue
        else:
            end = _match(_SCALAR, document, position)
            yield Leaf(tuple(stack), Kind.NULL if byte == b"n" else Kind.SCALAR, position, end)
            position = end
        while True:  # after a value: close what ends here, or go on to the next member
            position = _skip(document, position)
            if not stack:
                if position != len(document):
                    raise PayloadError(Reason.MALFORMED_JSON)
                return
            byte = document[position : position + 1]
            if byte == b",":
                position = _skip(document, position + 1)
                last = stack.pop()
                if isinstance(last, int):
                    stack.append(last + 1)
                else:
                    key, position = _key(document, position)
                    stack.append(key)
                break
            if byte != (b"}" if in_object[-1] else b"]"):
                raise PayloadError(Reason.MALFORMED_JSON)
            stack.pop()
            in_object.pop()
            position += 1


def string_at(document: bytes, leaf: Leaf) -> str:
    """The text of a STRING leaf. Raises PayloadError(MALFORMED_JSON) where its bytes are not UTF-8."""
    return _text(document[leaf.start : leaf.end])


def splice(document: bytes, replacements: Iterable[tuple[int, int, bytes]]) -> bytes:
    """`document` with each span (start, end) replaced; spans are in order and do not overlap."""
    pieces: list[bytes | memoryview] = []
    view, position = memoryview(document), 0
    for start, end, new in replacements:
        pieces += (view[position:start], new)
        position = end
    pieces.append(view[position:])
    return b"".join(pieces)


def is_json(document: bytes) -> bool:
    """Whether `document` is one well-formed JSON value in UTF-8, at most MAXIMUM_DEPTH deep. Large documents are walked, so that memory stays flat."""
    try:
        if len(document) <= 256 * 1024:
            # int() refuses numbers that JSON allows, of more than 4300 digits; their values do not matter here.
            json.loads(document.decode(), parse_constant=_refuse_constant, parse_int=len, parse_float=len)
            return True
    except RecursionError:  # from a depth on that depends on who calls: walked instead
        pass
    except ValueError:
        return False
    return _is_walked_to_its_end(document)


def _is_walked_to_its_end(document: bytes) -> bool:
    try:
        for leaf in leaves(document):
            if leaf.kind is Kind.STRING:
                document[leaf.start : leaf.end].decode()
    except (UnicodeDecodeError, PayloadError):
        return False
    return True


def _refuse_constant(name: str) -> None:
    """json.loads accepts NaN and Infinity; JSON does not."""
    raise ValueError(name)


def _skip(document: bytes, position: int) -> int:
    match = _SPACE.match(document, position)
    return match.end() if match else position


def _match(pattern: re.Pattern[bytes], document: bytes, position: int) -> int:
    match = pattern.match(document, position)
    if match is None:
        raise PayloadError(Reason.MALFORMED_JSON)
    return match.end()


def _key(document: bytes, position: int) -> tuple[str, int]:
    end = _match(_STRING, document, position)
    colon = _skip(document, end)
    if document[colon : colon + 1] != b":":
        raise PayloadError(Reason.MALFORMED_JSON)
    return _text(document[position:end]), _skip(document, colon + 1)


def _text(token: bytes) -> str:
    try:
        decoded = token.decode()  # not by json.loads, which takes bytes of surrogates for UTF-8
        if "\\" not in decoded:
            return decoded[1:-1]
        text: str = json.loads(decoded)
    except ValueError:
        raise PayloadError(Reason.MALFORMED_JSON) from None
    # A lone \ud800 is legal JSON and becomes U+FFFD in Go; kept as it is, it could not be written to any report.
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
