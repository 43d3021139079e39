"""The leak test can fail: its searcher finds a secret in every encoding that code gives one by accident, and nothing where there is none."""

from __future__ import annotations

import base64
import gzip
import html
import json
import quopri
import random
import urllib.parse
from collections.abc import Callable

import pytest

from tests.support.leaks import Emission, Leak, Needle, Searcher, told

TEXT = Needle("the password", 'pä$$w0rd-7 with "quotes", \\ and <&> ☃ 😀 100%'.encode())
PLAIN = Needle("the token", b"ya29.access-0007-Zq3vT8")
KEY = Needle("data key 1", bytes.fromhex("00ff5c22c3e9274d0a8b3c7e9f41d2b6"))
NEEDLES = (TEXT, PLAIN, KEY)
AROUND = (b'{"level":"INFO","message":"', b'","run":"2026-11-25T12-00-00Z"}\n')

Encode = Callable[[bytes], bytes]


def latin(value: bytes) -> str:
    return value.decode("latin-1")


ENCODINGS: dict[str, Encode] = {
    "raw": bytes,
    "hex": lambda value: value.hex().encode(),
    "upper-case hex": lambda value: value.hex().upper().encode(),
    "hex with colons": lambda value: value.hex(":").encode(),
    "PostgreSQL's bytea": lambda value: b"\\x" + value.hex().encode(),
    "MySQL's literal": lambda value: b"x'" + value.hex().upper().encode() + b"'",
    "base64": base64.b64encode,
    "base64url": base64.urlsafe_b64encode,
    "base64 without padding": lambda value: base64.b64encode(value).rstrip(b"="),
    "base64 in base64": lambda value: base64.b64encode(base64.b64encode(value)),
    "base64 of a line of a log": lambda value: base64.b64encode(b"INFO: the value is " + value + b", it seems\n"),
    "base64 in lines": lambda value: base64.encodebytes(b"INFO " * 20 + value + b" and what follows it"),
    "base64 in lines in JSON": lambda value: json.dumps(base64.encodebytes(b"INFO " * 20 + value + b" and more").decode()).encode(),
    "repr of bytes": lambda value: repr(value).encode(),
    "repr of repr of bytes": lambda value: repr(repr(value)).encode(),
    "repr of a bytearray": lambda value: repr(bytearray(value)).encode(),
    "repr of text": lambda value: repr(value.decode(errors="surrogateescape")).encode(errors="surrogatepass"),
    "ascii() of text": lambda value: ascii(value.decode(errors="surrogateescape")).encode(),
    "a list of numbers": lambda value: json.dumps(list(value)).encode(),
    "a tuple in compact JSON": lambda value: json.dumps(list(value), separators=(",", ":")).encode(),
    "JSON": lambda value: json.dumps(value.decode(errors="surrogateescape")).encode(),
    "JSON in JSON": lambda value: json.dumps(json.dumps(value.decode(errors="surrogateescape"))).encode(),
    "JSON in JSON in JSON": lambda value: json.dumps(json.dumps(json.dumps(value.decode(errors="surrogateescape")))).encode(),
    "JSON in UTF-8": lambda value: json.dumps(value.decode(errors="replace"), ensure_ascii=False).encode(),
    "JSON of bytes read as Latin-1": lambda value: json.dumps(latin(value)).encode(),
    "bytes read as Latin-1": lambda value: latin(value).encode(),
    "bytes read with errors=replace": lambda value: value.decode(errors="replace").encode(),
    "bytes read with errors=ignore": lambda value: value.decode(errors="ignore").encode(),
    "bytes read with errors=backslashreplace": lambda value: value.decode(errors="backslashreplace").encode(),
    "percent": lambda value: urllib.parse.quote(value).encode(),
    "percent with every character": lambda value: "".join(f"%{byte:02x}" for byte in value).encode(),
    "a web form": lambda value: urllib.parse.urlencode({"v": value, "w": "a b"}).encode(),
    "percent twice": lambda value: urllib.parse.quote(urllib.parse.quote(value)).encode(),
    "HTML": lambda value: html.escape(value.decode(errors="replace")).encode(),
    "HTML with numbers": lambda value: "".join(f"&#{ord(letter)};" for letter in value.decode(errors="replace")).encode(),
    "HTML of JSON": lambda value: html.escape(json.dumps(value.decode(errors="surrogateescape"))).encode(),
    "JSON of HTML": lambda value: json.dumps(html.escape(value.decode(errors="replace"))).encode(),
    "gzip": lambda value: gzip.compress(b"a line\n" + value + b"\nanother\n"),
    "gzip of JSON of base64": lambda value: gzip.compress(json.dumps({"value": base64.b64encode(value).decode()}).encode()),
    "base64 of gzip": lambda value: base64.b64encode(gzip.compress(b"a line\n" + value + b"\n")),
    "UTF-16": lambda value: latin(value).encode("utf-16"),
    "big-endian UTF-16": lambda value: latin(value).encode("utf-16-be"),
    "octal escapes": lambda value: "".join(f"\\{byte:03o}" for byte in value).encode(),
}  # fmt: skip


def found(content: bytes, *needles: Needle) -> list[Leak]:
    return Searcher(needles or NEEDLES).search([Emission("a place", content)])


def is_whole(encode: Encode) -> bool:
    """Whether the encoding is of the whole stream, which nothing can then stand around."""
    return encode(b"0123456789").startswith(b"\x1f\x8b")


@pytest.mark.parametrize("needle", NEEDLES, ids=lambda needle: needle.name)
@pytest.mark.parametrize("encode", ENCODINGS.values(), ids=ENCODINGS.keys())
def test_a_secret_is_found_in_each_encoding(encode: Encode, needle: Needle) -> None:
    before, after = (b"", b"") if is_whole(encode) else AROUND
    leaks = found(before + encode(needle.value) + after)
    assert needle.name in {leak.needle for leak in leaks}
    assert {leak.needle.removeprefix("beginning of ").removeprefix("end of ") for leak in leaks} == {needle.name}


@pytest.mark.parametrize("needle", NEEDLES, ids=lambda needle: needle.name)
@pytest.mark.parametrize("alignment", range(3))
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
def test_a_secret_is_found_at_any_alignment_within_base64(encode: Encode, alignment: int, needle: Needle) -> None:
    leaks = found(encode(b"x" * (3 + alignment) + needle.value + b"and more"))
    assert needle.name in {leak.needle for leak in leaks}


def test_quoted_printable_shows_a_text_of_letters() -> None:
    assert found(quopri.encodestring(b"value " + PLAIN.value))


@pytest.mark.parametrize("cut", [lambda value: value[:16] + b"...", lambda value: b"..." + value[-16:], lambda value: value[:18] + b"..." + value[-17:]])
def test_a_secret_that_a_message_cuts_off_is_found(cut: Encode) -> None:
    leaks = found(b"input_value=" + cut(PLAIN.value))
    assert leaks
    assert all(leak.needle.endswith("of the token") for leak in leaks)


def test_nothing_is_found_where_there_is_no_secret() -> None:
    noise = random.Random(20261125)  # noqa: S311 - a fixed stream, not a secret
    ciphertexts = [noise.randbytes(200) for _ in range(200)]
    contents = [b"".join(ciphertexts), b"\n".join(map(base64.b64encode, ciphertexts)), *(encode(ciphertexts[0]) for encode in ENCODINGS.values())]
    assert Searcher(NEEDLES).search(Emission("noise", content) for content in contents) == []


def test_a_leak_is_told_by_place_name_and_encoding_and_never_by_the_secret() -> None:
    content = gzip.compress(json.dumps({"value": base64.b64encode(PLAIN.value).decode()}).encode())
    leaks = Searcher(NEEDLES).search([Emission("s3://runs/one", content)])
    assert Leak("s3://runs/one", "the token", "base64 at 0 in gzip") in leaks
    shown = told(leaks) + repr(leaks) + repr(NEEDLES) + repr(Emission("here", PLAIN.value))
    assert "s3://runs/one: the token (base64 at 0 in gzip)" in shown
    assert Searcher(NEEDLES).search([Emission("what was told", shown.encode())]) == []


def test_what_is_too_short_to_search_for_is_named() -> None:
    searcher = Searcher([Needle("pin", b"12345"), PLAIN, Needle("empty", b"")])
    assert (searcher.too_short, searcher.names) == (["pin", "empty"], ["the token"])
    assert searcher.search([Emission("here", b"12345")]) == []


def test_what_may_come_out_is_named_with_its_reason_and_still_told_apart() -> None:
    searcher = Searcher([Needle("token type", b"Bearer"), PLAIN], {"token type": "a word of HTTP"})
    leaks = searcher.search([Emission("here", b"Authorization: Bearer " + PLAIN.value)])
    assert {leak.needle for leak in leaks} == {"the token", "beginning of the token", "end of the token"}
    assert [leak.needle for leak in searcher.seen_excused] == ["token type"]
    with pytest.raises(ValueError, match="no needle"):
        Searcher([PLAIN], {"another": "a misspelt name would excuse nothing"})


def test_a_needle_that_is_only_to_be_found_whole_is_not_found_in_pieces() -> None:
    payload = Needle("payload 1", b"#YWVoM2sybTl4N3ExdGI#*YWVzLWNmYg*0123456789", in_pieces=False)
    assert found(payload.value[:30], payload) == []
    assert [leak.needle for leak in found(b"<" + payload.value + b">", payload)] == ["payload 1"]


def test_the_same_content_in_two_places_is_told_once_and_an_empty_one_is_nothing() -> None:
    emissions = [Emission("a", PLAIN.value), Emission("b", PLAIN.value), Emission("c", b"")]
    assert {leak.place for leak in Searcher(NEEDLES).search(emissions)} == {"a"}
