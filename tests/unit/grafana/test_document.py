"""JSON edited in place: every byte that is no payload stays, and malformed documents are told from good ones as Go does."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reencrypt.errors import PayloadError
from reencrypt.grafana import document
from reencrypt.grafana.document import Kind, Path

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)


def strings(value: Any, path: Path = ()) -> list[tuple[Path, str]]:
    """What `leaves` should find, by the standard library's reading."""
    if isinstance(value, str):
        return [(path, value)]
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for key, member in members for found in strings(member, (*path, key))]


def replaced(text: str) -> str:
    """Lone surrogates as Go reads them."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


@given(JSON, st.sampled_from([None, 1, 3]), st.booleans())
def test_every_string_is_found_at_its_path(value: Any, indent: int | None, ascii_only: bool) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    found = [(leaf.path, document.string_at(text, leaf)) for leaf in document.leaves(text) if leaf.kind is Kind.STRING]
    assert found == [(tuple(replaced(p) if isinstance(p, str) else p for p in path), replaced(string)) for path, string in strings(value)]


@given(JSON, st.data())
def test_only_the_replaced_strings_change(value: Any, data: st.DataObject) -> None:
    text = json.dumps(value, indent=2).encode()
    leaves = [leaf for leaf in document.leaves(text) if leaf.kind is Kind.STRING]
    chosen = [leaf for leaf in leaves if data.draw(st.booleans())]
    edited = document.splice(text, [(leaf.start, leaf.end, b'"new"') for leaf in chosen])
    expected = text
    for leaf in reversed(chosen):
        expected = expected[: leaf.start] + b'"new"' + expected[leaf.end :]
    assert edited == expected
    json.loads(edited)


@given(st.binary(max_size=60) | st.text('{}[],:"\\ntrue0123.eE+- \n', max_size=40).map(str.encode))
def test_what_the_standard_library_refuses_is_refused_and_nothing_else_is_raised(text: bytes) -> None:
    try:
        found = list(document.leaves(text))
    except PayloadError:
        assert not document.is_json(text)
        return
    assert found
    try:
        text.decode()
    except UnicodeDecodeError:
        return
    assert document.is_json(text)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b" ",
        b"{",
        b"[1,]",
        b'{"a":1,}',
        b"{1:2}",
        b'{"a" 1}',
        b"01",
        b"1.",
        b"+1",
        b"NaN",
        b"nul",
        b'"\x01"',
        b'"\\x"',
        b'"\\u12"',
        b"1 2",
        b"[}",
        b'{"a":1]',
        b"\xef\xbb\xbf{}",
    ],
)
def test_malformed_documents_are_refused(text: bytes) -> None:
    with pytest.raises(PayloadError):
        list(document.leaves(text))
    assert not document.is_json(text)


def test_depth_and_size_end_in_an_error_or_an_answer_never_in_a_crash() -> None:
    with pytest.raises(PayloadError):
        list(document.leaves(b"[" * 200_000))
    assert not document.is_json(b"[" * 200_000)
    long = b'"' + b"a\\n" * 500_000 + b'"'
    assert document.is_json(b'{"a":' + long + b"}")
    assert [leaf.kind for leaf in document.leaves(b"[" + long + b"]")] == [Kind.ARRAY, Kind.STRING]


@pytest.mark.parametrize("text", [b'["\xed\xa0\x80"]', b'["\\n\xed\xa0\x80"]', b'["\xff"]', b'["\\n\xff"]', b'{"\\n\xed\xa0\x80":""}'])
def test_bytes_that_are_not_utf_8_are_refused_with_and_without_an_escape_beside_them(text: bytes) -> None:
    with pytest.raises(PayloadError):
        [document.string_at(text, leaf) for leaf in document.leaves(text) if leaf.kind is Kind.STRING]
    assert not document.is_json(text)


@pytest.mark.parametrize("text", [b"9" * 5000, b"-" + b"9" * 5000 + b"e99999", b"0." + b"9" * 5000])
def test_a_number_of_any_length_is_json(text: bytes) -> None:
    assert document.is_json(text)


@pytest.mark.parametrize("depth", [900, 990, document.MAXIMUM_DEPTH])
def test_how_deep_json_may_be_does_not_depend_on_who_asks(depth: int) -> None:
    """json.loads runs out of stack at a depth that is the less, the deeper its caller stands."""
    text = b"[" * depth + b"]" * depth
    assert document.is_json(text)
    assert len(list(document.leaves(text))) == depth


def test_a_duplicate_key_is_found_each_time() -> None:
    text = b'{"a":"1","a":"2"}'
    assert [document.string_at(text, leaf) for leaf in document.leaves(text) if leaf.kind is Kind.STRING] == ["1", "2"]
