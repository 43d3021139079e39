"""Known vulnerabilities of every locked package; a package that no database of advisories was asked about is never taken for a good one.

Exit codes: 0 every package was asked about and none has a known vulnerability · 1 some have · 3 some could not be asked about (and of the others none
has one). pip-audit alone ends with 0 when its database knows no package at all.

Sources: pip-audit's README (PyPI's advisories, else OSV's); npm's documentation of `npm audit --json`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
LOCKS = ("lambda/requirements.lock", "requirements.lock", "localaws/requirements-runtime.lock", "tools/requirements.lock")
NPM_LOCK = "package-lock.json"
VULNERABLE, NOT_ASKED = 1, 3
_SECONDS = 300

# Runs a command in the checkout; returns what it printed on standard output and on standard error.
Run = Callable[[Sequence[str]], tuple[str, str]]


@dataclass
class Findings:
    """Of one lock file: how many packages were asked about, what is known to be vulnerable, and what could not be asked, with the reason."""

    lock: str
    asked: int = 0
    vulnerable: list[str] = field(default_factory=list)
    not_asked: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """Bad news first."""
        return [
            *(f"VULNERABLE  {self.lock}: {text}" for text in self.vulnerable),
            *([f"NOT ASKED   {self.lock}: {'; '.join(self.not_asked)}"] if self.not_asked else []),
            f"asked       {self.lock}: {self.asked} packages, {len(self.vulnerable)} known vulnerabilities",
        ]


def audit_python(lock: str, run: Run) -> Findings:
    """Asks PyPI's advisories, then OSV's about what PyPI did not answer."""
    findings, left = Findings(lock), None
    for service in ("pypi", "osv"):
        printed, complaint = run(
            [str(Path(sys.executable).with_name("pip-audit")), "--requirement", lock, "--require-hashes", "--disable-pip", "--format", "json",
             "--progress-spinner", "off", "--vulnerability-service", service]
        )  # fmt: skip
        answer = _json(printed)
        if not isinstance(answer.get("dependencies"), list):
            findings.not_asked = findings.not_asked or [_line(complaint) or "pip-audit gave no answer"]
            continue
        wanted = [package for package in answer["dependencies"] if left is None or package["name"] in left]
        answered = [package for package in wanted if "skip_reason" not in package]
        left = {package["name"] for package in wanted if "skip_reason" in package}
        findings.asked += len(answered)
        findings.vulnerable += [
            f"{package['name']} {package['version']}: {found['id']}, mended in {', '.join(found['fix_versions']) or 'no version yet'}"
            for package in answered
            for found in package["vulns"]
        ]
        findings.not_asked = [f"no database of advisories answered for {', '.join(sorted(left))}"] if left else []
        if not left:
            break
    if not findings.asked and not findings.not_asked:
        findings.not_asked = ["pip-audit named no package"]
    return findings


def audit_node(run: Run) -> Findings:
    """Asks npm's registry about package-lock.json."""
    findings = Findings(NPM_LOCK)
    printed, complaint = run(["npm", "audit", "--json", "--package-lock-only"])
    answer = _json(printed)
    if not isinstance(answer.get("vulnerabilities"), dict):
        error = answer.get("error")
        findings.not_asked = [str((error.get("summary") if isinstance(error, Mapping) else "") or _line(complaint, first=True) or "npm audit gave no answer")]
        return findings
    findings.asked = int(answer["metadata"]["dependencies"]["total"])
    findings.vulnerable = [
        f"{name}: {', '.join(cause['title'] if isinstance(cause, Mapping) else f'through {cause}' for cause in found['via'])} ({found['severity']})"
        for name, found in sorted(answer["vulnerabilities"].items())
    ]
    return findings


def exit_code(all_findings: Sequence[Findings]) -> int:
    """What the shell is told."""
    if any(findings.vulnerable for findings in all_findings):
        return VULNERABLE
    return NOT_ASKED if any(findings.not_asked or not findings.asked for findings in all_findings) else 0


def run_in_checkout(command: Sequence[str]) -> tuple[str, str]:
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=_SECONDS)  # noqa: S603 - no shell
    except (OSError, subprocess.TimeoutExpired) as error:
        return "", f"{command[0]}: {type(error).__name__}"
    return done.stdout, done.stderr


def main(run: Run = run_in_checkout) -> int:
    all_findings = [*(audit_python(lock, run) for lock in LOCKS), audit_node(run)]
    for findings in all_findings:
        print("\n".join(findings.lines()))
    code = exit_code(all_findings)
    print({0: "Nothing known.", VULNERABLE: "Vulnerable packages.", NOT_ASKED: "Not an all-clear: some packages could not be asked about."}[code])
    return code


def _json(text: str) -> Mapping[str, Any]:
    try:
        loaded = json.loads(text)
    except ValueError:
        return {}
    return loaded if isinstance(loaded, dict) else {}


def _line(text: str, first: bool = False) -> str:
    """The last line (where a traceback says what it is about) or the first."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return (lines[0] if first else lines[-1]) if lines else ""


if __name__ == "__main__":
    sys.exit(main())
