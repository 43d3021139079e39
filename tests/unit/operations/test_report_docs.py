"""docs/report.md says what the reports say. To write its tables anew:

PYTHONPATH=.:lambda .venv/bin/python -m tests.unit.operations.test_report_docs
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from reencrypt.operations import key_words, reasons
from reencrypt.operations.html_report import MOST_ROWS
from reencrypt.operations.reasons import Explanation, Word

_PAGE = Path(__file__).parents[3] / "docs" / "report.md"
_BLOCK = re.compile(r"(<!-- (modes|run outcomes|value outcomes|reasons|kept|ways): [^\n]*-->\n).*?(<!-- end -->)", re.DOTALL)


def _table(head: str, rows: Iterable[tuple[str, Explanation]]) -> str:
    lines = [f"| {head} | what it means | what to do |", "|---|---|---|"]
    return "\n".join([*lines, *(f"| {name} | {said.meaning} | {said.action or 'Nothing.'} |" for name, said in rows), ""])


def _named(words: Mapping[Any, Explanation]) -> Iterable[tuple[str, Explanation]]:
    return ((f"`{name}`", said) for name, said in words.items())


def _words_of_modes() -> Iterable[tuple[str, Explanation]]:
    """What an outcome means in the modes that have their own words for it; modes with the same words are one row."""
    modes: dict[tuple[str, Word], list[str]] = {}
    for mode, words in reasons.WORDS_OF_MODES.items():
        for name, word in words.items():
            modes.setdefault((name, word), []).append(f"`{mode}`")
    for (name, word), where in modes.items():
        yield f"`{name}` in {' and '.join(where)}, shown as “{word.shown}”", word.said


def _filled(page: str) -> str:
    modes = "\n".join(["| mode | what it is for |", "|---|---|", *(f"| `{mode}` | {text} |" for mode, text in reasons.MODES.items()), ""])
    tables = {
        "modes": modes,
        "run outcomes": _table("outcome", _named(reasons.RUN_OUTCOMES)),
        "value outcomes": _table("outcome", [*_named(reasons.VALUE_OUTCOMES), *_words_of_modes()]),
        "reasons": _table("reason", _named(reasons.REASONS)),
        "kept": _table("kept because", _named(key_words.KEPT)),
        "ways": _table("how", _named(key_words.WAYS)),
    }
    return _BLOCK.sub(lambda found: found[1] + tables[found[2]] + found[3], page)


def test_the_page_explains_each_outcome_and_each_reason_in_the_words_of_the_report() -> None:
    page = _PAGE.read_text()
    assert [found[2] for found in _BLOCK.finditer(page)] == ["run outcomes", "modes", "value outcomes", "reasons", "ways", "kept"]
    assert page == _filled(page), f"write its tables anew: {__doc__}"


def test_the_page_names_the_number_of_rows_that_a_report_shows() -> None:
    assert f"At most {MOST_ROWS} of each" in _PAGE.read_text()


if __name__ == "__main__":
    _PAGE.write_text(_filled(_PAGE.read_text()))
