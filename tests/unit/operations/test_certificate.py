"""The certificate: who gets one, what it says, and that anyone can check it with the commands of docs/certificate.md."""

from __future__ import annotations

import copy
import hashlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reencrypt.handlers import report as handler
from reencrypt.operations.certificate import certificate, digest, file_of, refusal, report_file
from reencrypt.operations.modes import Mode
from reencrypt.operations.report import REPORT_HTML, REPORT_JSON
from reencrypt.storage.bucket import FolderBucket
from reencrypt.storage.objects import RunStore
from tests.support import reports

_PAGE = Path(__file__).parents[3] / "docs" / "certificate.md"
_SHA = "ab" * 32
_CERTIFIED = [mode for mode in Mode if mode not in (Mode.PLAN, Mode.RESTORE)]


def _certificate(report: dict[str, Any]) -> dict[str, Any]:
    found = certificate(report, _SHA)
    assert found is not None
    return found


@pytest.mark.parametrize("mode", Mode)
def test_every_mode_that_ends_with_all_read_gets_a_certificate_and_the_others_say_why_not(mode: Mode) -> None:
    report = reports.whole(mode)
    if mode in _CERTIFIED:
        found = _certificate(report)
        assert (found["mode"], found["run"], found["report_sha256"]) == (mode.value, report["run"], _SHA)
        assert found["statement"].endswith(".")
    else:
        assert certificate(report, _SHA) is None
        assert "verify" in (refusal(report) or "")


def _without(table: str) -> Callable[[dict[str, Any]], None]:
    def spoil(report: dict[str, Any]) -> None:
        report["columns"] = [column for column in report["columns"] if column["table"] != table]

    return spoil


def _unfinished(report: dict[str, Any]) -> None:
    report["removed"]["finished"] = False


SPOILT = {
    "an error": ("verify", lambda report: report.update(error={"name": "E", "message": "m"})),
    "failed": ("rotate", lambda report: report.update(outcome="failed")),
    "with unreadable values": ("re-encrypt", lambda report: report.update(outcome="succeeded-with-unreadable")),
    "nothing found": ("verify", lambda report: report.update(outcome="nothing-found")),
    "some tables": ("re-encrypt", _without("secrets")),
    "without the secrets manager": ("verify", _without("secret_encrypted_value")),
    "unreadable": ("verify", lambda report: report["totals"].update(unreadable=1)),
    "left under an old key": ("re-encrypt", lambda report: report.update(left_under_old_keys=1)),
    "found under an old key": ("verify", lambda report: report["totals"].update(re_encrypted=1)),
    "removal unfinished": ("prune-data-keys", _unfinished),
    "nothing removed": ("rollback", lambda report: report.update(removed=None)),
    "not looked through": ("prune-data-keys", lambda report: report.update(scan=None)),
    "a mode of a later version": ("verify", lambda report: report.update(mode="re-hash")),
}  # fmt: skip


@pytest.mark.parametrize(("mode", "spoil"), SPOILT.values(), ids=SPOILT.keys())
def test_a_run_that_did_not_end_well_or_did_not_read_everything_gets_none(mode: str, spoil: Any) -> None:
    report = copy.deepcopy(reports.whole(mode))
    assert refusal(report) is None
    spoil(report)
    assert refusal(report)
    assert certificate(report, _SHA) is None


@pytest.mark.parametrize("report", [reports.failed(), reports.minimal(), {}, {"mode": "verify", "outcome": "succeeded", "columns": []}])
def test_a_report_that_holds_next_to_nothing_gets_none(report: dict[str, Any]) -> None:
    assert certificate(report, _SHA) is None


def test_it_states_how_many_values_stand_under_what_and_none_under_an_old_key() -> None:
    report = reports.whole("re-encrypt")
    report["census"]["after"] = {"secret_key": 1, "fhk2m8wq41zt6b": 21_000, "default/mk1": 2}
    found = _certificate(report)
    assert found["values"] == {"read": 21_003, "under_an_old_key": 0, "directly_under_secret_key": 1, "plaintext": 0, "unreadable": 0}
    assert found["by_key"] == [
        {"store": "Grafana", "provider": None, "kms_key": None, "data_keys": 0, "count": 1},
        {"store": "Grafana", "provider": reports.PROVIDER, "kms_key": reports.NEW_KMS_KEY, "data_keys": 1, "count": 21_000},
        {"store": "secrets manager, namespace default", "provider": "secret_key.v1", "kms_key": None, "data_keys": 1, "count": 2},
    ]
    assert found["statement"] == (
        f"21003 encrypted values were read when the run ended. 0 of them were under another key than an active data key of {reports.PROVIDER} "
        "(in the secrets manager: of its own provider). 1 of them was directly under secret_key, where Grafana reads nothing else."
    )
    assert found["data_keys"] == {"left": 3, "unreadable": 0, "wrapped_anew": 0, "removed": 0}
    assert (found["database"], found["started"], found["finished"]) == (report["engine"], report["started"], report["finished"])
    assert found["whole_database"] is None


def test_a_run_that_writes_is_judged_by_what_it_read_last_and_a_verify_by_what_it_read() -> None:
    report = reports.whole("rotate")
    report["census"]["before"] = {"eejw1hkc5vtvke": 99}
    assert _certificate(report)["values"]["read"] == sum(report["census"]["after"].values())
    verified = reports.whole("verify")
    assert _certificate(verified)["values"]["read"] == sum(verified["census"]["before"].values())


def test_it_states_what_was_removed_what_is_left_and_what_stands_in_columns_in_no_list() -> None:
    found = _certificate(reports.whole("prune-data-keys"))
    assert (found["values"], found["counted"]) == (None, "references")
    assert found["data_keys_removed"] == ["gone1", "gone2"]
    assert (found["data_keys"]["removed"], found["data_keys"]["left"]) == (2, 3)
    assert found["whole_database"] == {"tables": 82, "rows": 1875, "columns_in_no_list": 1, "references_in_columns_in_no_list": 4}
    assert [(key["kms_key"], key["safe_to_disable"]) for key in found["kms_keys"]] == [(reports.OLD_KMS_KEY, True), (reports.NEW_KMS_KEY, False)]
    assert "82 tables with 1875 rows were looked through" in found["statement"]


def test_a_thousand_data_keys_of_one_provider_are_one_line() -> None:
    found = _certificate(reports.with_many_keys(1000))
    assert [(line["provider"], line["data_keys"]) for line in found["by_key"]] == [("secretKey.v1", 888)], "every ninth protects nothing"
    assert found["data_keys"]["left"] == 1000


def test_it_says_what_it_does_not_say() -> None:
    said = " ".join(_certificate(reports.whole("verify"))["does_not_say"])
    for limit in ("this database", "backups", "not signed"):
        assert limit in said


def _places(facts: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every leaf."""
    if isinstance(facts, dict):
        return [place for name, inner in facts.items() for place in _places(inner, (*path, name))]
    if isinstance(facts, list):
        return [place for index, inner in enumerate(facts) for place in _places(inner, (*path, index))]
    return [path]


def test_any_fact_that_is_changed_changes_its_hash() -> None:
    found = _certificate(reports.whole("rollback"))
    assert digest(found) == found["sha256"]
    places = [place for place in _places(found) if place != ("sha256",)]
    assert len(places) > 40
    for place in places:
        forged = copy.deepcopy(found)
        inner = forged
        for step in place[:-1]:
            inner = inner[step]
        inner[place[-1]] = "forged"
        assert digest(forged) != found["sha256"], place


def test_its_hash_outlives_being_written_and_read_and_is_over_nothing_that_programs_write_differently() -> None:
    found = _certificate(reports.whole("verify") | {"run": "läuft-\u202e", "engine": "half a pair \ud800"})
    text = file_of(found)
    assert text.isascii()
    assert digest(json.loads(text)) == found["sha256"]
    assert "." not in re.sub(r'"(\\.|[^"])*"', "", text), "no floats"


def test_the_same_report_has_the_same_certificate() -> None:
    assert _certificate(reports.whole("verify")) == _certificate(reports.whole("verify"))


@pytest.mark.parametrize("value", [{"ä": 1.5}, {"half a pair": "\ud800"}])
def test_report_json_is_text_that_reads_back_as_the_same_facts(value: dict[str, Any]) -> None:
    text = report_file(value)
    text.encode()
    assert json.loads(text) == value
    assert text == json.dumps(value, indent=2, ensure_ascii="\ud800" in value.values()) + "\n"


def _publish(report: dict[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[dict[str, Any], Path]:
    monkeypatch.setenv("RUN_BUCKET", "a-bucket")
    summary = handler.publish(RunStore(FolderBucket(folder), "run-1"), report)
    return summary, folder / "runs" / "run-1"


def _commands() -> list[str]:
    blocks = re.findall(r"```bash\n(.*?)```", _PAGE.read_text(), re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line]


def _run(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [shutil.which("bash") or "bash", "-c", command.replace("python3", sys.executable)], cwd=folder, capture_output=True, text=True, check=False
    )


def test_the_certificate_is_published_beside_the_report_and_the_two_commands_of_its_page_check_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    summary, folder = _publish(reports.whole("rotate"), tmp_path, monkeypatch)
    assert summary["certificate"] == "s3://a-bucket/runs/run-1/certificate.json"
    stored = json.loads((folder / "certificate.json").read_text())
    assert stored["report_sha256"] == hashlib.sha256((folder / REPORT_JSON).read_bytes()).hexdigest()
    assert stored["sha256"] in (folder / REPORT_HTML).read_text()
    commands = _commands()
    assert len(commands) == 2
    assert [_run(command, folder).stdout for command in commands] == ["report.json: OK\n", "certificate.json: OK\n"]

    changed = (folder / "certificate.json").read_text().replace('"unreadable": 0', '"unreadable": 7', 1)
    (folder / "certificate.json").write_text(changed)
    (folder / REPORT_JSON).write_text((folder / REPORT_JSON).read_text().replace("succeeded", "suceeded", 1))
    for command in commands:
        done = _run(command, folder)
        assert done.returncode != 0
        assert ": OK" not in done.stdout


def test_a_run_without_a_certificate_publishes_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    summary, folder = _publish(reports.whole("plan"), tmp_path, monkeypatch)
    assert summary["certificate"] is None
    assert sorted(path.name for path in folder.iterdir()) == [REPORT_HTML, REPORT_JSON]


def test_a_certificate_of_a_run_that_is_reported_as_failed_after_all_is_withdrawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _publish(reports.whole("rotate"), tmp_path, monkeypatch)
    summary, folder = _publish(reports.failed() | {"totals": {}}, tmp_path, monkeypatch)
    assert summary["certificate"] is None
    assert json.loads((folder / "certificate.json").read_text()) == {"withdrawn": reports.failed()["headline"]}
    assert all(_run(command, folder).returncode for command in _commands())


def test_the_page_names_every_field() -> None:
    page = _PAGE.read_text()
    for name in _certificate(reports.whole("rollback")):
        assert f"`{name}`" in page, name
