"""docs/report.md says what the reports say. To write its tables anew:

PYTHONPATH=.:lambda .venv/bin/python -m tests.unit.operations.test_report_docs
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from reencrypt.operations import reasons
from reencrypt.operations.html_report import MOST_ROWS
from reencrypt.operations.reasons import Explanation

_PAGE = Path(__file__).parents[3] / "docs" / "report.md"
_BLOCK = re.compile(r"(<!-- (run outcomes|value outcomes|reasons): [^\n]*-->\n).*?(<!-- end -->)", re.DOTALL)


def _table(head: str, rows: Iterable[tuple[str, Explanation]]) -> str:
    lines = [f"| {head} | what it means | what to do |", "|---|---|---|"]
    return "\n".join([*lines, *(f"| {name} | {said.meaning} | {said.action or 'Nothing.'} |" for name, said in rows), ""])


def _words(outcomes: Mapping[str, Explanation]) -> Iterable[tuple[str, Explanation]]:
    for name, said in outcomes.items():
        yield f"`{name}`", said
        if name == "re_encrypted":
            yield "`re_encrypted` in `plan` and `verify`, shown as “would be re-encrypted”", reasons.WOULD_BE_RE_ENCRYPTED


def _words_of_a_restore() -> Iterable[tuple[str, Explanation]]:
    for name, said in reasons.WHEN_RESTORING.items():
        yield f"`{name}` in `restore`", said


def _filled(page: str) -> str:
    tables = {
        "run outcomes": _table("outcome", _words(reasons.RUN_OUTCOMES)),
        "value outcomes": _table("outcome", [*_words(reasons.VALUE_OUTCOMES), *_words_of_a_restore()]),
        "reasons": _table("reason", ((f"`{reason}`", said) for reason, said in reasons.REASONS.items())),
    }
    return _BLOCK.sub(lambda found: found[1] + tables[found[2]] + found[3], page)


def test_the_page_explains_each_outcome_and_each_reason_in_the_words_of_the_report() -> None:
    page = _PAGE.read_text()
    assert [found[2] for found in _BLOCK.finditer(page)] == ["run outcomes", "value outcomes", "reasons"]
    assert page == _filled(page), f"write its tables anew: {__doc__}"


def test_the_page_names_the_number_of_rows_that_a_report_shows() -> None:
    assert f"At most {MOST_ROWS} of each" in _PAGE.read_text()


if __name__ == "__main__":
    _PAGE.write_text(_filled(_PAGE.read_text()))
