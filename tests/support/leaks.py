"""Search what a run emits for secrets: `Searcher(needles).search(emissions)` tells place, needle and encoding of each leak, never the needle.

A needle is looked for in the forms that code gives it by accident (raw, hex, base64 at each alignment, a list of numbers, UTF-16, a wrong character
set), and each emission is looked at with its layers taken off, in any order up to three deep: gzip, base64, backslash escapes (JSON, Python,
PostgreSQL), HTML and percent escapes, wrapped lines. Of longer needles the beginning and the end count too, since messages are cut off.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import gzip
import hashlib
import html
import re
import urllib.parse
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

SHORTEST = 6  # bytes; what is shorter occurs by chance
PIECE = 16
DEPTH = 3

Named = tuple[str, str]
"""(a needle's name, an encoding)"""


@dataclass(frozen=True)
class Needle:
    """A secret and what to call it. `in_pieces`: its beginning and its end are secrets too."""

    name: str
    value: bytes = field(repr=False)
    in_pieces: bool = True


@dataclass(frozen=True)
class Emission:
    """Something that came out, and where."""

    place: str
    content: bytes = field(repr=False)


@dataclass(frozen=True)
class Leak:
    """A needle that came out."""

    place: str
    needle: str
    encoding: str


class Searcher:
    """Looks for `needles`. Those named in `excused`, with the reason why they may come out, are told in `seen_excused` instead.

    `too_short` are the names of needles that are not looked for: a test states them.
    """

    def __init__(self, needles: Iterable[Needle], excused: Mapping[str, str] | None = None) -> None:
        self._excused = dict(excused or {})
        self.too_short: list[str] = []
        self.seen_excused: list[Leak] = []
        self.names: list[str] = []
        forms: dict[bytes, Named] = {}
        for needle in needles:
            if len(needle.value) < SHORTEST:
                self.too_short.append(needle.name)
                continue
            self.names.append(needle.name)
            for part, value in _parts(needle):
                for encoding, form in _forms(value):
                    if len(form) >= SHORTEST:
                        forms.setdefault(form, (f"{part}{needle.name}", encoding))
        self._indexes = [_Index(size, forms) for size in _SIZES]
        if unknown := self._excused.keys() - set(self.names):
            raise ValueError(f"excused, but no needle: {sorted(unknown)}")

    def search(self, emissions: Iterable[Emission]) -> list[Leak]:
        """Every leak, each once."""
        found: dict[Leak, None] = {}
        known: set[bytes] = set()
        for emission in emissions:
            digest = hashlib.sha256(emission.content).digest()
            if digest not in known:
                known.add(digest)
                found.update(dict.fromkeys(self._leaks(emission)))
        excused = [leak for leak in found if leak.needle in self._excused]
        self.seen_excused += excused
        return [leak for leak in found if leak.needle not in self._excused]

    def _leaks(self, emission: Emission) -> Iterator[Leak]:
        for layers, content in _views(emission.content):
            for index in self._indexes:
                for needle, encoding in index.hits(content):
                    yield Leak(emission.place, needle, " in ".join((encoding, *reversed(layers))))


@dataclass(frozen=True)
class _Size:
    """Forms of `shortest` bytes and more, up to those of the next size, are found by looking at `width` bytes every `stride` bytes."""

    shortest: int
    longest: int | None
    width: int

    @property
    def stride(self) -> int:
        """Wherever a form begins, one of its first `stride` windows stands at a multiple of it."""
        return self.shortest - self.width + 1


_SIZES = (_Size(SHORTEST, 14, 4), _Size(15, None, 6))


class _Index:
    """The forms of one size, by their first windows."""

    def __init__(self, size: _Size, forms: Mapping[bytes, Named]) -> None:
        self._width, self._stride = size.width, size.stride
        self._windows: dict[bytes, list[tuple[int, bytes, Named]]] = {}
        for form, named in forms.items():
            if size.shortest <= len(form) <= (size.longest or len(form)):
                for offset in range(size.stride):
                    self._windows.setdefault(form[offset : offset + size.width], []).append((offset, form, named))

    def hits(self, content: bytes) -> Iterator[Named]:
        """What stands in `content`, as often as it does."""
        if not self._windows:
            return
        windows, width = self._windows, self._width
        for at in [at for at in range(0, len(content) - width + 1, self._stride) if content[at : at + width] in windows]:
            for offset, form, named in windows[content[at : at + width]]:
                if offset <= at and content.startswith(form, at - offset):
                    yield named


def told(leaks: Iterable[Leak]) -> str:
    """The leaks as a test's message."""
    return "\n".join(f"{leak.place}: {leak.needle} ({leak.encoding})" for leak in leaks)


def _parts(needle: Needle) -> Iterator[tuple[str, bytes]]:
    yield "", needle.value
    if needle.in_pieces and len(needle.value) > PIECE:
        yield "beginning of ", needle.value[:PIECE]
        yield "end of ", needle.value[-PIECE:]


def _forms(value: bytes) -> Iterator[tuple[str, bytes]]:
    """(name of the encoding, the bytes to look for)."""
    yield "raw", value
    digits = value.hex()
    for name, text in (("hex", digits), ("hex with colons", value.hex(":")), ("hex with spaces", value.hex(" "))):
        yield name, text.encode()
        yield name.replace("hex", "HEX"), text.upper().encode()
    for separator in (", ", ","):
        yield "numbers", separator.join(map(str, value)).encode()
    for alignment in range(3):
        standard = _aligned_base64(value, alignment)
        yield f"base64 at {alignment}", standard
        yield f"base64url at {alignment}", standard.translate(_TO_URL)
    yield "Latin-1 read as UTF-8", value.decode("latin-1").encode()
    for errors in ("replace", "ignore", "backslashreplace"):
        yield f"UTF-8 with errors={errors}", value.decode(errors=errors).encode()
    for codec in ("utf-16-le", "utf-16-be"):
        yield codec, value.decode("latin-1").encode(codec)
    with contextlib.suppress(UnicodeDecodeError):
        text = value.decode()
        yield "UTF-7", text.encode("utf-7")
        for codec in ("utf-16-le", "utf-16-be"):
            yield codec, text.encode(codec)
        with contextlib.suppress(UnicodeEncodeError):
            yield "Latin-1", text.encode("latin-1")


_TO_URL = bytes.maketrans(b"+/", b"-_")
_FROM_URL = bytes.maketrans(b"-_", b"+/")


def _aligned_base64(value: bytes, alignment: int) -> bytes:
    """The characters of base64 that `value` alone decides when it begins `alignment` bytes after a multiple of three."""
    encoded = base64.b64encode(bytes(alignment) + value)
    first = -(-alignment * 8 // 6)
    return encoded[first : (alignment + len(value)) * 8 // 6]


def _views(content: bytes) -> Iterator[tuple[tuple[str, ...], bytes]]:
    """`content` and what is left of it when layers are taken off, with the names of the layers, the outermost first; each text once."""
    known = {hashlib.sha256(content).digest()}
    level: list[tuple[tuple[str, ...], bytes]] = [((), content)]
    yield level[0]
    for _ in range(DEPTH):
        below: list[tuple[tuple[str, ...], bytes]] = []
        for layers, outer in level:
            for name, peel in (_LAYERS if _is_text(outer) else {"gzip": _gzip}).items():
                inner = peel(outer)
                if inner and (digest := hashlib.sha256(inner).digest()) not in known:
                    known.add(digest)
                    below.append(((*layers, name), inner))
                    yield below[-1]
        level = below


_ESCAPE = re.compile(
    rb"\\(?:u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|x([0-9a-fA-F]{2})|([0-7]{3})|([\"'\\/bfnrtav]))"
)
_SHORT = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"a": b"\a", b"v": b"\v"}
_ENTITY = re.compile(rb"&(?:#([0-9]{1,7})|#[xX]([0-9a-fA-F]{1,6})|[A-Za-z][A-Za-z0-9]{1,30});")
_NO_CONTROLS = bytes(code for code in range(256) if code >= 32 or code in b"\t\n\v\f\r")
_BASE64_RUN = re.compile(rb"[A-Za-z0-9+/_-]{24,}")
_WRAP = re.compile(rb"(?<=[A-Za-z0-9+/_=-]{16})\r?\n[ \t]*(?=[A-Za-z0-9+/_-])")


def _backslashes(content: bytes) -> bytes:
    return _ESCAPE.sub(_escaped, content) if b"\\" in content else b""


def _text_backslashes(content: bytes) -> bytes:
    """As ascii() spells a text: `\\xe4` is the letter, where in a repr of bytes it is the byte."""
    return _ESCAPE.sub(lambda found: chr(int(found[5], 16)).encode() if found[5] else _escaped(found), content) if b"\\x" in content else b""


def _escaped(found: re.Match[bytes]) -> bytes:
    high, low, short_code, long_code, pair, octal, letter = found.groups()
    if high is not None:
        return (bytes.fromhex(high.decode()) + bytes.fromhex(low.decode())).decode("utf-16-be").encode()
    if pair is not None:
        return bytes.fromhex(pair.decode())
    if octal is not None:
        return bytes((int(octal, 8) & 0xFF,))
    if letter is not None:
        return _SHORT.get(letter, letter)
    code = int(short_code or long_code, 16)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that Python took for text with errors=surrogateescape
        return bytes((code & 0xFF,))
    return chr(code).encode(errors="surrogatepass") if code <= 0x10FFFF else found[0]


def _entities(content: bytes) -> bytes:
    return _ENTITY.sub(_entity, content) if b"&" in content else b""


def _entity(found: re.Match[bytes]) -> bytes:
    decimal, hexadecimal = found.groups()
    if decimal is None and hexadecimal is None:
        return html.unescape(found[0].decode()).encode()
    code = int(decimal) if decimal else int(hexadecimal, 16)  # not html.unescape, which makes another character of a control character
    return chr(code).encode(errors="surrogatepass") if code <= 0x10FFFF else found[0]


def _percents(content: bytes) -> bytes:
    return urllib.parse.unquote_to_bytes(content) if b"%" in content else b""


def _form(content: bytes) -> bytes:
    """application/x-www-form-urlencoded: a plus is a space."""
    return urllib.parse.unquote_to_bytes(content.replace(b"+", b" ")) if b"%" in content and b"+" in content else b""


def _base64_runs(content: bytes) -> bytes:
    """The texts that long stretches of base64 decode to. (Secrets themselves in base64 are among the forms.) Gzip in them is unpacked."""
    decoded = []
    for run in _BASE64_RUN.findall(content):
        with contextlib.suppress(binascii.Error):
            inner = base64.b64decode(run[: len(run) - (len(run) % 4 == 1)].translate(_FROM_URL) + b"==")
            decoded.append(_gzip(inner) or inner)
    return b"\n".join(text for text in decoded if _is_text(text))


def _is_text(content: bytes) -> bool:
    """Not for certain, but ciphertexts and the like are not: a ninth of random bytes are control characters."""
    return len(content.translate(None, _NO_CONTROLS)) * 20 <= len(content)


def _gzip(content: bytes) -> bytes:
    if not content.startswith(b"\x1f\x8b"):
        return b""
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error):
        return b""


def _unwrapped(content: bytes) -> bytes:
    return _WRAP.sub(b"", content) if b"\n" in content else b""


_LAYERS: Mapping[str, Callable[[bytes], bytes]] = {
    "gzip": _gzip,
    "backslash escapes": _backslashes,
    "backslash escapes of a text": _text_backslashes,
    "HTML": _entities,
    "percent escapes": _percents,
    "a web form": _form,
    "base64 text": _base64_runs,
    "wrapped lines": _unwrapped,
}
