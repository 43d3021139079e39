"""The execution's input is taken exactly as it is written, or refused with what is allowed."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reencrypt.errors import InvalidInput
from reencrypt.grafana.secret_columns import ALL_SYSTEMS, secret_columns
from reencrypt.operations.run_input import MAXIMUM_CONCURRENCY, MAXIMUM_SETTLE_SECONDS, Mode, OnUnreadable, RunInput, parse

KEYS = (
    "mode", "tables", "provider", "managerProvider", "providerReady", "maxConcurrency", "chunkRows", "onUnreadable", "force", "settleSeconds",
    "maxSweeps", "unreadableBudget", "maxLoad", "run", "for",
)  # fmt: skip
TABLES = sorted({column.table for column in secret_columns(*ALL_SYSTEMS)})
EVERYTHING = {
    "mode": "re-encrypt", "tables": ["data_source", "user_auth"], "provider": "awskms.prod", "managerProvider": "aws_kms.v1",
    "providerReady": True, "maxConcurrency": 7,
    "chunkRows": 250, "onUnreadable": "report", "force": True, "settleSeconds": 0, "maxSweeps": 3, "unreadableBudget": 0.5, "maxLoad": 9,
}  # fmt: skip
RESTORE = {"mode": "restore", "run": "2026-11-24T22-10-05Z-6f1c"}


def test_the_empty_input_plans_everything_and_writes_nothing() -> None:
    assert parse({}) == RunInput()
    assert (parse({}).mode, parse({}).tables, parse({}).provider, parse({}).provider_ready, parse({}).force) == (Mode.PLAN, (), None, False, False)
    assert (parse({}).max_concurrency, parse({}).chunk_rows, parse({}).on_unreadable) == (None, 1000, OnUnreadable.FAIL)
    assert (parse({}).settle_seconds, parse({}).max_sweeps, parse({}).unreadable_budget, parse({}).max_load, parse({}).run) == (None, 5, 0.1, 25, None)
    assert not parse({}).mode.writes


def test_every_key_of_the_input_counts() -> None:
    parsed = parse(EVERYTHING)
    assert (parsed.mode, parsed.tables, parsed.provider) == (Mode.RE_ENCRYPT, ("data_source", "user_auth"), "awskms.prod")
    assert (parsed.max_concurrency, parsed.chunk_rows, parsed.on_unreadable) == (7, 250, OnUnreadable.REPORT)
    assert parsed.provider_ready
    assert parsed.force
    assert (parsed.settle_seconds, parsed.max_sweeps, parsed.unreadable_budget, parsed.max_load) == (0, 3, 0.5, 9)
    assert parse(RESTORE).run == RESTORE["run"]
    assert (*EVERYTHING, "run", "for") == KEYS
    assert (parsed.manager_provider, parse({"mode": "rollback", "for": "8.x"}).for_version) == ("aws_kms.v1", "8.x")


def test_what_each_mode_goes_through() -> None:
    having = {
        name: {mode.value for mode in Mode if getattr(mode.steps, name)}
        for name in ("writes", "data_key", "retires", "rewrites", "sweeps", "rewraps", "surveys", "removes")
    }
    assert having == {
        "writes": {mode.value for mode in Mode} - {"plan", "verify"},
        "data_key": {"re-encrypt", "rotate"},
        "retires": {"rotate", "rollback", "prune-data-keys"},
        "rewrites": {"re-encrypt", "rotate", "rotate-secret-key", "rollback"},
        "sweeps": {"re-encrypt", "rotate", "rollback"},
        "rewraps": {"rewrap-data-keys", "rotate-secret-key"},
        "surveys": {"rotate-secret-key", "rollback", "prune-data-keys"},
        "removes": {"rollback", "prune-data-keys"},
    }
    assert all(mode.writes == mode.steps.writes and mode.encrypts == mode.steps.data_key for mode in Mode)


@pytest.mark.parametrize("mode", ["rewrap-data-keys", "rotate-secret-key", "prune-data-keys"])
def test_data_keys_protect_values_of_every_table_so_their_modes_take_no_tables(mode: str) -> None:
    with pytest.raises(InvalidInput, match=rf"^tables does not go with mode {mode}"):
        parse({"mode": mode, "tables": ["secrets"]})


@pytest.mark.parametrize("mode", ["rotate-secret-key", "rollback"])
def test_what_is_about_secret_key_alone_takes_no_provider(mode: str) -> None:
    with pytest.raises(InvalidInput, match=rf"^provider does not go with mode {mode}"):
        parse({"mode": mode, "provider": "awskms.prod"})


@pytest.mark.parametrize("mode", [mode.value for mode in Mode if mode not in (Mode.ROLLBACK, Mode.RESTORE)])
def test_only_a_rollback_is_for_another_version_of_grafana(mode: str) -> None:
    with pytest.raises(InvalidInput, match=f"^for belongs to mode rollback, not to {mode}"):
        parse({"mode": mode, "for": "8.x"})


def test_a_restore_needs_the_run_that_is_to_be_undone() -> None:
    with pytest.raises(InvalidInput, match=r'^mode restore needs "run": the name of the run whose writes are to be undone'):
        parse({"mode": "restore"})


@pytest.mark.parametrize("mode", [mode.value for mode in Mode if mode is not Mode.RESTORE])
def test_only_a_restore_takes_the_name_of_a_run(mode: str) -> None:
    with pytest.raises(InvalidInput, match=rf"^run belongs to mode restore, not to {mode}$"):
        parse({"mode": mode, "run": "2026-11-24T22-10-05Z-6f1c"})


@pytest.mark.parametrize("run", ["", "a b", "../other", "a/b", "x" * 200, "run\n", "*", "é", 1, []])
def test_a_name_that_no_run_can_have_is_refused_before_it_becomes_a_key_of_the_bucket(run: object) -> None:
    with pytest.raises(InvalidInput, match=r"^run: "):
        parse({"mode": "restore", "run": run})


def test_every_table_with_secrets_may_be_named() -> None:
    assert parse({"tables": TABLES}).tables == tuple(TABLES)


@pytest.mark.parametrize("raw", [None, [], "plan", 1, True, '{"mode": "plan"}'])
def test_what_is_no_object_is_refused(raw: object) -> None:
    with pytest.raises(InvalidInput, match="must be a JSON object"):
        parse(raw)


@pytest.mark.parametrize("key", ["Mode", "max_concurrency", "provider_ready", "dryRun", "chunk_rows", "", " mode", "ключ"])
def test_an_unknown_key_is_named_with_all_that_are_allowed(key: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        parse({"mode": "plan", key: True})
    assert str(refusal.value) == f"{key!r} is no key of the input; allowed: {', '.join(KEYS)}"


@pytest.mark.parametrize("mode", ["Plan", "reencrypt", "", 1, None, []])
def test_another_mode_is_refused_with_those_there_are(mode: object) -> None:
    with pytest.raises(InvalidInput, match=r"^mode: .*'plan', 're-encrypt', 'rotate', .*'prune-data-keys'"):
        parse({"mode": mode})


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("tables", "data_source", "tables: "),
        ("tables", {"data_source": 1}, "tables: "),
        ("tables", None, "tables: "),
        ("tables", [1], r"tables\.0: .*string"),
        ("tables", ["data_source", "user", "Secrets"], rf"'Secrets', 'user' .*allowed: {', '.join(TABLES)}"),
        ("provider", "", "provider: .*at least 1"),
        ("provider", 7, "provider: .*string"),
        ("providerReady", "yes", "providerReady: .*boolean"),
        ("providerReady", 1, "providerReady: .*boolean"),
        ("providerReady", None, "providerReady: .*boolean"),
        ("force", "true", "force: .*boolean"),
        ("maxConcurrency", 0, "maxConcurrency: .*greater than or equal to 1"),
        ("maxConcurrency", MAXIMUM_CONCURRENCY + 1, f"maxConcurrency: .*less than or equal to {MAXIMUM_CONCURRENCY}"),
        ("maxConcurrency", "7", "maxConcurrency: .*integer"),
        ("maxConcurrency", True, "maxConcurrency: .*integer"),
        ("maxConcurrency", 1.5, "maxConcurrency: .*integer"),
        ("chunkRows", 0, "chunkRows: .*greater than or equal to 1"),
        ("chunkRows", 100_001, "chunkRows: .*less than or equal to 100000"),
        ("chunkRows", None, "chunkRows: .*integer"),
        ("onUnreadable", "ignore", "onUnreadable: .*'fail' or 'report'"),
        ("settleSeconds", -1, "settleSeconds: .*greater than or equal to 0"),
        ("settleSeconds", MAXIMUM_SETTLE_SECONDS + 1, f"settleSeconds: .*less than or equal to {MAXIMUM_SETTLE_SECONDS}"),
        ("settleSeconds", "0", "settleSeconds: .*integer"),
        ("settleSeconds", False, "settleSeconds: .*integer"),
        ("settleSeconds", 0.5, "settleSeconds: .*integer"),
        ("maxSweeps", 0, "maxSweeps: .*greater than or equal to 1"),
        ("maxSweeps", 51, "maxSweeps: .*less than or equal to 50"),
        ("maxSweeps", None, "maxSweeps: .*integer"),
        ("unreadableBudget", -0.1, "unreadableBudget: .*greater than or equal to 0"),
        ("unreadableBudget", 10, "unreadableBudget: .*less than or equal to 1"),
        ("unreadableBudget", True, "unreadableBudget: .*number"),
        ("unreadableBudget", "0.5", "unreadableBudget: .*number"),
        ("unreadableBudget", math.nan, "unreadableBudget: .*"),
        ("maxLoad", 0, "maxLoad: .*greater than or equal to 1"),
        ("maxLoad", "25", "maxLoad: .*integer"),
        ("managerProvider", "", "managerProvider: .*at least 1"),
        ("for", "9.x", "for: .*'8.x'"),
    ],
)
def test_a_value_that_is_not_allowed_is_refused_by_its_key_and_what_is(key: str, value: object, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        parse({key: value})


def test_every_wrong_key_is_named_at_once() -> None:
    with pytest.raises(InvalidInput) as refusal:
        parse({"mode": "hunter2", "provider": 5, "force": "hunter2", "surplus": "hunter2", "chunkRows": -1})
    for name in ("mode", "provider", "force", "surplus", "chunkRows"):
        assert re.search(rf"(^|; )'?{name}\b", str(refusal.value))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *((key, {"hunter2": "hunter2"}) for key in (*KEYS, "surplus")),
        *((key, "hunter2") for key in (*KEYS, "surplus") if key not in ("tables", "provider", "managerProvider")),
        ("tables", ["data_source", {"hunter2": 1}]),
        ("provider", ["hunter2"]),
    ],
)
def test_a_wrong_value_is_not_repeated_since_a_secret_may_have_slipped_in(key: str, value: object) -> None:
    with pytest.raises(InvalidInput) as refusal:
        parse({key: value})
    assert "hunter2" not in f"{refusal.value!r} {refusal.value.__context__}"


def test_an_input_cannot_be_changed_after_it_was_checked() -> None:
    with pytest.raises(ValueError, match="frozen"):
        parse({}).mode = Mode.RE_ENCRYPT


_INPUTS = st.fixed_dictionaries(
    {},
    optional={
        "mode": st.sampled_from([mode.value for mode in Mode if mode is not Mode.RESTORE and mode.steps.by_table and mode is not Mode.ROLLBACK]),
        "tables": st.lists(st.sampled_from(TABLES)),
        "provider": st.text(min_size=1),
        "providerReady": st.booleans(),
        "maxConcurrency": st.none() | st.integers(1, MAXIMUM_CONCURRENCY),
        "chunkRows": st.integers(1, 100_000),
        "onUnreadable": st.sampled_from([choice.value for choice in OnUnreadable]),
        "force": st.booleans(),
        "settleSeconds": st.none() | st.integers(0, MAXIMUM_SETTLE_SECONDS),
        "maxSweeps": st.integers(1, 50),
        "unreadableBudget": st.floats(0, 1) | st.sampled_from([0, 1]),
        "maxLoad": st.integers(1, 100_000),
    },
)


@given(_INPUTS | st.just(RESTORE))
def test_an_input_that_is_shown_for_the_next_run_is_the_same_input(raw: dict[str, Any]) -> None:
    parsed = parse(raw)
    assert parse(parsed.as_input()) == parsed
    assert "mode" in parsed.as_input()


def test_an_input_is_shown_without_what_is_default() -> None:
    assert parse({}).as_input() == {"mode": "plan"}
    assert parse({"mode": "verify", "chunkRows": 1000, "force": False}).as_input() == {"mode": "verify"}
    assert parse(EVERYTHING).as_input() == EVERYTHING
    assert parse(RESTORE).as_input() == RESTORE


_TEXT = st.text(st.characters(), max_size=8)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3),
)


@given(_JSON | st.dictionaries(st.sampled_from(KEYS) | _TEXT, _JSON | st.sampled_from(["plan", "data_source"])))
def test_any_json_is_an_input_or_is_refused_in_text_that_can_be_sent(raw: object) -> None:
    try:
        parse(raw)
    except InvalidInput as refusal:
        str(refusal).encode()
