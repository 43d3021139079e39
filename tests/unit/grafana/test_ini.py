"""grafana.ini is read as go-ini 1.67.0 reads it; each expected value was compared with the real go-ini."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reencrypt.errors import ConfigurationError, InvalidIni, ReencryptError
from reencrypt.grafana import ini
from reencrypt.grafana.ini import DEFAULT_SECTION, parse


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("plain", "plain"),
        ("  spaced out \t", "spaced out"),
        ("", ""),
        ("a#b", "a"),
        ("a;b", "a"),
        ("a ; b # c", "a"),
        ('"a#b"', '"a'),
        ("'a;b'", "'a"),
        ('"quoted"', "quoted"),
        ("'quoted'", "quoted"),
        ('"a"b"', '"a"b"'),
        ('"it\'s"', "it's"),
        ('""', ""),
        ('"', '"'),
        ("`a#b;c`", "a#b;c"),
        ("`a`b` ; c", "a`b"),
        ('"""a#"b;c"""', 'a#"b;c'),
        ('"""', '"""'),
        ("a=b:c", "a=b:c"),
        (r"C:\n\t", r"C:\n\t"),
        ("\x1cnot a space to Go", "\x1cnot a space to Go"),
        ("\u00a0a space to Go", "a space to Go"),
    ],
)
def test_a_value_is_trimmed_cut_and_unquoted_as_go_ini_does(written: str, value: str) -> None:
    assert parse(f"[s]\nk = {written}").raw("s", "k") == value


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("k = one \\\n  two\nx = 1\n", "one two"),
        ("k = one\\\ntwo\\\n three # kept\nx = 1\n", "onetwothree # kept"),
        ("k = one\\\n\nx = 1\n", "one"),
        ('k = """\nfirst\n  second#\n"""\nx = 1\n', "\nfirst\n  second#\n"),
        ("k = `first\nsecond` ; comment\nx = 1\n", "first\nsecond"),
        ("k = a\r\nx = 1\r\n", "a"),
    ],
)
def test_a_value_may_span_lines_and_the_next_key_is_still_read(written: str, value: str) -> None:
    ini = parse(written)
    assert (ini.raw("DEFAULT", "k"), ini.raw("DEFAULT", "x")) == (value, "1")


@pytest.mark.parametrize(
    ("line", "key", "value"),
    [
        ("a:b=c", "a", "b=c"),
        ("a = b : c", "a", "b : c"),
        (" a b = c", "a b", "c"),
        ('"a=b" = c', "a=b", "c"),
        ("`a:b`: c", "a:b", "c"),
        ('"""a=b"""=c', "a=b", "c"),
        ("- = c", "#1", "c"),
    ],
)
def test_the_first_delimiter_outside_a_quoted_key_ends_the_key(line: str, key: str, value: str) -> None:
    assert list(parse(line).items()) == [(DEFAULT_SECTION, key, value)]


def test_comments_empty_lines_and_a_byte_order_mark_are_skipped() -> None:
    assert list(parse("\ufeff[s]\n# a = 1\n  ; b = 2\n\n\t\nc = 3").items()) == [("s", "c", "3")]


def test_a_section_name_reaches_to_the_last_bracket_and_is_not_trimmed() -> None:
    assert parse("[a]b] ; c\n[ x ]\n").sections() == [DEFAULT_SECTION, "a]b", " x "]


def test_names_are_case_sensitive_the_last_duplicate_wins_and_repeated_sections_merge() -> None:
    ini = parse("[s]\na = 1\nA = 2\n[S]\na = 3\n[s]\na = 4\nb = 5\n")
    assert list(ini.items()) == [("s", "a", "4"), ("s", "A", "2"), ("s", "b", "5"), ("S", "a", "3")]


def test_a_missing_key_is_looked_up_in_the_parent_sections() -> None:
    ini = parse("[a]\nx = 1\ny = 1\n[a.b.c]\ny = 3\n[ab]\nz = 1\n")
    assert (ini.raw("a.b.c", "x"), ini.raw("a.b.c", "y"), ini.raw("a.b.c", "z"), ini.raw("b.c", "x")) == ("1", "3", None, None)


def test_references_are_substituted_in_text_and_left_alone_in_raw() -> None:
    ini = parse("d = default\ne = wrong\n[s]\na = %(b)s-%(d)s-%(missing)s\nb = <%(e)s>\ne = right\n")
    assert ini.text("s", "a") == "<right>-default-%(missing)s"
    assert ini.raw("s", "a") == "%(b)s-%(d)s-%(missing)s"


def test_a_reference_to_itself_takes_the_default_sections_key() -> None:
    assert parse("a = 1\n[s]\na = %(a)s2\n").text("s", "a") == "12"


def test_circular_references_end() -> None:
    assert "%(" in parse("[s]\na = %(b)s\nb = %(a)s\n").text("s", "a")


def test_references_that_multiply_are_refused_instead_of_filling_the_memory() -> None:
    with pytest.raises(ConfigurationError, match=r"\[s\] a grows"):
        parse("[s]\na = %(b)s\nb = %(c)s%(c)s\nc = %(b)s%(b)s\n").text("s", "a")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[s]\nhunter2\n", 2),
        ("\n[hunter2\n", 2),
        ("[]\n", 1),
        ("a = 1\n= hunter2\n", 2),
        ('"hunter2 = 1\n', 1),
        ("a = 1\nb = `hunter2\nmore\n", 2),
        ("[s]\na = hunter2\nb = \ud800", 3),
        ("a = one\\\ntwo\nhunter2\n", 3),
    ],
)
def test_a_broken_file_is_refused_with_the_line_number_and_never_the_text(text: str, line: int) -> None:
    with pytest.raises(InvalidIni, match=rf"line {line}:") as raised:
        parse(text)
    assert "hunter2" not in str(raised.value)
    assert raised.value.__context__ is None


def test_repr_shows_no_value() -> None:
    assert "hunter2" not in repr(parse("a = hunter2"))


def _rendered(value: str) -> str:
    return f"`{value}`" if "`" not in value else f'"""{value}"""'


_VALUES = st.text().filter(lambda value: not ("`" in value and '"""' in value) and not value.startswith('"') and not value.endswith('"'))


@given(st.dictionaries(st.from_regex(r"[a-z_]{1,9}", fullmatch=True), _VALUES, min_size=1), st.from_regex(r"[a-z.]{1,20}", fullmatch=True))
def test_any_value_survives_being_rendered_and_read(values: dict[str, str], section: str) -> None:
    text = f"[{section}]\n" + "\n".join(f"{key} = {_rendered(value)}" for key, value in values.items())
    ini = parse(text)
    assert {key: ini.raw(section, key) for key in values} == values


_PIECES = ["\n", "\\\n", '"""', "`", '"', "'", "=", ":", "[", "]", "[a.b]", "%(x)s", "x = ", "#", ";", " ", "\r\n", "\ud800", "y"]


@given(st.one_of(st.text(st.characters()), st.lists(st.one_of(st.sampled_from(_PIECES), st.text(max_size=3))).map("".join)))
def test_any_text_is_read_or_refused_by_our_own_errors(text: str) -> None:
    try:
        ini = parse(text)
        for section, key, _ in ini.items():
            ini.text(section, key)
    except ReencryptError:
        pass


_GO_INIS_REFERENCE = re.compile(r"%\(([^)]+)\)s")


@given(st.text("%()sa", max_size=14))
def test_a_reference_is_found_where_go_inis_pattern_finds_it(value: str) -> None:
    found = _GO_INIS_REFERENCE.search(value)
    assert ini._reference(value) == (found and found.group(1))


@pytest.mark.parametrize("value", ["%(" * 200_000, "%(" * 200_000 + ")", "%(" * 200_000 + ")x)s", "%()" * 200_000])
def test_a_value_of_nothing_but_open_references_is_read_in_one_pass(value: str) -> None:
    """With go-ini's pattern each of them would be looked for to the end: minutes, which this test would take."""
    assert parse(f"k = {value}").text(DEFAULT_SECTION, "k") == value


def test_a_value_of_very_many_lines_is_joined_in_one_pass() -> None:
    lines = ["x"] * 200_000
    assert parse("k = `" + "\n".join(lines) + "`").raw(DEFAULT_SECTION, "k") == "\n".join(lines)
    assert parse("k = " + "\\\n".join(lines)).raw(DEFAULT_SECTION, "k") == "".join(lines)
