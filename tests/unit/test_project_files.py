"""The project's own pages hold: what the threat model names exists, the changelog is in its format, the licence is one for all, links lead somewhere."""

from __future__ import annotations

import ast
import hashlib
import re
import tomllib
from pathlib import Path

import pytest

from infra import sbom

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / name for name in ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]


def _tests_in(file: Path) -> set[str]:
    return {node.name for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))) if isinstance(node, ast.FunctionDef)}


def test_every_test_that_the_threat_model_names_exists() -> None:
    table = (ROOT / "docs" / "threat-model.md").read_text(encoding="utf-8").partition("## Which test guards what")[2].partition("\n## ")[0]
    rows = [line for line in table.splitlines() if line.startswith("| ") and not line.startswith("| promise")]
    assert rows
    for row in rows:
        named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", row)
        assert named, f"no test guards: {row}"
        assert [f"{file}::{test}" for file, test in named if test not in _tests_in(ROOT / file)] == []


def test_the_changelog_has_an_entry_for_this_version_and_newest_comes_first() -> None:
    releases = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert releases[0] == "Unreleased"
    numbers = [tuple(map(int, release.split("."))) for release in releases[1:]]
    assert numbers == sorted(numbers, reverse=True)
    assert re.match(r"\d+\.\d+\.\d+", VERSION)[0] == releases[1]  # type: ignore[index] # a version that is none fails as well


def test_the_licence_is_the_whole_apache_license_and_the_same_everywhere() -> None:
    text = (ROOT / "LICENSE").read_bytes()
    assert hashlib.sha256(text.strip()).hexdigest() == "283ea6cc2997a1a70da0049e09adf9317bb60ca1b51279b65196b83a69e1996b"
    assert sbom.LICENCE == "Apache-2.0"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_of_the_projects_pages_leads_to_a_file(page: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    missing = [link for link in links if not link.startswith("https://") and not (ROOT / link.partition("#")[0]).exists()]
    assert missing == []


def test_nobody_is_asked_to_write_to_an_address_that_was_made_up() -> None:
    assert [page.name for page in PAGES if re.search(r"[\w.]+@[\w-]+\.\w+", page.read_text(encoding="utf-8"))] == []
