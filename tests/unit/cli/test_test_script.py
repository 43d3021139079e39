"""`./test` ends at the first check that fails: none of them only prints."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
CHECKS = ("ruff check .", "ruff format --check --quiet .", "mypy", "tests.support.servers")
SETUP = """root=$(cd -P -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd); python=$root/python
setup_python() { :; }; setup_node() { :; }
"""


def _run(folder: Path, failing: str) -> tuple[int, list[str]]:
    """The exit code of ./test where the Python command `failing` fails, and the commands that were run."""
    (folder / "tools").mkdir()
    shutil.copy(ROOT / "test", folder / "test")
    (folder / "tools/setup.sh").write_text(SETUP)
    (folder / "tools/packages.sh").write_text("setup_packages() { :; }\n")
    (folder / "python").write_text(f'#!/bin/sh\necho "$*" >>{folder}/ran\ncase "$*" in "-m {failing}"*) exit 1;; esac\n')
    (folder / "python").chmod(0o755)
    done = subprocess.run([str(folder / "test")], capture_output=True, text=True, check=False)
    return done.returncode, (folder / "ran").read_text().splitlines()


@pytest.mark.parametrize("failing", CHECKS)
def test_a_check_that_fails_ends_the_run_and_none_follows(tmp_path: Path, failing: str) -> None:
    code, ran = _run(tmp_path, failing)
    assert code != 0
    assert [command.startswith(f"-m {check}") for command, check in zip(ran, CHECKS, strict=False)] == [True] * (CHECKS.index(failing) + 1)


def test_without_a_failure_every_check_is_run(tmp_path: Path) -> None:
    code, ran = _run(tmp_path, "nothing")
    assert (code, len(ran)) == (0, len(CHECKS))
