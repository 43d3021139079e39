"""tools/setup.sh says what is missing and how to get it, before it changes anything."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]
TOOLS = ("bash", "cat", "cksum", "dirname", "mkdir")


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A checkout in `checkout/` and a PATH folder `bin/` that holds nothing but basic tools."""
    (tmp_path / "bin").mkdir()
    for tool in TOOLS:
        found = shutil.which(tool)
        assert found
        (tmp_path / "bin" / tool).symlink_to(found)
    (tmp_path / "checkout/tools").mkdir(parents=True)
    for name in ("tools/setup.sh", "requirements.lock", "package-lock.json"):
        shutil.copyfile(REPOSITORY / name, tmp_path / "checkout" / name)
    return tmp_path


def _program(machine: Path, name: str, script: str) -> None:
    path = machine / "bin" / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o700)


def _set_up(machine: Path, function: str) -> subprocess.CompletedProcess[str]:
    script = f'. "{machine}/checkout/tools/setup.sh"; {function}'
    return subprocess.run([machine / "bin/bash", "-c", script], env={"PATH": f"{machine}/bin"}, cwd=machine, text=True, capture_output=True, check=False)


def test_without_python_it_says_which_version_and_how_to_get_it(machine: Path) -> None:
    done = _set_up(machine, "setup_python")
    assert done.returncode == 1
    assert "Python 3.11 or newer is needed." in done.stderr
    assert "apt-get install" in done.stderr


def test_an_old_python_is_named(machine: Path) -> None:
    _program(machine, "python3", "exit 1")
    assert "found only older: python3" in _set_up(machine, "setup_python").stderr


def test_a_python_without_venv_is_told_the_package(machine: Path) -> None:
    _program(machine, "python3", 'case "$*" in *ensurepip*) exit 1;; esac')
    assert "apt-get install python3-venv" in _set_up(machine, "setup_python").stderr


def test_without_node_it_says_which_version_and_how_to_get_it(machine: Path) -> None:
    done = _set_up(machine, "setup_node")
    assert done.returncode == 1
    assert "Node.js 20 or newer" in done.stderr


def test_an_old_node_is_refused_with_its_version(machine: Path) -> None:
    _program(machine, "node", "echo v18.2.0")
    _program(machine, "npm", "exit 0")
    assert "is 18.2.0" in _set_up(machine, "setup_node").stderr


def test_a_checkout_that_is_set_up_is_left_alone_without_a_word(machine: Path) -> None:
    _program(machine, "node", "echo v22.1.0")
    _program(machine, "npm", "exit 1")
    checkout = machine / "checkout"
    (checkout / "node_modules/.bin").mkdir(parents=True)
    (checkout / ".venv/bin").mkdir(parents=True)
    for name in ("node_modules/.bin/cdk", ".venv/bin/python"):
        (checkout / name).write_text("#!/bin/sh\n")
        (checkout / name).chmod(0o700)
    stamps = _set_up(machine, '_hash "$root/package-lock.json" >"$root/node_modules/.set-up"; '
                              '_hash "$root/requirements.lock" >"$root/.venv/.set-up"')  # fmt: skip
    assert stamps.returncode == 0, stamps.stderr
    done = _set_up(machine, "setup_python && setup_node")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_runs_are_started_and_watched_without_node_and_only_a_rehearsal_needs_it(machine: Path) -> None:
    checkout = machine / "checkout"
    shutil.copy(REPOSITORY / "grafana-reencrypt", checkout)
    (checkout / ".venv/bin").mkdir(parents=True)
    (checkout / ".venv/bin/python").write_text('#!/bin/sh\ncase "$*" in *version_info*) exit 0 ;; esac\necho "$@"\n')
    (checkout / ".venv/bin/python").chmod(0o700)
    assert _set_up(machine, '_hash "$root/requirements.lock" >"$root/.venv/.set-up"').returncode == 0

    def command(verb: str) -> subprocess.CompletedProcess[str]:
        script = [f"{machine}/bin/bash", f"{checkout}/grafana-reencrypt", verb, "--help"]
        return subprocess.run(script, env={"PATH": f"{machine}/bin"}, cwd=machine, text=True, capture_output=True, check=False)

    for verb in ("start", "watch", "report", "runs"):
        assert (command(verb).returncode, command(verb).stdout) == (0, f"-P -m cli {verb} --help\n")
    rehearsal = command("rehearse")
    assert (rehearsal.returncode, "Node.js 20 or newer" in rehearsal.stderr) == (1, True)
