"""The sentences of a report lead with the outcome, say what is left, and tell what to do next."""

from __future__ import annotations

from typing import Any

import pytest

from reencrypt import errors
from reencrypt.operations import advice
from reencrypt.operations.outcomes import Outcome
from reencrypt.operations.run_input import parse

FACTS: dict[str, Any] = {"settle_seconds": 960, "journal": True}


def totals(**counts: int) -> dict[str, int]:
    each = {outcome.value: counts.get(outcome.value, 0) for outcome in Outcome}
    return {"values": sum(each.values()), **each}


def report(mode: str = "re-encrypt", **changes: Any) -> dict[str, Any]:
    return {
        "run": "run-7", "mode": mode, "outcome": "succeeded", "provider": "awskms.prod", "totals": totals(re_encrypted=1_214, empty=9), "error": None,
        "sweeps": [], "left_under_old_keys": 0, "unreadable": [], "undo_journal": True, "restored_run": "run-6" if mode == "restore" else None,
        "estimate": None, **changes,
    }  # fmt: skip


def test_the_headline_of_a_run_tells_what_its_sweeps_brought_along_and_what_is_left() -> None:
    assert advice.headline(report()) == "succeeded: 1 214 values: 1 214 re-encrypted under awskms.prod, 0 already current, 0 unreadable"
    one = [{"moved": 3}]
    assert advice.headline(report(sweeps=one)).endswith(", 3 brought along by a sweep, 0 unreadable")
    bad = advice.headline(report(outcome="failed", sweeps=one * 5, left_under_old_keys=2))
    assert bad.startswith("failed: ")
    assert bad.endswith(", 15 brought along by 5 sweeps, 2 STILL UNDER AN OLD KEY, 0 unreadable")


def test_the_headline_of_a_restore_tells_what_was_left_alone_and_why() -> None:
    assert advice.headline(report("restore", totals=totals(re_encrypted=5, already_current=2))) == (
        "succeeded: 7 values: 5 put back as they were before run-6, 2 stood so already, 0 unreadable"
    )
    left = advice.headline(report("restore", totals=totals(re_encrypted=5, changed_by_grafana=4, unreadable=1), unreadable=[{}]))
    assert left.endswith("0 stood so already, 4 left alone since Grafana has written or deleted them, 1 unreadable")


def test_a_run_without_secrets_leads_with_that() -> None:
    assert advice.headline(report(outcome="nothing-found", totals=totals(empty=9))).startswith("nothing-found: ")


@pytest.mark.parametrize(
    ("left", "settle", "words"),
    [(0, 960, None), (0, 0, None), (2, 960, "Restart every replica"), (2, 0, "Run again without settleSeconds")],
    ids=["swept", "stopped", "never ends", "was not stopped"],
)
def test_what_is_left_under_an_old_key_is_said_with_its_cause(left: int, settle: int, words: str | None) -> None:
    notes = advice.notes(parse({"mode": "re-encrypt"}), totals(re_encrypted=1), left, {**FACTS, "settle_seconds": settle}, {})
    assert [note for note in notes if "under an old key" in note] == ([] if words is None else [note for note in notes if words in note])
    assert len(notes) == (words is not None)


def test_a_run_without_an_undo_journal_says_so_and_offers_no_undo() -> None:
    notes = advice.notes(parse({"mode": "re-encrypt"}), totals(), 0, {**FACTS, "journal": False}, {})
    assert notes == ["there is no undo journal of this run (journal_days = 0): only a backup brings the old values back"]
    assert advice.notes(parse({"mode": "plan"}), totals(), 0, {**FACTS, "journal": False}, {}) == []
    assert not any("restore" in step for step in advice.next_steps(report(undo_journal=False), True))


def test_a_run_tells_how_it_is_undone_and_to_keep_the_old_keys() -> None:
    steps = advice.next_steps(report(), True)
    assert any('start {"mode": "restore", "run": "run-7"} while its journal is kept' in step for step in steps)
    assert any("Keep the old keys" in step and step.endswith("verify.") for step in steps)
    assert any(step.endswith("bring the rest along.") for step in advice.next_steps(report(left_under_old_keys=2), True))
    nothing = advice.next_steps(report(totals=totals(already_current=3)), True)
    assert not any("To undo" in step for step in nothing), "it wrote nothing"


def test_a_restore_tells_that_grafanas_own_values_need_their_key() -> None:
    assert any("so keep that key" in step for step in advice.next_steps(report("restore"), True))


@pytest.mark.parametrize(
    ("given", "left", "following"),
    [
        ({"mode": "re-encrypt", "settleSeconds": 0, "force": True, "tables": ["secrets"]}, 2, {"mode": "re-encrypt", "tables": ["secrets"]}),
        ({"mode": "re-encrypt", "settleSeconds": 0, "force": True, "providerReady": True}, 0, {"mode": "verify"}),
        ({"mode": "restore", "run": "run-6", "tables": ["secrets"]}, 0, {"mode": "verify", "tables": ["secrets"]}),
    ],
    ids=["something left", "nothing left", "restored"],
)
def test_the_run_that_should_follow_is_one_that_the_input_allows(given: dict[str, Any], left: int, following: dict[str, Any]) -> None:
    found = advice.next_input(parse(given), totals(re_encrypted=5), left)
    assert found == following
    assert parse(found).as_input() == found


@pytest.mark.parametrize("error", ["TooManyUnreadable", "LeaseHeld", "IncompleteRun", "WrongSecretKey", "ProviderNotReady"])
def test_what_ended_a_run_has_a_next_step_of_its_own(error: str) -> None:
    assert hasattr(errors, error)
    assert advice.failure_steps(error) != advice.failure_steps("AnythingElse")
