"""What the docs say of the deployed stack is what is synthesized: its states, outputs, keys, what stays behind, and the pictures."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from tests.infrastructure.conftest import ROOT, Synthesized
from tests.unit.test_docs import DOCS, rows, section, text_of
from tools import report_picture, state_machine_picture

_STAYS = {
    "the run bucket": "AWS::S3::Bucket",
    "the journal's bucket": "AWS::S3::Bucket",
    "the journal's key": "AWS::KMS::Key",
    "log groups": "AWS::Logs::LogGroup",
}


def test_the_picture_of_the_state_machine_is_that_of_the_stack(minimal: Synthesized) -> None:
    drawn = state_machine_picture.draw(state_machine_picture.definition_in(minimal.template))
    assert state_machine_picture.PICTURE.read_text(encoding="utf-8") == drawn, f"draw it anew: {state_machine_picture.__doc__}"


def test_the_picture_has_every_state_and_every_way_between_them(minimal: Synthesized) -> None:
    definition = state_machine_picture.definition_in(minimal.template)
    names = state_machine_picture.order(definition)
    drawn = state_machine_picture.draw(definition)
    assert sorted(names) == sorted(definition["States"])
    assert [name for name in names if f">{name}</text>" not in drawn] == []
    assert drawn.count('<path class="way"') + drawn.count('<path class="error" d="M') == len([*state_machine_picture.edges(definition["States"])]) + 1


def test_a_way_that_is_drawn_says_when_it_is_taken() -> None:
    either = {"Or": [{"Variable": "$.a", "StringEquals": "succeeded"}, {"Variable": "$.a", "StringEquals": "succeeded-with"}]}
    assert state_machine_picture.condition(either) == "succeeded…"
    assert state_machine_picture.condition({"Variable": "$.plan.chunks", "NumericEquals": 0}) == "chunks = 0"
    assert state_machine_picture.condition({"Variable": "$.report.unreadable", "NumericGreaterThan": 0}) == "unreadable > 0"
    assert state_machine_picture.condition({"Not": {"Variable": "$.x.done", "BooleanEquals": True}}) == "not done"


def test_the_picture_of_the_report_shows_what_a_report_looks_like_today() -> None:
    picture = report_picture.PICTURE.read_bytes()
    assert report_picture.fingerprint_in(picture) == report_picture.fingerprint(report_picture.page()), f"photograph it anew: {report_picture.__doc__}"
    width, height = report_picture.size_of(picture)
    assert width >= 800
    assert height >= 600


def test_every_state_of_the_run_is_explained_and_no_other(minimal: Synthesized) -> None:
    explained = [row[0] for row in rows(section(DOCS / "first-run.md", "What each state means"))]
    assert sorted(explained) == sorted(minimal.definition()["States"])


def test_every_output_of_the_stack_is_explained_and_no_other(everything: Synthesized) -> None:
    explained = [row[0].strip("`") for row in rows(section(DOCS / "install.md", "What is deployed")) if row[0].startswith("`")]
    assert sorted(explained) == sorted(everything.template["Outputs"])


def test_what_a_deletion_of_the_stack_leaves_behind_is_what_the_page_says(minimal: Synthesized) -> None:
    stays = Counter(resource["Type"] for resource in minimal.template["Resources"].values() if resource.get("DeletionPolicy") == "Retain")
    assert {row[0]: row[1].strip("`") for row in rows(section(DOCS / "uninstall.md", "What stays behind"))} == _STAYS
    assert set(stays) == set(_STAYS.values())
    assert (stays["AWS::S3::Bucket"], stays["AWS::KMS::Key"]) == (2, 1)


def test_the_standing_cost_names_every_kms_key_and_counts_the_alarms_of_the_stack(minimal: Synthesized) -> None:
    named = [row[0] for row in rows(section(DOCS / "cost.md", "What the stack costs while nothing runs")) if row[0].startswith("the KMS key")]
    assert len(named) == len(minimal.resources("AWS::KMS::Key"))
    assert f"| {len(minimal.resources('AWS::CloudWatch::Alarm'))} alarms (none" in text_of(DOCS / "cost.md")


def test_the_pictures_of_the_readme_are_those_that_the_tools_make() -> None:
    made = {Path(picture).relative_to(ROOT).as_posix() for picture in (report_picture.PICTURE, state_machine_picture.PICTURE)}
    assert [picture for picture in made if picture not in text_of(ROOT / "README.md")] == []
