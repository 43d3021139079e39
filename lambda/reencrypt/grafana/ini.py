"""grafana.ini in the dialect that Grafana reads it: go-ini 1.67.0 with its default options.

Not Python's configparser: here `#` and `;` cut a value even inside quotes, a trailing backslash joins lines, `\"\"\"` and backticks quote
literally and may span lines, one pair of surrounding quotes is dropped, names are case-sensitive, and a missing key is looked up in the parent
section (`[a.b.c]`, `[a.b]`, `[a]`). Source: github.com/go-ini/ini v1.67.0 parser.go, section.go, key.go.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from reencrypt.errors import ConfigurationError, InvalidIni

DEFAULT_SECTION = "DEFAULT"
_MAXIMUM_DEPTH = 99  # go-ini gives up then, and leaves the rest as it stands
_MAXIMUM_LENGTH = 1 << 20  # ours: references that multiply each other would fill the memory
_QUOTED_KEY_BYTES = 6  # of a line, which must have more for its key to be quoted by """
# Go's unicode.IsSpace; Python's str.strip() would take more.
SPACE = "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"

_HARMLESS = re.compile(r"[\w./:@+-]*")

OnRead = Callable[[str, str, str], str]
"""(section, key, stored value) -> the value that a reader gets."""


def shown(value: str) -> str:
    """`value` as a message may show it. One with a space or a `=` may have come from two lines (a backslash joins them), of which one is a password's."""
    return value if _HARMLESS.fullmatch(value) else "(not shown: it has a space, a = or the like; a backslash at a line's end joins it with the next)"


class Ini:
    """The sections and keys of a file, as texts; `on_read` may change a value when it is read. `repr` shows no value."""

    def __init__(self, on_read: OnRead = lambda _section, _key, value: value) -> None:
        self._sections: dict[str, dict[str, str]] = {DEFAULT_SECTION: {}}
        self._on_read = on_read

    def __repr__(self) -> str:
        return f"<Ini with {len(self._sections)} sections>"

    def sections(self) -> list[str]:
        """The names of all sections, in order of first appearance."""
        return list(self._sections)

    def items(self) -> Iterator[tuple[str, str, str]]:
        """(section, key, stored value) of every key."""
        for section, keys in self._sections.items():
            for key, value in keys.items():
                yield section, key, value

    def add_section(self, section: str) -> None:
        """Makes sure that there is `section`, even without keys."""
        self._sections.setdefault(section, {})

    def set(self, section: str, key: str, value: str) -> None:
        """Sets a raw value; the last one wins."""
        self._sections.setdefault(section, {})[key] = value

    def merge(self, section: str, key: str, value: str) -> None:
        """Sets a value as Grafana lays its file over the defaults: a key that a parent section has is set there, an empty value changes nothing."""
        if value:
            self.set(self.owner(section, key) or section, key, value)

    def owner(self, section: str, key: str) -> str | None:
        """The section that has `key`: `section` itself or the nearest parent; None where there is none."""
        while key not in self._sections.get(section, {}):
            if "." not in section:
                return None
            section = section.rpartition(".")[0] or DEFAULT_SECTION
        return section

    def raw(self, section: str, key: str) -> str | None:
        """The value without substitution, from `section` or its parents; None where there is none."""
        owner = self.owner(section, key)
        return None if owner is None else self._on_read(owner, key, self._sections[owner][key])

    def text(self, section: str, key: str) -> str:
        """The value with `%(name)s` substituted, from the same section or the default one; '' where there is none."""
        owner = self.owner(section, key) or section
        value = self.raw(owner, key) or ""
        for _ in range(_MAXIMUM_DEPTH):
            name = _reference(value)
            if name is None:
                break
            other = self._referred(owner, key, name)
            if other is None:
                break
            reference = f"%({name})s"
            if len(value) + value.count(reference) * len(other) > _MAXIMUM_LENGTH:
                raise ConfigurationError(f"[{section}] {key} grows without end: its %(name)s references multiply each other")
            value = value.replace(reference, other)
        return value

    def _referred(self, section: str, key: str, name: str) -> str | None:
        """What `%(name)s` in [section] key stands for: a key of the same section (or its parents) other than itself, then one of the default section."""
        if (owner := self.owner(section, name)) and (owner, name) != (section, key):
            return self.raw(owner, name)
        return self.raw(DEFAULT_SECTION, name)


def parse(text: str) -> Ini:
    """Reads a file. Raises InvalidIni with the number of the line at fault, never with its text."""
    _check_unicode(text)
    ini, section = Ini(), DEFAULT_SECTION
    lines = text.removeprefix("\ufeff").split("\n")
    number, unnamed = 0, 0
    while number < len(lines):
        line = lines[number].lstrip(SPACE)
        number += 1
        if not line or line[0] in "#;":
            continue
        if line[0] == "[":
            end = line.rfind("]")
            if end < 0:
                raise InvalidIni(f"grafana.ini, line {number}: the section's name is not closed by ]")
            section = line[1:end]
            if not section:
                raise InvalidIni(f"grafana.ini, line {number}: the section has no name")
            ini.add_section(section)
            unnamed = 0
            continue
        key, rest = _key(line, number)
        if key == "-":  # go-ini numbers such keys
            unnamed += 1
            key = f"#{unnamed}"
        value, number = _value(rest, lines, number)
        ini.set(section, key, value)
    return ini


def _reference(value: str) -> str | None:
    """The name in the first `%(name)s`, as the pattern `%\\(([^)]+)\\)s` finds it, but in one pass: that one takes a minute for 100 000 `%(`."""
    start = value.find("%(")
    while start >= 0:
        end = value.find(")", start + 2)
        if end < 0:
            return None
        if end > start + 2 and value.startswith("s", end + 1):
            return value[start + 2 : end]
        start = value.find("%(", end)  # what begins before `end` would end there too
    return None


def _check_unicode(text: str) -> None:
    """Lone surrogates (JSON can spell them) would fail later, where the text is a password or a key."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        number = text.count("\n", 0, error.start) + 1
    else:
        return
    raise InvalidIni(f"grafana.ini, line {number}: this is not valid Unicode text")


def _key(line: str, number: int) -> tuple[str, str]:
    """(key, what follows the delimiter). A key may be quoted with `\"\"\"`, `"` or a backtick."""
    quote = line[0] if line[0] in '"`' else ""
    if line.startswith('"""') and len(line.encode()) > _QUOTED_KEY_BYTES:
        quote = '"""'
    if quote:
        end = line.find(quote, len(quote))
        if end < 0:
            raise InvalidIni(f"grafana.ini, line {number}: the key's quote is not closed")
        delimiter = _delimiter(line, end + len(quote))
        key = line[len(quote) : end].strip(SPACE)
    else:
        delimiter = _delimiter(line, 0)
        key = line[:delimiter].strip(SPACE)
    if delimiter < 0:
        raise InvalidIni(f"grafana.ini, line {number}: there is neither = nor :")
    if not key:
        raise InvalidIni(f"grafana.ini, line {number}: the key has no name")
    return key, line[delimiter + 1 :]


def _delimiter(line: str, start: int) -> int:
    return min((at for at in (line.find("=", start), line.find(":", start)) if at >= 0), default=-1)


def _value(rest: str, lines: list[str], number: int) -> tuple[str, int]:
    """(value, number of the line after it); `number` is that of the line after the key's."""
    value = rest.lstrip(SPACE)
    if not value:
        return "", number
    ends_the_file = number == len(lines)  # a lone """ there is a value, before a line break it opens one
    quote = "`" if value[0] == "`" else '"""' if value.startswith('"""') and not (value == '"""' and ends_the_file) else ""
    if quote:
        end = value.rfind(quote, len(quote))
        if end >= 0:
            return value[len(quote) : end], number
        return _quoted_lines(value[len(quote) :], quote, lines, number)
    value = value.strip(SPACE)
    if value.endswith("\\"):
        return _continued(value[:-1], lines, number)
    cut = min((at for at in (value.find("#"), value.find(";")) if at >= 0), default=-1)
    if cut >= 0:
        value = value[:cut].strip(SPACE)
    if len(value) >= 2 and value[0] in "'\"" and value.find(value[0], 1) == len(value) - 1:
        value = value[1:-1]
    return value, number


def _quoted_lines(value: str, quote: str, lines: list[str], number: int) -> tuple[str, int]:
    first, quoted = number, [value]
    while number < len(lines):
        line = lines[number]
        number += 1
        end = line.rfind(quote)
        if end >= 0:
            return "\n".join((*quoted, line[:end])), number
        quoted.append(line)
    raise InvalidIni(f"grafana.ini, line {first}: the quoted value is not closed by {quote}")


def _continued(value: str, lines: list[str], number: int) -> tuple[str, int]:
    """Joined lines; go-ini neither cuts comments nor drops quotes here."""
    joined = [value]
    while number < len(lines):
        following = lines[number].strip(SPACE)
        number += 1
        joined.append(following.removesuffix("\\"))
        if not following.endswith("\\"):
            break
    return "".join(joined), number
