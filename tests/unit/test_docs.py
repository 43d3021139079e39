"""The README and docs/ say what the code does: every mode, key, setting, command and refusal, every link, every example.

Errors: test_troubleshooting_docs.py. What is deployed: tests/infrastructure/test_docs_of_the_stack.py.

A line that begins with `> ` quotes a message of the product; `…` in it stands for what varies.
"""

from __future__ import annotations

import ast
import functools
import json
import re
import tomllib
import unicodedata
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, get_args

import pytest
import typer
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pydantic import BaseModel

from cli.__main__ import app
from infra.settings import DeploymentSettings, load_settings
from reencrypt.errors import InvalidInput
from reencrypt.grafana.declarations import Declaration
from reencrypt.grafana.secret_columns import declared
from reencrypt.operations.cost import KMS_REQUEST, LAMBDA_GIGABYTE_SECOND, S3_PUT, STATE_TRANSITION, estimate_usd
from reencrypt.operations.modes import Mode
from reencrypt.operations.removable import Kept
from reencrypt.operations.run_input import RunInput, parse

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
README = ROOT / "README.md"
PAGES = [README, *sorted(DOCS.glob("*.md"))]
SOURCES = [*sorted((ROOT / "lambda" / "reencrypt").rglob("*.py")), *sorted((ROOT / "infra").glob("setting*.py"))]
EXAMPLE = ROOT / "deployment.example.toml"
README_LINES, PICTURE_BYTES = 200, 200_000
# What a declaration may say, and only the product's own list has a use for.
OF_THE_BUILT_IN_LIST = {"id", "since", "grafana_covers", "json_paths.data_key_id_path"}

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
def test_every_declaration_of_a_column_and_every_deployment_on_the_page_is_accepted(page: Path, tmp_path: Path) -> None:
    (tmp_path / "global-bundle.pem").write_text(a_certificate(), encoding="ascii")
    for number, text in enumerate(blocks(page, "toml")):
        text = "\n".join(line.strip() for line in text.splitlines())
        if "secret_column" in tomllib.loads(text):
            assert len(declared(text)) == len(tomllib.loads(text)["secret_column"])
        else:
            (file := tmp_path / f"{number}.toml").write_text(text, encoding="utf-8")
            load_settings(file)


def test_every_page_is_in_the_readmes_list_or_in_one_of_its_tables() -> None:
    linked = {link.partition("#")[0] for link in _LINK.findall(text_of(README))}
    assert {f"docs/{page.name}" for page in DOCS.glob("*.md")} - linked == set()


def test_every_page_that_answers_an_operator_ends_with_what_can_go_wrong_and_how_to_undo_it() -> None:
    of_modes = ("rotate", "secret-key-leaked", "to-kms", "move-kms-keys", "leave-kms", "prune", "unknown-ciphertext", "secrets-manager")
    for page in (*of_modes, "install", "first-run", "upgrade", "uninstall"):
        headings = _HEADING.findall(prose(DOCS / f"{page}.md"))
        assert {"What can go wrong", "How to undo it"} <= set(headings), page
        assert headings.index("What can go wrong") < headings.index("How to undo it")


def test_every_setting_of_a_deployment_is_explained_in_the_example() -> None:
    written = text_of(EXAMPLE)
    names = [name for name in settings_of(DeploymentSettings) if not name.startswith("secret_column.")]
    assert [name for name in names if not is_explained(name, written)] == []
    columns = written[written.index("# Columns with payloads that this product does not know") : written.index("#[[secret_column]]")]
    assert {name for name in settings_of(Declaration) if not re.search(rf"\b{name.rpartition('.')[2]}\b", columns)} == OF_THE_BUILT_IN_LIST


def test_a_setting_that_the_example_lacks_is_noticed() -> None:
    assert is_explained("vpc.subnet_ids", '#[vpc]\n#vpc_id = "x"\n# Which ones.\n#subnet_ids = []\n')
    assert not is_explained("vpc.subnet_ids", "#[vpc]\n[database]\n#subnet_ids = []\n")
    assert not is_explained("vpc.subnet_ids", '#subnet_ids = []\n#[vpc]\n#vpc_id = "x"\n')
    assert is_explained("ini_object.version", '# or: ini_object = {bucket = "b", version = "v"}\n')
    assert not is_explained("ini_object.key", '# or: ini_object = {bucket = "b", version = "v"}\n')


def test_every_command_and_each_of_its_options_is_on_a_page() -> None:
    said = "\n".join(map(text_of, PAGES))
    for name, command in commands().items():
        assert f"grafana-reencrypt {name}" in said, f"no page shows the command {name}"
        options = [option for parameter in command.params for option in parameter.opts if option.startswith("--")]
        missing = [option for option in options if not re.search(rf"{option}\b", said)]
        assert missing == [], f"no page explains these options of {name}"


def test_every_page_begins_with_an_answer() -> None:
    for page in DOCS.glob("*.md"):
        title, empty, answer = text_of(page).splitlines()[:3]
        assert title.startswith("# "), page.name
        assert not empty, page.name
        assert answer, page.name
        assert not answer.startswith(("#", "|", "-", "```", ">", "!")), f"{page.name} begins with something else than a sentence"


def test_the_readme_is_short() -> None:
    assert len(text_of(README).splitlines()) <= README_LINES


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_picture_is_small_and_says_in_words_what_it_shows(page: Path) -> None:
    for alt, path in pictures(page):
        assert (page.parent / path).stat().st_size < PICTURE_BYTES, path
        assert len(alt) > 40, f"the alternative text of {path} is too short to stand for it"


def test_the_readme_shows_the_report_and_the_state_machine() -> None:
    assert {path for _, path in pictures(README)} == {"docs/pictures/report.png", "docs/pictures/state-machine.svg"}


def test_the_examples_of_cost_are_those_of_the_formula() -> None:
    page = DOCS / "cost.md"
    examples = [cost_of(values) for values in (10_000, 100_000, 1_000_000)]
    assert rows(section(page, "Examples")) == examples
    assert f"USD {float(examples[1][7]):.2f} for a re-encryption of 100 000 secrets" in text_of(page).splitlines()[2]
    for price, shown in {LAMBDA_GIGABYTE_SECOND: "USD 0.0000133334", STATE_TRANSITION * 1000: "USD 0.025", KMS_REQUEST * 10_000: "USD 0.03"}.items():
        assert shown in section(page, "What a run costs")
        assert float(shown.removeprefix("USD ")) == pytest.approx(price)
    assert f"USD {S3_PUT * 1000:g}" in section(page, "What a run costs")


def settings_of(model: type[BaseModel], before: str = "") -> Iterator[str]:
    """The names of the settings, those of a table behind its own: `vpc.subnet_ids`."""
    for name, field in model.model_fields.items():
        tables = [kind for kind in _kinds(field.annotation) if isinstance(kind, type) and issubclass(kind, BaseModel)]
        for table in tables:
            yield from settings_of(table, f"{before}{name}.")
        if not tables:
            yield f"{before}{name}"


def _kinds(annotation: Any) -> Iterator[Any]:
    yield annotation
    for kind in get_args(annotation):
        yield from _kinds(kind)


def is_explained(name: str, example: str) -> bool:
    """Whether `example` has a line with the setting, in its table, or the setting is in the one line that is the whole of its table."""
    table, _, key = name.rpartition(".")
    parts = re.split(r"^#?\[\[?([a-z_.]+)\]\]?$", example, flags=re.MULTILINE)
    texts = [text for head, text in zip(["", *parts[1::2]], parts[0::2], strict=True) if head == table]
    if any(re.search(rf"^(#|# or: )?{key} *=", text, re.MULTILINE) for text in texts) or name in parts[1::2]:
        return True
    return bool(table) and re.search(rf"^(#|# or: )?{table} *= *\{{(.*, )?{key} *=", example, re.MULTILINE) is not None


def commands() -> Mapping[str, Any]:
    """Typer's commands by name."""
    group: Any = typer.main.get_command(app)
    found: Mapping[str, Any] = group.commands
    return found


def pictures(page: Path) -> list[tuple[str, str]]:
    """(alternative text, path) of every picture on the page, of both ways to write one."""
    written = [(alt, path) for alt, path in re.findall(r"!\[([^\]]*)\]\(([^)]+)\)", prose(page))]
    html = re.findall(r"<img [^>]*>", prose(page))
    return written + [(_attribute(tag, "alt"), _attribute(tag, "src")) for tag in html]


def _attribute(tag: str, name: str) -> str:
    found = re.search(rf'{name}="([^"]*)"', tag)
    return found[1] if found else ""


def cost_of(values: int) -> list[str]:
    """A row of the table in docs/cost.md, from what stands above it there."""
    chunk_rows, passes, per_second, further, keys, megabytes, workers = 1000, 3, 500, 0.4, 30, 1769, 4
    seconds, deliveries = values / per_second * (1 + further), values // chunk_rows * passes
    whole = estimate_usd(seconds, deliveries, keys, megabytes)
    nothing = estimate_usd(0, 0, 0, megabytes)
    compute = estimate_usd(seconds, 0, 0, megabytes) - 5 * S3_PUT - 30 * STATE_TRANSITION
    objects, requests = (deliveries + 5) * S3_PUT, deliveries * keys * KMS_REQUEST
    transitions = whole - compute - requests - objects
    assert nothing < whole
    return [
        f"{values:,}".replace(",", " "), f"{seconds:,.0f}".replace(",", " "), f"{deliveries:,}".replace(",", " "),
        f"{compute:.4f}", f"{transitions:.4f}", f"{requests:.4f}", f"{objects:.4f}", f"{whole:.3f}", f"{seconds / workers / 60:.1f}",
    ]  # fmt: skip


def a_certificate() -> str:
    """Something that a TLS context takes for the certificates of an authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "an authority of a test")])
    now = datetime.now(UTC)
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
    signed = made.not_valid_before(now).not_valid_after(now + timedelta(days=1)).sign(key, hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM).decode()
