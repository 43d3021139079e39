"""References to data keys: which keys the payloads in some bytes are under, wherever in the bytes they stand, whatever the column is for.

A payload may be the whole value or stand inside JSON, inside other text, several in one value; raw, as base64 (padded or not, at any
position of the text and at any of the three alignments: a value may have been encoded together with what stands around it), as base64 of
base64, or as hexadecimal digits. JSON's `\\/` and line breaks within base64 are seen through. What is not seen: compressed or otherwise
encrypted values, and payloads that name neither a data key nor an algorithm (Grafana 8.2 and older), which look like any bytes.

What counts, since a reference that is missed costs a secret, and one that is none only keeps a key:

* `#<base64 of the id of a known key>#`, whatever follows; and the id itself where it is the whole value (`secret_encrypted_value.data_key_id`)
  or a JSON string (`"dataKeyId":"…"`).
* `#<base64>#` and one of the two named algorithms (`*YWVzLWNmYg*`, `*YWVzLWdjbQ*`), where the base64 is of 1 to 100 letters, digits or `_-./@ `.
* `#<base64>#` and at least 24 bytes (the smallest body), where the base64 is exactly that of an id of a shape that Grafana draws: 9 to 40 of
  `[A-Za-z0-9_-]`, or a label of 8.x (`2021-11-29/root@secretKey`). `#abc#`, `#fff#` and pictures are not.
* A named algorithm that no such `#…#` stands before is a payload under `secret_key`.

Source: grafana-format.md 1.5, 2.3, 3.4, 6, 11.4; Grafana pkg/services/secrets/manager/manager.go (12.4). Knows nothing of databases.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence

from reencrypt.errors import PayloadError
from reencrypt.grafana import base64_text, cipher
from reencrypt.grafana.base64_text import Base64
from reencrypt.grafana.key_ring import SECRET_KEY
from reencrypt.grafana.payload import CFB_PREFIX, GCM_PREFIX

_NAMED = (CFB_PREFIX, GCM_PREFIX)
_BODY_BYTES = min(cipher.MINIMUM_BYTES.values())
_ID_CHARACTERS = 100  # data_keys.name, secret_data_key.uid: VARCHAR(100)
_ENCODED_ID = -(-_ID_CHARACTERS * 4 // 3)
_HEAD_BYTES = 2 + _ENCODED_ID + _BODY_BYTES  # as much of an envelope as decides
_HEAD_CHARACTERS = -(-(_HEAD_BYTES + 3) * 4 // 3)
_ENVELOPE = re.compile(rb"#([A-Za-z0-9+/]{2,%d})(?=#)" % _ENCODED_ID)
_HEX_ENVELOPE = re.compile(rb"23(?=(?:2[bBfF]|3[0-9]|[46][1-9a-fA-F]|[57][0-9aA]){2,%d}23)" % _ENCODED_ID)
_HEX = re.compile(rb"(?:[0-9a-fA-F]{2}){4,%d}" % _HEAD_BYTES)
_GENERATED_ID = re.compile(r"[A-Za-z0-9_-]{9,40}|\d{4}-\d\d-\d\d/[!-~][ -~]{0,88}", re.ASCII)
_READABLE_ID = re.compile(r"[A-Za-z0-9_./@ -]{1,100}", re.ASCII)
_JSON_STRING = re.compile(rb'"(?=([A-Za-z0-9_./@-]{1,100})")')

# Base64 is looked for in runs of it. Any envelope is longer than this by far, and most words are shorter. `-_`: the alphabet for URLs.
_RUN = re.compile(rb"[A-Za-z0-9+/_-]{16,}")
_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_STANDARD = bytes.maketrans(b"-_", b"+/")
_ANY = range(256)
# JSON's escapes of line breaks; what is left of other escapes, and of these where JSON stands within JSON, are backslashes, which go too.
_ESCAPES = (b"\\n", b"\\r")
_INTERRUPTIONS = b"\r\n\\"


def find(stored: bytes, known: Collection[str]) -> Counter[str]:
    """How many payloads stand in `stored` under each data key, by its id, and under SECRET_KEY where they name an algorithm but no key.

    `known` are the ids of the data keys that exist (a set or mapping: it is asked often); other ids are counted where what stands there can
    only be an envelope. Takes time in proportion to the size of `stored`, and never raises.
    """
    found: Counter[str] = Counter()
    if len(stored) <= 4 * _ID_CHARACTERS and (whole := stored.strip().decode(errors="replace")) in known:
        found[whole] += 1
    found.update(_raw(stored, known))
    text = _joined(stored)
    if known:
        found.update(name for string in _JSON_STRING.findall(text) if (name := string.decode()) in known)
    if runs := b"=".join(_RUN.findall(text)):
        found.update(_in_base64(runs, known))
        found.update(_in_hex(runs, known))
    return found


def _joined(stored: bytes) -> bytes:
    """`stored` without what may interrupt base64: line breaks, and JSON's escapes of them and of `/`, also within JSON within JSON."""
    if b"\\" in stored:
        for escape in _ESCAPES:
            stored = stored.replace(escape, b"")
    return stored.translate(None, _INTERRUPTIONS) if any(byte in stored for byte in _INTERRUPTIONS) else stored


def _key(head: bytes, known: Collection[str]) -> tuple[str, int] | None:
    """The key of the envelope that `head` begins with and where its payload begins; None where it is none."""
    opened = _ENVELOPE.match(head)
    if opened is None:
        return None
    try:
        name = base64_text.decode(opened[1]).decode()
    except (PayloadError, UnicodeDecodeError):
        return None
    start = opened.end() + 1
    if name in known:
        return name, start
    if head.startswith(_NAMED, start):
        return (name, start) if _READABLE_ID.fullmatch(name) else None
    sure = len(head) - start >= _BODY_BYTES and _GENERATED_ID.fullmatch(name) and base64_text.encode(name.encode(), Base64.RAWSTD) == opened[1]
    return (name, start) if sure else None


def _raw(text: bytes, known: Collection[str]) -> Iterator[str]:
    taken = set()
    for hit in _ENVELOPE.finditer(text):
        if key := _key(text[hit.start() : hit.start() + _HEAD_BYTES], known):
            taken.add(hit.start() + key[1])
            yield key[0]
    for prefix in _NAMED:
        yield from (SECRET_KEY for position in _positions(prefix, text) if position not in taken)


def _in_hex(runs: bytes, known: Collection[str]) -> Iterator[str]:
    taken = set()
    for hit in _HEX_ENVELOPE.finditer(runs):
        digits = _HEX.match(runs, hit.start())
        if digits and (key := _key(bytes.fromhex(digits[0].decode()), known)):
            taken.add(hit.start() + 2 * key[1])
            yield key[0]
    for prefix in _NAMED:
        for digits_of in (prefix.hex().encode(), prefix.hex().upper().encode()):
            yield from (SECRET_KEY for position in _positions(digits_of, runs) if position not in taken)


def _in_base64(runs: bytes, known: Collection[str]) -> Iterator[str]:
    taken = set()
    for patterns, twice in ((_ONCE, False), (_TWICE, True)):
        for pad, ahead, pattern in patterns:
            for hit in pattern.finditer(runs):
                start = hit.start() - ahead
                head = _decoded(runs, start, pad, _INNER_CHARACTERS if twice else _HEAD_CHARACTERS)
                if key := _key(_decoded(head, 0, 0, _HEAD_CHARACTERS) if twice else head, known):
                    payload = _core_start(key[1]) if twice else key[1]
                    taken.add(start - _first(pad) + _core_start(pad + payload))
                    yield key[0]
    for core in _LEGACY:
        yield from (SECRET_KEY for position in _positions(core, runs) if position not in taken)


def _decoded(text: bytes, start: int, pad: int, characters: int) -> bytes:
    """What the base64 at `start` stands for, whose first byte follows `pad` others in its group of three; only of the next `characters`."""
    run = _HERE.match(text, start, start + characters)
    encoded = b"A" * _first(pad) + (run[0].translate(_STANDARD) if run else b"")
    if len(encoded) % 4 == 1:  # what no byte ends with
        encoded = encoded[:-1]
    return binascii.a2b_base64(encoded + b"===")[pad:]


def _positions(needle: bytes, text: bytes) -> Iterator[int]:
    position = text.find(needle)
    while position >= 0:
        yield position
        position = text.find(needle, position + 1)


def _first(pad: int) -> int:
    """The first of four characters that tells something of the bytes after the first `pad`."""
    return 8 * pad // 6


def _core_start(byte: int) -> int:
    """The first character that is of the bytes from `byte` on alone."""
    return -(-8 * byte // 6)


def _classes(sets: Sequence[Collection[int]], pad: int) -> list[bytes]:
    """The characters that may stand at each place of the base64 of bytes out of `sets`, after `pad` bytes of any kind."""
    padded = [_ANY] * pad + list(sets)
    classes = []
    for index in range(_first(pad), 8 * len(padded) // 6):
        byte, shift = divmod(6 * index, 8)
        following = padded[byte + 1] if shift > 2 else (0,)
        values = {((one << 8 | other) >> (10 - shift)) & 63 for one in padded[byte] for other in following}
        classes.append(bytes(_ALPHABET[value] for value in sorted(values)))
    return classes


def _pattern(classes: Sequence[bytes]) -> tuple[int, re.Pattern[bytes]]:
    """Finds every place where such characters stand, overlapping ones too; the hit begins some characters ahead, where search is fastest."""
    parts = [b"[" + re.escape(characters) + b"]" if len(characters) > 1 else characters for characters in classes]
    ahead = next((index for index, characters in enumerate(classes) if len(characters) == 1), 0)
    behind = b"(?<=" + b"".join(parts[: ahead + 1]) + b")" if ahead else b""
    return ahead, re.compile(parts[ahead] + behind + b"(?=" + b"".join(parts[ahead + 1 :]) + b")")


def _core(literal: bytes, pad: int) -> bytes:
    """The part of the base64 of `literal`, after `pad` bytes, that is the same whatever stands around it."""
    return base64.b64encode(bytes(pad) + literal)[_core_start(pad) : 8 * (pad + len(literal)) // 6]


_HERE = re.compile(rb"[A-Za-z0-9+/_-]+")
_INNER_CHARACTERS = _HEAD_CHARACTERS * 4 // 3 + 4
_OPENING = (b"#", _ALPHABET, _ALPHABET, _ALPHABET + b"#")
_ONCE = [(pad, *_pattern(_classes(_OPENING, pad))) for pad in range(3)]
_TWICE = [(pad, *_pattern(_classes(_classes(_OPENING, 0), pad))) for pad in range(3)]
_LEGACY = [_core(literal, pad) for prefix in _NAMED for literal in (prefix, base64.b64encode(prefix)) for pad in range(3)]
