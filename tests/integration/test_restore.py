"""`restore` brings back, byte for byte, what a run has written over, and nothing that Grafana has written since."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from reencrypt.database.database import Database, Swap, Swapped
from reencrypt.errors import KeyUnusable
from reencrypt.grafana.secret_columns import ColumnGroup
from reencrypt.operations import chunk as chunks
from reencrypt.operations.run_input import RunInput
from reencrypt.operations.work import Phase
from reencrypt.operations.workspace import Workspace
from reencrypt.storage.bucket import FolderBucket
from reencrypt.storage.journal import Journal
from tests.integration.test_golden_runs import assert_all_readable, entries, sums
from tests.integration.test_live_grafana import column, meddling, value
from tests.support import snapshot
from tests.support.golden import GoldenDatabase
from tests.support.local_run import KMS, LocalRun

EACH_ENGINE = pytest.mark.parametrize("golden_database", ["12.4.0-sqlite", "12.4.0-mysql", "12.4.0-postgres"], indirect=True)
SQLITE = pytest.mark.parametrize("golden_database", ["12.4.0-sqlite"], indirect=True)
FEW: dict[str, Any] = {"providerReady": True, "tables": ["data_source", "user_auth", "alert_configuration"], "settleSeconds": 0}
TOKEN = "o_auth_access_token"


def unwrapped(database: Database) -> Database:
    return database


def execute(database: GoldenDatabase, statement: str, **parameters: Any) -> None:
    with database.engine.begin() as connection:
        connection.execute(sa.text(statement), parameters)


def before_swap(action: Callable[[ColumnGroup, Sequence[Swap]], None]) -> Callable[[Database], Database]:
    """`action` comes between the journal and the write."""

    def wrap(ours: Database) -> Database:
        swap = ours.compare_and_swap

        def compare_and_swap(group: ColumnGroup, swaps: Sequence[Swap]) -> list[Swapped]:
            action(group, swaps)
            return swap(group, swaps)

        ours.compare_and_swap = compare_and_swap  # type: ignore[method-assign]  # the seam between journal and write
        return ours

    return wrap


def journal(run: LocalRun, name: str) -> Journal:
    return Journal(FolderBucket(run.folder / "journal-bucket"), name)


def changed_tables(before: snapshot.Snapshot, after: snapshot.Snapshot) -> set[str]:
    return {table for table, _, _ in snapshot.difference(before, after)}


@EACH_ENGINE
def test_every_secret_comes_back_byte_for_byte(golden_database: GoldenDatabase, tmp_path: Path) -> None:
    """Storage classes included: the snapshot of SQLite has them."""
    run = LocalRun(golden_database.settings(), tmp_path)
    before = snapshot.take(golden_database.engine)
    run.run("re-encrypt", providerReady=True, settleSeconds=0)
    between = snapshot.take(golden_database.engine)
    assert len(snapshot.difference(before, between)) > 50
    report = run.run("restore", run="run-1")
    assert (report["outcome"], report["error"], report["unreadable"]) == ("succeeded", None, [])
    assert (report["totals"]["re_encrypted"], report["restored_run"]) == (len(entries(golden_database)) - 1, "run-1")
    sums(report)
    restored = snapshot.take(golden_database.engine)
    assert changed_tables(before, restored) == {"data_keys"}, "the run's own data key stays"

    again = run.run("restore", run="run-1")
    assert (again["outcome"], again["totals"]["re_encrypted"]) == ("succeeded", 0)
    assert again["totals"]["already_current"] == again["totals"]["values"] == report["totals"]["values"]
    assert snapshot.difference(restored, snapshot.take(golden_database.engine)) == []

    undone = run.run("restore", run="run-2")
    assert (undone["outcome"], undone["totals"]["re_encrypted"]) == ("succeeded", report["totals"]["re_encrypted"])
    assert snapshot.difference(between, snapshot.take(golden_database.engine)) == [], "a restore is undone like any run"


@EACH_ENGINE
def test_what_grafana_has_written_since_is_left_alone_and_counted(golden_database: GoldenDatabase, tmp_path: Path) -> None:
    run = LocalRun(golden_database.settings(), tmp_path)
    before = snapshot.take(golden_database.engine)
    run.run("re-encrypt", **FEW)
    theirs = value(golden_database, "user_auth", TOKEN, 2)
    execute(golden_database, f"UPDATE user_auth SET {TOKEN} = :theirs, o_auth_id_token = NULL WHERE id = 1", theirs=theirs)
    execute(golden_database, "DELETE FROM data_source WHERE id = 1")
    report = run.run("restore", run="run-1")
    assert report["outcome"] == "succeeded"
    assert value(golden_database, "user_auth", TOKEN, 1) == theirs
    token, id_token, sources = (
        column(report, "user_auth", TOKEN), column(report, "user_auth", "o_auth_id_token"), column(report, "data_source", "secure_json_data")
    )  # fmt: skip
    assert (token["re_encrypted"], token["changed_by_grafana"]) == (1, 1)
    assert (id_token["re_encrypted"], id_token["changed_by_grafana"]) == (1, 1)
    deleted = sum((entry["table"], entry["pk"]) == ("data_source", {"id": 1}) for entry in entries(golden_database))
    assert sources["changed_by_grafana"] == deleted > 0
    sums(report)
    left = snapshot.difference(before, snapshot.take(golden_database.engine))
    rows = {(table, int(key[0][0] if isinstance(key[0], tuple) else key[0])) for table, key, _ in left if table != "data_keys"}
    assert rows == {("user_auth", 1), ("data_source", 1)}


@EACH_ENGINE
def test_what_grafana_writes_while_the_restore_goes_on_wins(golden_database: GoldenDatabase, tmp_path: Path) -> None:
    run = LocalRun(golden_database.settings(), tmp_path)
    run.run("re-encrypt", **FEW)
    theirs = value(golden_database, "user_auth", TOKEN, 2)
    run.wrap_database = meddling(golden_database, run, "user_auth", f"UPDATE user_auth SET {TOKEN} = '{theirs}' WHERE id = 1")
    report = run.run("restore", run="run-1")
    assert value(golden_database, "user_auth", TOKEN, 1) == theirs
    assert (column(report, "user_auth", TOKEN)["re_encrypted"], column(report, "user_auth", TOKEN)["changed_by_grafana"]) == (1, 1)
    assert column(report, "user_auth", "o_auth_refresh_token")["re_encrypted"] == 2, "a column beside it is still put back"


@EACH_ENGINE
def test_a_contact_point_that_has_moved_within_its_document_is_still_restored(golden_database: GoldenDatabase, tmp_path: Path) -> None:
    def receivers() -> dict[str, str]:
        """Secrets of configuration 1 by the name of their receiver and setting."""
        document = json.loads(value(golden_database, "alert_configuration", "alertmanager_configuration", 1))
        found: dict[str, str] = {}
        for receiver in document["alertmanager_config"]["receivers"]:
            for config in receiver.get("grafana_managed_receiver_configs") or []:
                found |= {f"{config['name']}/{config['type']}/{name}": text for name, text in (config.get("secureSettings") or {}).items()}
        return found

    run = LocalRun(golden_database.settings(), tmp_path)
    before = receivers()
    assert before
    run.run("re-encrypt", **FEW)
    document = json.loads(value(golden_database, "alert_configuration", "alertmanager_configuration", 1))
    document["alertmanager_config"]["receivers"].reverse()
    execute(golden_database, "UPDATE alert_configuration SET alertmanager_configuration = :text WHERE id = 1", text=json.dumps(document, indent=1))
    report = run.run("restore", run="run-1")
    assert receivers() == before
    assert column(report, "alert_configuration", "alertmanager_configuration")["changed_by_grafana"] == 0


@EACH_ENGINE
def test_a_value_that_a_run_wrote_twice_ends_as_it_was_before_the_first(
    golden_database: GoldenDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = LocalRun(golden_database.settings(), tmp_path)
    before = snapshot.take(golden_database.engine)
    old = value(golden_database, "user_auth", TOKEN, 1)
    run.settle = lambda _: execute(golden_database, f"UPDATE user_auth SET {TOKEN} = :old WHERE id = 1", old=old)
    first = run.run("re-encrypt", **{**FEW, "settleSeconds": 960})
    assert [sweep["moved"] for sweep in first["sweeps"]] == [1, 0]
    report = run.run("restore", run="run-1")
    assert report["totals"]["re_encrypted"] == first["totals"]["re_encrypted"], "counted once"
    assert changed_tables(before, snapshot.take(golden_database.engine)) == {"data_keys"}


class Died(BaseException):
    pass


@SQLITE
def test_a_forced_page_that_was_delivered_twice_ends_as_it_was_before_the_first_write(golden_database: GoldenDatabase, tmp_path: Path) -> None:
    """The first worker died after its write; with `force` the second one writes over what the first one wrote."""
    run = LocalRun(golden_database.settings(), tmp_path)
    before = snapshot.take(golden_database.engine)
    deaths: list[ColumnGroup] = []

    def wrap(ours: Database) -> Database:
        swap = ours.compare_and_swap

        def compare_and_swap(group: ColumnGroup, swaps: Sequence[Swap]) -> list[Swapped]:
            results = swap(group, swaps)
            if group.table == "data_source" and not deaths:
                deaths.append(group)
                raise Died
            return results

        ours.compare_and_swap = compare_and_swap  # type: ignore[method-assign]  # the seam after the write
        return ours

    run.wrap_database = wrap
    each = run.over_all_chunks

    def retried(request: RunInput, workspace: Workspace, phase: Phase) -> None:
        try:
            each(request, workspace, phase)
        except Died:
            each(request, workspace, phase)

    run.over_all_chunks = retried  # type: ignore[method-assign]  # the state machine's Retry
    first = run.run("re-encrypt", **FEW, force=True)
    assert deaths
    assert len(journal(run, "run-1").pages(1)) + len(journal(run, "run-1").pages(0)) + len(journal(run, "run-1").pages(2)) == 4
    for expected in (first["totals"]["re_encrypted"], 0):
        report = run.run("restore", run="run-1")
        assert (report["outcome"], report["totals"]["re_encrypted"]) == ("succeeded", expected)
        assert report["totals"]["values"] == first["totals"]["re_encrypted"]
        assert changed_tables(before, snapshot.take(golden_database.engine)) == {"data_keys"}


@EACH_ENGINE
def test_an_old_ciphertext_that_the_keys_no_longer_open_stays_in_the_journal(golden_database: GoldenDatabase, tmp_path: Path) -> None:
    run = LocalRun(golden_database.settings(), tmp_path)
    run.run("re-encrypt", **FEW)
    gone = next(entry["key_id"] for entry in entries(golden_database) if entry["table"] == "data_source" and entry["key_id"])
    execute(golden_database, "DELETE FROM data_keys WHERE name = :name", name=gone)
    before = snapshot.take(golden_database.engine)
    under = [entry for entry in entries(golden_database) if entry["key_id"] == gone and entry["table"] in FEW["tables"]]
    report = run.run("restore", run="run-1")
    assert (report["outcome"], report["totals"]["unreadable"]) == ("failed", len(under))
    assert {entry["reason"] for entry in report["unreadable"]} == {"unknown-data-key"}
    assert {(entry["table"], repr(entry["path"])) for entry in report["unreadable"]} == {(entry["table"], repr(entry["path"])) for entry in under}
    sums(report)
    after = snapshot.take(golden_database.engine)
    raw = next(entry for entry in under if not entry["path"])
    key = next(key for key in after[raw["table"]] if str(next(iter(raw["pk"].values()))) in str(key[0]))
    assert after[raw["table"]][key][raw["column"]] == before[raw["table"]][key][raw["column"]], "left as the run wrote it"


@SQLITE
def test_a_database_whose_kms_key_is_gone_is_brought_back_to_the_old_key(golden_database: GoldenDatabase, tmp_path: Path) -> None:
    run = LocalRun(golden_database.settings(), tmp_path)
    before = snapshot.take(golden_database.engine)
    run.run("re-encrypt", **FEW)
    run.kms.fails = KeyUnusable("the key is pending deletion")
    report = run.run("restore", run="run-1")
    assert report["outcome"] == "succeeded", report["headline"]
    assert changed_tables(before, snapshot.take(golden_database.engine)) == {"data_keys"}


@EACH_ENGINE
def test_what_a_worker_kept_and_died_before_it_wrote_is_passed_over(golden_database: GoldenDatabase, tmp_path: Path) -> None:
    run = LocalRun(golden_database.settings(), tmp_path)
    before = snapshot.take(golden_database.engine)

    def die(group: ColumnGroup, _: Sequence[Swap]) -> None:
        if group.table == "data_source":
            raise Died

    run.wrap_database = before_swap(die)
    with pytest.raises(Died):
        run.run("re-encrypt", **FEW)
    run.wrap_database = unwrapped
    report = run.run("restore", run="run-1")
    sources = column(report, "data_source", "secure_json_data")
    assert (sources["re_encrypted"], sources["already_current"]) == (0, sources["values"])
    assert sources["values"] > 0
    assert changed_tables(before, snapshot.take(golden_database.engine)) == {"data_keys"}


@EACH_ENGINE
def test_the_old_text_of_every_value_is_in_the_journal_before_it_is_written_over(golden_database: GoldenDatabase, tmp_path: Path) -> None:
    run = LocalRun(golden_database.settings(), tmp_path)
    checked = []

    def check(group: ColumnGroup, swaps: Sequence[Swap]) -> None:
        kept = journal(run, f"run-{run.number}")
        entries = [entry for chunk in kept.chunks() for page in kept.pages(chunk) for entry in kept.read(page)]
        olds = {(entry.column, entry.key, entry.old) for entry in entries}
        for swap in swaps:
            for index, new in swap.new.items():
                stored = swap.row.values[index]
                assert stored is not None
                parts = [old for column_id, key, old in olds if (column_id, key) == (group.columns[index].id, swap.row.key)]
                assert parts
                rest = stored
                for part in parts:
                    assert part in stored
                    rest = rest.replace(part, b"")
                assert all(len(piece) < 100 for piece in rest.split(b'"')), "no payload is left that the journal does not hold"
                assert new != stored
                checked.append(swap)

    run.wrap_database = before_swap(check)
    assert run.run("re-encrypt", **FEW)["outcome"] == "succeeded"
    assert len(checked) > 5


@SQLITE
def test_a_journal_that_cannot_be_written_lets_nothing_be_written_over(
    golden_database: GoldenDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Refused(Exception):
        pass

    def refuse(*_: object) -> None:
        raise Refused

    run = LocalRun(golden_database.settings(), tmp_path)
    before = snapshot.take(golden_database.engine)
    monkeypatch.setattr(Journal, "record", refuse)
    with pytest.raises(Refused):
        run.run("re-encrypt", providerReady=True)
    assert changed_tables(before, snapshot.take(golden_database.engine)) <= {"data_keys"}


@SQLITE
@pytest.mark.parametrize(
    ("source", "words"),
    [("run-9", "there is no run run-9"), ("run-1", "the undo journal of run-1 is empty"), ("run-3", "there is no run run-3")],
    ids=["unknown", "wrote nothing", "itself"],
)
def test_a_run_with_nothing_to_undo_is_refused_with_words(golden_database: GoldenDatabase, tmp_path: Path, source: str, words: str) -> None:
    run = LocalRun(golden_database.settings(), tmp_path)
    run.run("plan")
    run.run("verify")
    report = run.run("restore", run=source)
    assert (report["outcome"], report["error"]["name"]) == ("failed", "InvalidInput")
    assert words in report["error"]["message"]


@SQLITE
def test_a_deployment_without_a_journal_says_so_before_and_after(golden_database: GoldenDatabase, tmp_path: Path) -> None:
    run = LocalRun(golden_database.settings(), tmp_path, journals=False)
    report = run.run("re-encrypt", **FEW)
    assert report["undo_journal"] is False
    assert any("no undo journal of this run (journal_days = 0)" in note for note in report["notes"])
    assert not any("To undo this run" in step for step in report["next_steps"])
    refused = run.run("restore", run="run-1")
    assert (refused["error"]["name"], "keeps no undo journal (journal_days = 0)" in refused["error"]["message"]) == ("ConfigurationError", True)


@SQLITE
def test_the_report_says_how_to_undo_the_run_and_what_a_restore_has_done(golden_database: GoldenDatabase, tmp_path: Path) -> None:
    run = LocalRun(golden_database.settings(), tmp_path)
    report = run.run("re-encrypt", **FEW)
    assert any('{"mode": "restore", "run": "run-1"}' in step for step in report["next_steps"])
    restored = run.run("restore", run="run-1")
    values = restored["totals"]["values"]
    assert restored["headline"].startswith(f"succeeded: {values} values: {values} put back as they were before run-1")
    assert restored["next_input"] == {"mode": "verify"}


@SQLITE
def test_only_the_named_tables_are_restored(golden_database: GoldenDatabase, tmp_path: Path) -> None:
    run = LocalRun(golden_database.settings(), tmp_path)
    before = snapshot.take(golden_database.engine)
    run.run("re-encrypt", **FEW)
    report = run.run("restore", run="run-1", tables=["user_auth"])
    assert {entry["table"] for entry in report["columns"]} == {"user_auth"}
    assert changed_tables(before, snapshot.take(golden_database.engine)) == {"data_keys", "data_source", "alert_configuration"}


@SQLITE
def test_two_equal_old_texts_in_one_document_are_two_values(golden_database: GoldenDatabase, tmp_path: Path) -> None:
    """Grafana copies ciphertexts. Undoing the restore, both come back to their own."""
    old = json.loads(value(golden_database, "data_source", "secure_json_data", 2))
    name, text = next(iter(old.items()))
    execute(golden_database, "UPDATE data_source SET secure_json_data = :text WHERE id = 2", text=json.dumps({name: text, "copy": text}))
    run = LocalRun(golden_database.settings(), tmp_path)
    states = [snapshot.take(golden_database.engine)]
    reports = [run.run("re-encrypt", providerReady=True, tables=["data_source"])]
    states.append(snapshot.take(golden_database.engine))
    reports.append(run.run("restore", run="run-1"))
    states.append(snapshot.take(golden_database.engine))
    reports.append(run.run("restore", run="run-2"))
    states.append(snapshot.take(golden_database.engine))
    assert changed_tables(states[0], states[2]) == {"data_keys"}
    assert snapshot.difference(states[1], states[3]) == []
    assert len({report["totals"]["re_encrypted"] for report in reports}) == 1


@SQLITE
def test_all_that_is_restored_is_readable(golden_database: GoldenDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In small pages and chunks, from one provider to the other and back."""
    monkeypatch.setattr(chunks, "PAGE_ROWS", 2)
    run = LocalRun(golden_database.settings(), tmp_path)
    run.run("re-encrypt", providerReady=True, settleSeconds=0)
    run.run("re-encrypt", provider="secretKey.v1", chunkRows=9, settleSeconds=0)
    assert run.run("restore", run="run-2")["outcome"] == "succeeded"
    assert_all_readable(golden_database, run, KMS)


@EACH_ENGINE
def test_an_old_text_that_holds_another_secret_than_the_one_that_stands_there_is_not_put_back(golden_database: GoldenDatabase, tmp_path: Path) -> None:
    """CFB does not authenticate: under a wrong key a short secret may well decrypt to text. Here two entries of a journal have changed places."""
    run = LocalRun(golden_database.settings(), tmp_path)
    run.run("re-encrypt", providerReady=True, tables=["user_auth"], settleSeconds=0)
    bucket = FolderBucket(run.folder / "journal-bucket")
    [page] = bucket.keys("journal/run-1/")
    kept = list(journal(run, "run-1").read(page))
    tokens = [entry for entry in kept if entry.column.endswith("o_auth_refresh_token")]
    assert len(tokens) >= 2
    rows = [int(str(entry.key[0])) for entry in tokens[:2]]
    standing = [value(golden_database, "user_auth", "o_auth_refresh_token", row) for row in rows]
    swapped = {id(tokens[0]): tokens[1].old, id(tokens[1]): tokens[0].old}
    (run.folder / "journal-bucket" / page).unlink()
    journal(run, "run-1").record(int(page.split("/")[2]), [replace(entry, old=swapped.get(id(entry), entry.old)) for entry in kept])
    report = run.run("restore", run="run-1")
    assert [entry["reason"] for entry in report["unreadable"]] == ["implausible-plaintext"] * 2
    assert {(entry["column"], entry["primary_key"]["id"]) for entry in report["unreadable"]} == {("o_auth_refresh_token", row) for row in rows}
    assert report["totals"]["re_encrypted"] == len(kept) - 2
    assert [value(golden_database, "user_auth", "o_auth_refresh_token", row) for row in rows] == standing
