"""The secret values in one stored column value: find each payload, and put new ones in their places.

`read` never fails for a bad value: each place is a payload, empty, plaintext, or unreadable with its reason. What Grafana's readers
and writers do with each shape: grafana pkg/services/secrets/migrator/rotators.go, pkg/services/ngalert/notifier/crypto.go,
pkg/services/ssosettings/ssosettingsimpl/service.go (12.4).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum

from reencrypt.errors import PayloadError, Reason
from reencrypt.grafana import base64_text, document, manager_payload, split_form
from reencrypt.grafana import payload as payloads
from reencrypt.grafana.document import Kind, Leaf, Path
from reencrypt.grafana.payload import Payload
from reencrypt.grafana.secret_columns import JsonPath, SecretColumn, Shape


class State(Enum):
    """What stands at a place where a payload belongs."""

    PAYLOAD = "payload"
    EMPTY = "empty"
    PLAINTEXT = "plaintext"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class SecretValue:
    """One place. `path` is None where the whole column is the value; `span` is what a new payload replaces, in bytes of the column.

    Where the data key id is a string of its own beside the payload's, `span` is the object that holds both, and `pair` where the two stand.
    """

    path: Path | None
    state: State
    payload: Payload | None = None
    reason: Reason | None = None
    span: tuple[int, int] = field(default=(0, 0), repr=False)
    prefix: str = ""
    pair: tuple[tuple[int, int], tuple[int, int]] | None = field(default=None, repr=False)


_BASE64_ALPHABET = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")
# '*YWVz' ("*aes" in base64) as base64, and '#' + base64 as base64: how a damaged payload is told from text that never was one.
_LEGACY_START = b"KllXV"
_BRACES_AND_STRINGS = re.compile(rb'[{}]|"(?:[^"\\]++|\\.)*+"')


def read(column: SecretColumn, stored: bytes | None, scope: str = "") -> list[SecretValue]:
    """The secret values in `stored` (the column's bytes, None for NULL): at least one, so that each row is accounted for.

    `stored` of a SPLIT_RAW column is the joined form (see `split_form`); the KEY_ID column beside it is accounted for there, and has no values.
    `scope` is the row's namespace, which payloads of the secrets manager belong to.
    """
    if column.shape is Shape.KEY_ID:
        return []
    if not stored:
        return [SecretValue(None, State.EMPTY)]
    if column.shape is Shape.SPLIT_RAW:
        return [_from_joined(None, stored, (0, len(stored)), scope)]
    if column.shape is Shape.RAW:
        return [_from_bytes(column, None, stored, (0, len(stored)), "")]
    if column.shape is Shape.BASE64:
        return [_from_text(column, None, stored, (0, len(stored)), "")]
    try:
        if pairs := [pattern for pattern in column.json_paths if pattern.data_key_id is not None]:
            return [value for pattern in pairs for value in _from_pairs(pattern, stored, scope)] or [SecretValue(None, State.EMPTY)]
        places = [(leaf, prefix) for leaf in document.leaves(stored) if (prefix := _place(column, leaf)) is not None]
        values = [value for leaf, prefix in places for value in _from_leaf(column, stored, leaf, prefix)]
    except PayloadError as error:
        return [SecretValue(None, State.UNREADABLE, reason=error.reason)]
    return values or [SecretValue(None, State.EMPTY)]


def read_place(column: SecretColumn, text: bytes, scope: str = "") -> SecretValue:
    """The secret value that stands as `text` at its place in the column: as the whole of it, or in JSON as a string with its quotes.

    A pair of payload and data key id stands as the object that holds both.
    """
    if column.shape is Shape.SPLIT_RAW:
        return _from_joined(None, text, (0, len(text)), scope)
    if column.shape is Shape.RAW:
        return _from_bytes(column, None, text, (0, len(text)), "")
    if column.shape is Shape.BASE64:
        return _from_text(column, None, text, (0, len(text)), "")
    try:
        if pairs := [pattern for pattern in column.json_paths if pattern.data_key_id is not None]:
            return next(_from_pairs(JsonPath(pairs[0].steps[-1:], "", pairs[0].data_key_id), text, scope))
        leaf = next(iter(document.leaves(text)))
        string = document.string_at(text, leaf) if leaf.kind is Kind.STRING else ""
    except PayloadError as error:
        return SecretValue(None, State.UNREADABLE, reason=error.reason)
    prefix = next((pattern.prefix for pattern in column.json_paths if pattern.prefix and string.startswith(pattern.prefix)), "")
    return _from_leaf(column, text, leaf, prefix)[0]


def write(column: SecretColumn, stored: bytes, replacements: Iterable[tuple[SecretValue, bytes]]) -> bytes:
    """`stored` with new payloads in place of values that `read` returned, in `read`'s order, each encoded as the column demands.

    Payloads of the secrets manager are given in the joined form.
    """
    edits = []
    for value, new in replacements:
        if value.pair is not None:
            payload, key_id = split_form.split(new)
            at_payload, at_key_id = value.pair
            texts = ((*at_payload, b'"%b"' % base64_text.encode(payload, column.base64)), (*at_key_id, json.dumps(key_id.decode()).encode()))
            edits += sorted(texts)
            continue
        text = value.prefix.encode() + base64_text.encode(new, column.base64)
        edits.append((*value.span, b'"%b"' % text if value.path is not None else text))
    return document.splice(stored, edits)


def _place(column: SecretColumn, leaf: Leaf) -> str | None:
    """The prefix of the payload at `leaf`, or None where no secret belongs there."""
    path = leaf.path
    if column.shape is Shape.JSON_MAP:
        if not path and leaf.kind not in (Kind.OBJECT, Kind.NULL):
            raise PayloadError(Reason.MALFORMED_JSON)
        return "" if len(path) == 1 else None
    if column.shape is Shape.JSON_PATHS:
        return next((pattern.prefix for pattern in column.json_paths if pattern.matches(path)), None)
    if not path or not isinstance(path[-1], str) or leaf.kind in (Kind.OBJECT, Kind.ARRAY):
        return None  # Grafana's migrator recurses into both and leaves strings in arrays alone
    key = path[-1].lower()
    return "" if any(word in key for word in column.secret_key_contains) else None


def _from_leaf(column: SecretColumn, stored: bytes, leaf: Leaf, prefix: str) -> list[SecretValue]:
    if leaf.kind is Kind.NULL:
        return [SecretValue(leaf.path, State.EMPTY)]
    if leaf.kind is not Kind.STRING:
        if column.shape is Shape.JSON_BY_KEY:  # `"allow_insecure_certificate": true` is a setting, not a secret
            return [SecretValue(leaf.path, State.PLAINTEXT)]
        return [SecretValue(leaf.path, State.UNREADABLE, reason=Reason.NOT_A_STRING)]
    text = document.string_at(stored, leaf)
    if not text:
        return [SecretValue(leaf.path, State.EMPTY)]
    if not text.startswith(prefix):
        return [SecretValue(leaf.path, State.PLAINTEXT)]
    return [_from_text(column, leaf.path, text.removeprefix(prefix).encode(), (leaf.start, leaf.end), prefix)]


def _from_text(column: SecretColumn, path: Path | None, text: bytes, span: tuple[int, int], prefix: str) -> SecretValue:
    try:
        payload = base64_text.decode(text)
    except PayloadError as error:
        if prefix or _was_a_payload(text):
            return SecretValue(path, State.UNREADABLE, reason=error.reason)
        return SecretValue(path, State.PLAINTEXT)
    return _from_bytes(column, path, payload, span, prefix)


def _from_bytes(column: SecretColumn, path: Path | None, payload: bytes, span: tuple[int, int], prefix: str) -> SecretValue:
    try:
        parsed = payloads.parse(payload)
    except PayloadError as error:
        anonymous = payload[:1] not in (b"#", b"*")
        if error.reason is Reason.TOO_SHORT and anonymous and not prefix and not payload[:8].isalnum():
            return SecretValue(path, State.PLAINTEXT)  # "Bearer" is base64 too
        return SecretValue(path, State.UNREADABLE, reason=error.reason)
    if not parsed.could_be_grafanas:
        # A setting such as /etc/grafana/tls/certificate may stand under a secret's key in plain text; elsewhere nothing but payloads belongs.
        if column.shape is Shape.JSON_BY_KEY or (column.shape is Shape.RAW and payload[:1] in (b"{", b"[")):
            return SecretValue(path, State.PLAINTEXT)
        return SecretValue(path, State.UNREADABLE, reason=Reason.NOT_A_PAYLOAD)
    return SecretValue(path, State.PAYLOAD, parsed, span=span, prefix=prefix)


def _from_joined(
    path: Path | None, joined: bytes, span: tuple[int, int], scope: str, pair: tuple[tuple[int, int], tuple[int, int]] | None = None
) -> SecretValue:
    """A value of the secrets manager; its salt is any bytes, so nothing but its form says that it is Grafana's."""
    try:
        payload, key_id = split_form.split(joined)
        parsed = manager_payload.parse(payload, key_id.decode(), scope)
    except PayloadError as error:
        return SecretValue(path, State.UNREADABLE, reason=error.reason)
    return SecretValue(path, State.PAYLOAD, parsed, span=span, pair=pair)


def _from_pairs(pattern: JsonPath, stored: bytes, scope: str) -> Iterator[SecretValue]:
    """The values of `pattern` in a document: one for each thing that stands where the object of a pair belongs."""
    parents: dict[Path, list[Leaf]] = {}
    members: dict[Path, list[Leaf]] = {}
    for leaf in document.leaves(stored):
        if pattern.matches_parent(leaf.path):
            parents.setdefault(leaf.path, []).append(leaf)
        elif leaf.path and leaf.path[-1] in (pattern.steps[-1], pattern.data_key_id) and pattern.matches_parent(leaf.path[:-1]):
            members.setdefault(leaf.path, []).append(leaf)
    for path, found in parents.items():
        payloads_here, ids_here = (members.get((*path, str(name)), []) for name in (pattern.steps[-1], pattern.data_key_id))
        yield _from_pair((*path, str(pattern.steps[-1])), stored, found, payloads_here, ids_here, scope)


def _from_pair(path: Path, stored: bytes, parents: list[Leaf], payloads_here: list[Leaf], ids_here: list[Leaf], scope: str) -> SecretValue:
    parent = parents[0]
    if max(len(parents), len(payloads_here), len(ids_here)) > 1:  # a key that stands twice: which of them counts is left to each reader
        return SecretValue(path, State.UNREADABLE, reason=Reason.MALFORMED_JSON)
    if parent.kind not in (Kind.OBJECT, Kind.NULL):
        return SecretValue(path[:-1], State.UNREADABLE, reason=Reason.NOT_A_PAYLOAD)
    if not payloads_here or payloads_here[0].kind is Kind.NULL:
        return SecretValue(path, State.EMPTY)
    at_payload = payloads_here[0]
    if at_payload.kind is not Kind.STRING:
        return SecretValue(path, State.UNREADABLE, reason=Reason.NOT_A_STRING)
    text = document.string_at(stored, at_payload)
    if not text:
        return SecretValue(path, State.EMPTY)
    if not ids_here or ids_here[0].kind is not Kind.STRING or not (key_id := document.string_at(stored, ids_here[0])):
        return SecretValue(path, State.UNREADABLE, reason=Reason.BAD_KEY_ID)
    try:
        payload = base64_text.decode(text.encode())
    except PayloadError as error:
        return SecretValue(path, State.UNREADABLE, reason=error.reason)
    pair = ((at_payload.start, at_payload.end), (ids_here[0].start, ids_here[0].end))
    return _from_joined(path, split_form.joined(payload, key_id.encode()), (parent.start, _end_of_object(stored, parent.start)), scope, pair)


def _end_of_object(document: bytes, start: int) -> int:
    """The offset after the object that opens at `start` of a well-formed document."""
    depth = 0
    for token in _BRACES_AND_STRINGS.finditer(document, start):
        depth += {b"{": 1, b"}": -1}.get(token[0], 0)
        if depth == 0:
            return token.end()
    raise PayloadError(Reason.MALFORMED_JSON)


def _was_a_payload(text: bytes) -> bool:
    """Whether `text`, which is no base64, begins as the base64 of a payload does: a damaged one, not plaintext."""
    if text.startswith(_LEGACY_START):
        return True
    if not text.startswith(b"I") or not _BASE64_ALPHABET.issuperset(text[:12]):
        return False
    start = base64_text.decode(text[: min(len(text), 12) // 4 * 4])
    return start[:1] == b"#" and len(start) > 1 and _BASE64_ALPHABET.issuperset(start[1:].partition(b"#")[0])
