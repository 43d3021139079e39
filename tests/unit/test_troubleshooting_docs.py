"""docs/troubleshooting.md explains every error that can end a run, and has its messages to search for. To write those anew:

PYTHONPATH=.:lambda .venv/bin/python -m tests.unit.test_troubleshooting_docs
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from reencrypt import errors
from reencrypt.errors import ReencryptError

_ROOT = Path(__file__).parents[2]
PAGE = _ROOT / "docs" / "troubleshooting.md"
# Exceptions that never end a run: the tree's inner nodes, and those that are counted as a value's reason.
NEVER_SEEN = {"ReencryptError", "ProviderError", "ValueRefused", "PayloadError"}
_BLOCK = re.compile(r"(<!-- messages of (\w+): [^\n]*-->\n).*?(<!-- end -->)", re.DOTALL)
_WORDS = re.compile(r"[A-Za-z]{2,}")
_LEAST_WORDS = 3  # a message that is nearly all put together elsewhere says nothing to search for


def classes() -> set[str]:
    """The names of the exceptions that can end a run."""
    return {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, ReencryptError)} - NEVER_SEEN


def messages() -> Mapping[str, list[str]]:
    """By exception class: every message that the sources raise it with, `…` for what is put into it, in alphabetical order."""
    found: dict[str, set[str]] = {name: set() for name in classes()}
    for source in sorted((_ROOT / "lambda" / "reencrypt").rglob("*.py")):
        for name, text in _raised(ast.parse(source.read_text(encoding="utf-8"))):
            if name in found and len(_WORDS.findall(text)) >= _LEAST_WORDS:
                found[name].add(text)
    return {name: sorted(texts, key=str.lower) for name, texts in found.items()}


def _raised(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """(class, message) of every call of a class with a text, and of every pair of a class and a text, as tables of a driver's codes are made of."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name), args=[first, *_]):
                yield name, _text(first)
            case ast.Tuple(elts=[ast.Name(id=name), second]):
                yield name, _text(second)


def _text(node: ast.expr) -> str:
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return re.sub("…+", "…", "".join(_text(part) for part in parts))
        case ast.BinOp(left=left, right=right):
            return re.sub("…+", "…", _text(left) + _text(right))
        case _:
            return "…"


def filled(page: str) -> str:
    """The page with the messages of today."""
    said = messages()
    return _BLOCK.sub(lambda block: block[1] + "".join(f"- {_code(text)}\n" for text in said[block[2]]) + block[3], page)


def _code(text: str) -> str:
    return f"`` {text} ``" if "`" in text else f"`{text}`"


def test_every_error_that_can_end_a_run_has_a_section_and_no_other() -> None:
    explained = re.findall(r"^### (\w+)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(explained) == sorted(classes())
    assert explained == sorted(explained), "in alphabetical order, so that one is found without searching"


def test_every_section_says_what_to_do() -> None:
    sections = re.split(r"^### ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    assert [text.split("\n")[0] for text in sections if "**What to do:**" not in text] == []


def test_the_page_has_every_message_that_a_run_can_end_with() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert {found[2] for found in _BLOCK.finditer(page)} == {name for name, texts in messages().items() if texts}
    assert page == filled(page), f"write its messages anew: {__doc__}"


def test_messages_are_found_in_calls_and_in_tables_with_what_varies_as_dots() -> None:
    tree = ast.parse('raise InvalidInput(f"run: there is no {run}{x}")\n_CUT: _Meaning = (DatabaseUnavailable, "it was " "cut")\nraise Other(text)')
    assert {*_raised(tree)} == {("DatabaseUnavailable", "it was cut"), ("InvalidInput", "run: there is no …"), ("Other", "…")}


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
