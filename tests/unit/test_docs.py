"""The README and docs/ say what the code does: every mode, key, error and refusal, every link, every example.

A line that begins with `> ` quotes a message of the product; `…` in it stands for what varies.
"""

from __future__ import annotations

import ast
import functools
import json
import re
import tomllib
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest

from reencrypt import errors
from reencrypt.errors import InvalidInput, ReencryptError
from reencrypt.grafana.secret_columns import declared
from reencrypt.operations.modes import Mode
from reencrypt.operations.removable import Kept
from reencrypt.operations.run_input import RunInput, parse

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
README = ROOT / "README.md"
PAGES = [README, *sorted(DOCS.glob("*.md"))]
SOURCES = [*sorted((ROOT / "lambda" / "reencrypt").rglob("*.py")), ROOT / "infra" / "settings.py"]

# Exceptions that never end a run: the tree's inner nodes, and those that are counted as a value's reason.
_NEVER_SEEN = {"ReencryptError", "ProviderError", "ValueRefused", "PayloadError"}
_BLOCK = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
_INLINE = re.compile(r"(?<!`)`(\{[^`\n]*\})`(?!`)")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_QUOTE = re.compile(r"^ *> (.+)$", re.MULTILINE)


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def blocks(page: Path, language: str) -> list[str]:
    return [found[2] for found in _BLOCK.finditer(text_of(page)) if found[1] == language]


def prose(page: Path) -> str:
    return _BLOCK.sub("", text_of(page))


def section(page: Path, heading: str) -> str:
    found = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", text_of(page), re.DOTALL | re.MULTILINE)
    assert found, f"{page.name} has no section {heading}"
    return found[1]


def rows(text: str) -> list[list[str]]:
    """The cells of the rows of the tables in `text`, without the heads."""
    lines = [line.strip() for line in text.splitlines()]
    heads = {number for number, line in enumerate(lines, -1) if line.startswith("|--")}
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for number, line in enumerate(lines)
        if line.startswith("|") and number not in heads and not line.startswith("|--")
    ]


def anchors(page: Path) -> set[str]:
    """The anchors of the page's headings, as GitHub makes them."""
    return {_anchor(found[1]) for found in _HEADING.finditer(prose(page))}


def _anchor(heading: str) -> str:
    kept = "".join(letter for letter in heading.strip().lower() if letter in " -_" or unicodedata.category(letter)[0] in "LN")
    return kept.replace(" ", "-")


def inputs(page: Path) -> Iterator[str]:
    """Every input of a run on the page: in a json block, in the middle of a line, in a command."""
    yield from blocks(page, "json")
    yield from (found for found in _INLINE.findall(prose(page)) if found == "{}" or found.startswith('{"mode"'))
    yield from re.findall(r"--input '([^']+)'", text_of(page))


@functools.cache
def messages() -> tuple[str, ...]:
    """Every text of the sources, with `…` for what is put into it."""
    found = []
    for source in SOURCES:
        for node in ast.walk(ast.parse(text_of(source))):
            if isinstance(node, ast.JoinedStr):
                found.append("".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return tuple(found)


def is_said(quote: str) -> bool:
    """Whether the product has a message in which the parts of `quote` between its `…` stand in order."""
    parts = [part.strip() for part in quote.split("…") if part.strip()]
    return any(re.search(".*".join(map(re.escape, parts)), message, re.DOTALL) for message in messages())


def test_every_mode_stands_in_the_readme_with_a_page_that_explains_it() -> None:
    table = {row[0].strip("`"): row for row in rows(section(README, "What a run can do"))}
    assert set(table) == {mode.value for mode in Mode}
    for name, row in table.items():
        pages = [README.parent / link.partition("#")[0] for link in _LINK.findall(row[3])]
        if name == Mode.PLAN:
            assert not pages
        for page in pages:
            assert re.search(rf"`{name}`|\"mode\": \"{name}\"", text_of(page)), f"{page.name} does not name the mode {name}"
        assert pages or name == Mode.PLAN


def test_every_key_of_the_input_stands_in_the_readme_and_no_other() -> None:
    keys = [field.alias for field in RunInput.model_fields.values()]
    named = [row[0].strip("`") for row in rows(section(README, "The input of a run"))]
    assert sorted(named) == sorted(str(key) for key in keys)


def test_what_the_readme_says_of_keys_that_a_mode_does_not_take_is_so() -> None:
    for mode in Mode:
        if not mode.steps.by_table:
            with pytest.raises(InvalidInput, match="tables"):
                parse({"mode": mode.value, "tables": ["data_source"]})
    row = next(row for row in rows(section(README, "The input of a run")) if row[0] == "`tables`")
    assert set(re.findall(r"`([a-z-]+)`", row[1])) == {mode.value for mode in Mode if not mode.steps.by_table}


def test_every_error_that_can_end_a_run_is_explained_and_no_other() -> None:
    classes = {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, ReencryptError)}
    explained = [row[0].strip("`") for row in rows(section(DOCS / "recovery.md", "What the error's name means"))]
    assert sorted(explained) == sorted(classes - _NEVER_SEEN)


def test_every_mode_that_writes_says_what_starting_it_again_does() -> None:
    named = [name for row in rows(section(DOCS / "recovery.md", "In any mode")) for name in re.findall(r"`([a-z-]+)`", row[0])]
    assert sorted(named) == sorted(mode.value for mode in Mode if mode.writes)


def test_every_mode_says_whether_grafana_may_run() -> None:
    named = {name for row in rows(section(DOCS / "live-grafana.md", "May Grafana run?")) for name in re.findall(r"`([a-z-]+)`", row[0])}
    assert named == {mode.value for mode in Mode}


def test_every_reason_for_which_a_data_key_is_kept_is_explained() -> None:
    explained = [row[0].strip("`") for row in rows(section(DOCS / "prune.md", "Why a data key is kept"))]
    assert sorted(explained) == sorted(Kept)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_to_something(page: Path) -> None:
    for link in _LINK.findall(prose(page)):
        if link.startswith(("https://", "http://")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name} links to {link}, which is not there"
        assert not anchor or anchor in anchors(target), f"{page.name} links to {link}, and {target.name} has no such heading"


@pytest.mark.parametrize("page", [page for page in PAGES if any(inputs(page))], ids=lambda page: page.name)
def test_every_input_on_the_page_is_one_that_a_run_takes(page: Path) -> None:
    for text in inputs(page):
        parse(json.loads(text.replace("…", "a-run")))


@pytest.mark.parametrize("page", [page for page in PAGES if _QUOTE.search(prose(page))], ids=lambda page: page.name)
def test_every_message_that_the_page_quotes_is_one_that_the_product_gives(page: Path) -> None:
    quotes = _QUOTE.findall(prose(page))
    assert [quote for quote in quotes if not is_said(quote)] == []


def test_a_quote_that_nobody_says_is_noticed() -> None:
    assert is_said("… and … are the same key: there is nothing to rotate")
    assert not is_said("… and … are the same key: there is nothing to do")
    assert not is_said("there is nothing to rotate … are the same key")


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "toml")], ids=lambda page: page.name)
def test_every_declaration_of_a_column_on_the_page_is_accepted(page: Path) -> None:
    for text in blocks(page, "toml"):
        assert len(declared("\n".join(line.strip() for line in text.splitlines()))) == len(tomllib.loads(text)["secret_column"])


def test_every_page_is_in_the_readmes_list_or_in_one_of_its_tables() -> None:
    linked = {link.partition("#")[0] for link in _LINK.findall(text_of(README))}
    assert {f"docs/{page.name}" for page in DOCS.glob("*.md")} - linked == set()


def test_every_page_that_answers_an_operator_ends_with_what_can_go_wrong_and_how_to_undo_it() -> None:
    for page in ("rotate", "secret-key-leaked", "to-kms", "move-kms-keys", "leave-kms", "prune", "unknown-ciphertext", "secrets-manager"):
        headings = _HEADING.findall(prose(DOCS / f"{page}.md"))
        assert {"What can go wrong", "How to undo it"} <= set(headings), page
        assert headings.index("What can go wrong") < headings.index("How to undo it")
