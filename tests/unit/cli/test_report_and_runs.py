"""`report` fetches what a run has left, byte for byte; `runs` lists what there is."""

from __future__ import annotations

import json
from pathlib import Path

from tests.unit.cli.conftest import Operator
from tests.unit.cli.fake_aws import SECRET, AwsSays, World


def test_a_report_is_shown_and_its_files_are_written_as_they_are(world: World, operator: Operator, tmp_path: Path) -> None:
    world.end(world.begin("the-move", {"mode": "re-encrypt"}))
    world.put("the-move/certificate.json", '{"certified":  true}\r\n')
    said = operator("report", "the-move", "--output", str(tmp_path / "new/out"))
    assert (said.code, said.errors) == (0, "")
    for words in ("succeeded: 400 values", "secrets.value", "a note", "the next step", "about USD 0.002", f"wrote {tmp_path}/new/out/report.html"):
        assert words in said.output
    for file in ("report.json", "report.html", "certificate.json"):
        assert (tmp_path / "new/out" / file).read_bytes() == world.objects[f"runs/the-move/{file}"]


def test_json_gives_report_json_to_standard_output_and_nothing_else(world: World, operator: Operator) -> None:
    world.end(world.begin("bad", {"mode": "re-encrypt"}), "FAILED", outcome="failed", error={"name": "LeaseHeld", "message": "another run"})
    said = operator("report", "--json")
    assert said.code == 0, "it has fetched the report, whatever that says"
    assert json.loads(said.output) == json.loads(world.objects["runs/bad/report.json"])


def test_a_run_that_still_goes_on_has_no_report_yet(world: World, operator: Operator) -> None:
    world.begin("the-move", {})
    said = operator("report", "the-move")
    assert (said.code, "the-move is still going, so it has no report yet; watch it: ./grafana-reencrypt watch" in said.errors) == (7, True)


def test_a_run_that_was_aborted_before_its_report_says_so(world: World, operator: Operator) -> None:
    world.end(world.begin("the-move", {}), "ABORTED", outcome=None)
    said = operator("report", "the-move", "--json")
    assert (said.code, said.output) == (4, "")
    assert "the-move aborted: no report; it has left no report. See https://" in said.errors


def test_a_run_that_step_functions_has_forgotten_is_found_by_its_report(world: World, operator: Operator, tmp_path: Path) -> None:
    world.end(world.begin("last-winter", {"mode": "verify"}))
    world.executions.clear()
    assert operator("report", "last-winter", "--output", str(tmp_path)).code == 0
    assert (tmp_path / "report.json").exists()
    said = operator("report", "never-was")
    assert (said.code, "has no run never-was" in said.errors) == (2, True)


def test_a_folder_that_cannot_be_written_is_named(world: World, operator: Operator, tmp_path: Path) -> None:
    world.end(world.begin("the-move", {}))
    (tmp_path / "file").write_text("")
    assert "is not a folder" in operator("report", "--output", str(tmp_path / "file")).errors
    said = operator("report", "--output", str(tmp_path / "file/below"))
    assert (said.code, "cannot be written: Not a directory" in said.errors) == (2, True)


def five_runs(world: World) -> None:
    world.end(world.begin("plan", {}))
    world.end(world.begin("bad", {"mode": "re-encrypt"}), "FAILED", outcome="failed", unreadable=[{}, {}])
    world.end(world.begin("stopped", {"mode": "verify"}), "ABORTED", outcome=None)
    world.end(world.begin("again", {"mode": "re-encrypt"}, redrives=1), stored="again-redrive-1")
    world.put("again-redrive-1/preflight.json", {})
    world.begin("now", {"mode": "rotate"})


def test_runs_are_listed_newest_first_with_what_their_reports_say(world: World, operator: Operator) -> None:
    five_runs(world)
    said = operator("runs", "--json")
    assert (said.code, said.errors) == (0, "")
    listed = [(run["run"], run["mode"], run["status"], run["outcome"], run["values"], run["unreadable"]) for run in json.loads(said.output)]
    assert listed == [
        ("now", "rotate", "RUNNING", None, None, None),
        ("again-redrive-1", "re-encrypt", "SUCCEEDED", "succeeded", 400, 0),
        ("stopped", "verify", "ABORTED", None, None, None),
        ("bad", "re-encrypt", "FAILED", "failed", 400, 2),
        ("plan", "plan", "SUCCEEDED", "succeeded", 400, 0),
    ]


def test_the_list_for_people_ends_at_the_limit(world: World, operator: Operator) -> None:
    five_runs(world)
    lines = operator("runs", "--limit", "3").output.splitlines()
    assert [line.split()[0] for line in lines] == ["run", "now", "again-redrive-1", "stopped"]
    assert lines[1].split()[1:3] == ["rotate", "running"]
    assert lines[2].split()[1:] == ["re-encrypt", "succeeded", "2026-11-24", "22:10:03", "57", "s", "400", "0"]
    assert world.names().count("ListExecutions") == 2, "no more pages than the limit needs"


def test_a_stack_without_runs_says_how_to_start_one(world: World, operator: Operator) -> None:
    said = operator("runs")
    assert (said.code, "has no run yet; start one that only plans" in said.output) == (0, True)
    assert json.loads(operator("runs", "--json").output) == []


def test_throttling_in_the_middle_of_a_list_loses_no_run(world: World, operator: Operator) -> None:
    five_runs(world)
    world.fail["ListExecutions"] = [AwsSays("ThrottlingException", SECRET)] * 2
    assert len(json.loads(operator("runs", "--json").output)) == 5
    assert world.patience == [1, 2]
