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
        "estimate": None, "rewrapped": None, "removed": None, "unknown_ciphertext": [], **changes,
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


ANEW: dict[str, Any] = {"rewrapped": {"kms:ReEncrypt": 11, "unwrap and wrap": 1}, "left": 0, "failed": [], "under_other_providers": 0}


@pytest.mark.parametrize(
    ("mode", "changes", "words"),
    [
        ("rotate", {}, "re-encrypted under awskms.prod with a new data key, 0 already current"),
        (
            "rollback",
            {"removed": {"removed": [{}], "kept": []}},
            "brought back directly under secret_key, 0 there already, 0 unreadable; a data key removed, 0 kept",
        ),
        ("rewrap-data-keys", {"rewrapped": ANEW}, "0 read, 0 unreadable; 12 data keys wrapped anew"),
        (
            "rewrap-data-keys",
            {"rewrapped": {**ANEW, "failed": [{}], "left": 3}},
            "12 data keys wrapped anew, 3 that needed no change, 1 COULD NOT BE WRAPPED ANEW",
        ),
        ("rewrap-data-keys", {"rewrapped": {**ANEW, "under_other_providers": 2}}, "2 STILL UNDER ANOTHER PROVIDER"),
        ("rotate-secret-key", {"rewrapped": ANEW}, "1 214 directly under secret_key re-encrypted under the new one"),
        (
            "prune-data-keys",
            {"removed": {"removed": [{}, {}], "kept": [{"why": "in-use"}, {"why": "referenced"}]}},
            ": 2 data keys removed, 2 kept (1 in-use, 1 referenced)",
        ),
    ],
)
def test_the_headline_of_each_mode_tells_what_it_did_to_values_and_to_data_keys(mode: str, changes: dict[str, Any], words: str) -> None:
    assert words in advice.headline(report(mode, **changes))
    assert advice.next_steps(report(mode, **changes), True)


def test_columns_that_nobody_knows_are_named_with_the_keys_that_they_need() -> None:
    unknown = [{"table": "setting", "column": "value", "data_keys": {"abc": 1_500, "secret_key": 1}}]
    [note] = advice.key_notes(report("plan", unknown_ciphertext=unknown))
    assert note.startswith("in no list of secret columns, but with what looks like Grafana's payloads: setting.value. No run re-encrypts them")
    many = [{"table": f"t{number}", "column": "c", "data_keys": {"abc": 1}} for number in range(100)]
    assert ": t0.c, t1.c, t2.c, t3.c, t4.c and 95 more. " in advice.key_notes(report("plan", unknown_ciphertext=many))[0]


def test_a_data_key_that_was_not_wrapped_anew_is_named_with_the_reason() -> None:
    failed = [{"id": "abc", "reason": "provider-unavailable", "why": "KMS says AccessDenied"}]
    [note] = advice.key_notes(report("rewrap-data-keys", rewrapped={**ANEW, "failed": failed}))
    assert note == "data key abc was not wrapped anew (provider-unavailable): KMS says AccessDenied"
    facts = report("rewrap-data-keys", rewrapped={**ANEW, "failed": failed * 7})
    assert advice.key_notes(facts)[-1] == "nor were 2 more data keys, listed below"
    assert not any("nothing else has to be done" in step for step in advice.next_steps(facts, True))
    assert advice.next_input(parse({"mode": "rewrap-data-keys"}), totals(), 0, keys_left=7) == {"mode": "rewrap-data-keys"}


def test_a_rotation_of_secret_key_tells_that_everybody_is_logged_out() -> None:
    [note] = advice.key_notes(report("rotate-secret-key"))
    assert "everybody is logged out" in note


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
        ({"mode": "rotate", "settleSeconds": 0}, 2, {"mode": "re-encrypt"}),
        ({"mode": "rotate"}, 0, {"mode": "verify"}),
        ({"mode": "rewrap-data-keys", "provider": "awskms.b"}, 0, {"mode": "verify", "provider": "awskms.b"}),
        ({"mode": "rotate-secret-key"}, 0, {"mode": "verify"}),
        ({"mode": "rollback", "for": "8.x"}, 2, {"mode": "rollback", "for": "8.x"}),
        ({"mode": "rollback", "for": "8.x"}, 0, None),
        ({"mode": "prune-data-keys"}, 0, {"mode": "verify"}),
        ({"mode": "restore", "run": "run-6", "tables": ["secrets"]}, 0, {"mode": "verify", "tables": ["secrets"]}),
    ],
)
def test_the_run_that_should_follow_is_one_that_the_input_allows(given: dict[str, Any], left: int, following: dict[str, Any] | None) -> None:
    found = advice.next_input(parse(given), totals(re_encrypted=5), left)
    assert found == following
    assert found is None or parse(found).as_input() == found


@pytest.mark.parametrize("error", ["TooManyUnreadable", "LeaseHeld", "IncompleteRun", "WrongSecretKey", "ProviderNotReady"])
def test_what_ended_a_run_has_a_next_step_of_its_own(error: str) -> None:
    assert hasattr(errors, error)
    assert advice.failure_steps(error) != advice.failure_steps("AnythingElse")
