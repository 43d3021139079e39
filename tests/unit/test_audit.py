"""`tools/audit` never takes a package that nobody was asked about for a good one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from tools.audit import LOCKS, NOT_ASKED, VULNERABLE, Findings, Run, audit_node, audit_python, exit_code, main

GOOD = {"name": "good", "version": "1.0", "vulns": []}
BAD = {"name": "bad", "version": "1.0", "vulns": [{"id": "PYSEC-2026-1", "fix_versions": ["1.1"], "aliases": [], "description": "…"}]}
UNKNOWN = {"name": "bad", "skip_reason": "Dependency not found on PyPI and could not be audited: bad (1.0)"}
NODE_GOOD = {"vulnerabilities": {}, "metadata": {"dependencies": {"total": 16}}}
NODE_BAD = {"vulnerabilities": {"ajv": {"severity": "high", "via": [{"title": "Prototype pollution"}, "uri-js"]}}, "metadata": {"dependencies": {"total": 16}}}


def answering(node: Any = NODE_GOOD, **services: Any) -> Run:
    """A `Run` whose programs print these answers: a list of packages, or the complaint of a program that could not ask."""

    def run(command: Sequence[str]) -> tuple[str, str]:
        answer = node if command[0] == "npm" else services.get(command[-1], "not reached")
        if isinstance(answer, list):
            answer = {"dependencies": answer, "fixes": []}
        return (json.dumps(answer), "") if isinstance(answer, Mapping) else ("", answer)

    return run


def test_packages_without_a_known_vulnerability_are_good() -> None:
    findings = audit_python("x.lock", answering(pypi=[GOOD]))
    assert (findings.asked, findings.vulnerable, findings.not_asked) == (1, [], [])
    assert exit_code([findings]) == 0


def test_a_vulnerable_package_is_named_with_the_version_that_mends_it() -> None:
    findings = audit_python("x.lock", answering(pypi=[GOOD, BAD]))
    assert findings.vulnerable == ["bad 1.0: PYSEC-2026-1, mended in 1.1"]
    assert exit_code([findings, Findings("y.lock", asked=1)]) == VULNERABLE


def test_a_package_that_pypi_does_not_know_is_asked_of_osv() -> None:
    findings = audit_python("x.lock", answering(pypi=[GOOD, UNKNOWN], osv=[GOOD, BAD]))
    assert (findings.asked, findings.not_asked) == (2, [])
    assert findings.vulnerable == ["bad 1.0: PYSEC-2026-1, mended in 1.1"]


@pytest.mark.parametrize("services", [{"pypi": [GOOD, UNKNOWN]}, {"pypi": [GOOD, UNKNOWN], "osv": [GOOD, UNKNOWN]}])
def test_a_package_that_no_database_knows_is_not_an_all_clear(services: dict[str, Any]) -> None:
    findings = audit_python("x.lock", answering(**services))
    assert findings.not_asked
    assert any(line.startswith("NOT ASKED") for line in findings.lines())
    assert exit_code([findings]) == NOT_ASKED


@pytest.mark.parametrize("services", [{"pypi": "boom", "osv": "No such host"}, {"pypi": []}, {"pypi": {}, "osv": {}}])
def test_a_database_that_cannot_be_reached_is_not_an_all_clear(services: dict[str, Any]) -> None:
    assert exit_code([audit_python("x.lock", answering(**services))]) == NOT_ASKED


def test_osv_answers_where_pypi_cannot_be_reached() -> None:
    findings = audit_python("x.lock", answering(pypi="boom", osv=[GOOD]))
    assert (findings.asked, findings.not_asked) == (1, [])


def test_vulnerable_node_packages_are_named() -> None:
    assert audit_node(answering(NODE_BAD)).vulnerable == ["ajv: Prototype pollution, through uri-js (high)"]
    assert exit_code([audit_node(answering(NODE_GOOD))]) == 0


@pytest.mark.parametrize("answer", ["npm warn audit 405 Method Not Allowed", {"error": {"summary": "not here", "detail": ""}}, {"error": "x"}, ""])
def test_a_registry_that_cannot_be_asked_is_not_an_all_clear(answer: Any) -> None:
    findings = audit_node(answering(answer))
    assert findings.not_asked
    assert exit_code([findings]) == NOT_ASKED


def test_the_last_line_says_what_the_exit_code_says(capsys: pytest.CaptureFixture[str]) -> None:
    for run, code, last in (
        (answering(pypi=[GOOD]), 0, "Nothing known."),
        (answering(pypi=[BAD]), VULNERABLE, "Vulnerable packages."),
        (answering(NODE_BAD, pypi="boom"), VULNERABLE, "Vulnerable packages."),
        (answering("405", pypi=[GOOD]), NOT_ASKED, "Not an all-clear: some packages could not be asked about."),
    ):
        assert main(run) == code
        printed = capsys.readouterr().out.splitlines()
        assert printed[-1] == last
        assert all(any(lock in line for line in printed) for lock in (*LOCKS, "package-lock.json"))
