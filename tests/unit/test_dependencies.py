"""Everything that is installed is locked: each requirements file has a lock file that is complete, current, hashed, and names no host; nothing is
installed without its hash. `tools/lock` makes the lock files."""

from __future__ import annotations

import importlib.metadata
import itertools
import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import get_args

import pytest
from packaging.markers import Marker, default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from infra.settings import DeploymentSettings

ROOT = Path(__file__).parents[2]
BUNDLE, EVERYTHING = "lambda/requirements", "requirements"
LOCKED = [BUNDLE, EVERYTHING, "localaws/requirements-runtime", "tools/requirements"]
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
_ENTRY = re.compile(r"^(\S+)==(\S+?)(?: ; (.+?))?((?: \\\n    --hash=sha256:[0-9a-f]{64})+)$", re.MULTILINE)


@dataclass(frozen=True)
class Entry:
    """One package of a lock file."""

    name: str
    version: str
    marker: str
    hashes: int


@cache
def entries(stem: str) -> tuple[Entry, ...]:
    text = (ROOT / f"{stem}.lock").read_text(encoding="utf-8")
    rest = "\n".join(line for line in _ENTRY.sub("", text).splitlines() if line and not line.startswith("#"))
    assert rest == "", f"{stem}.lock has lines that are no package with its version and hashes"
    return tuple(Entry(canonicalize_name(found[1]), found[2], found[3] or "", found[4].count("--hash")) for found in _ENTRY.finditer(text))


def here(stem: str) -> dict[str, Entry]:
    """What the lock file installs under the running Python."""
    return {entry.name: entry for entry in entries(stem) if not entry.marker or Marker(entry.marker).evaluate()}


def requirements(stem: str) -> list[Requirement]:
    found = []
    for line in (ROOT / f"{stem}.txt").read_text(encoding="utf-8").splitlines():
        text = line.partition("#")[0].strip()
        if text.startswith("-r "):
            found += requirements(text.removeprefix("-r ").removesuffix(".txt"))
        elif text:
            found.append(Requirement(text))
    return found


def test_every_requirements_file_has_a_lock_file_and_the_other_way_round() -> None:
    folders = (ROOT, ROOT / "lambda", ROOT / "localaws", ROOT / "tools", ROOT / ".ci")
    for suffix in ("txt", "lock"):
        assert {file.relative_to(ROOT).as_posix() for folder in folders for file in folder.glob(f"requirements*.{suffix}")} == {
            f"{stem}.{suffix}" for stem in LOCKED
        }


@pytest.mark.parametrize("stem", LOCKED)
def test_every_locked_package_has_a_version_and_the_hashes_of_its_files(stem: str) -> None:
    found = entries(stem)
    assert len(found) >= len(requirements(stem))
    assert len({(entry.name, entry.marker) for entry in found}) == len(found)


@pytest.mark.parametrize("stem", LOCKED)
def test_no_lock_file_names_a_host_or_a_place(stem: str) -> None:
    assert re.findall(r"https?:|--(?:extra-)?index|--find-links|\bfile:|(?<![\w-])/\w+", (ROOT / f"{stem}.lock").read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("stem", LOCKED)
def test_every_requirement_is_pinned_and_locked_at_that_version(stem: str) -> None:
    locked = here(stem)
    for requirement in requirements(stem):
        pins = [specifier for specifier in requirement.specifier if specifier.operator == "=="]
        assert len(pins) == 1, f"{requirement} in {stem}.txt is not pinned"
        entry = locked.get(canonicalize_name(requirement.name))
        assert entry, f"{stem}.lock does not hold {requirement}: run tools/lock"
        assert entry.version == pins[0].version, f"{stem}.lock has another version of {requirement}: run tools/lock"


@pytest.mark.parametrize("stem", [BUNDLE, EVERYTHING])
def test_what_is_installed_here_is_what_is_locked_and_needs_nothing_else(stem: str) -> None:
    locked = here(stem)
    extras: dict[str, set[str]] = {canonicalize_name(requirement.name): set(requirement.extras) for requirement in requirements(stem)}
    waiting, seen = [(name, extra) for name, asked in extras.items() for extra in ("", *asked)], set()
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        assert name in locked, f"{stem}.lock lacks {name}: run tools/lock"
        assert importlib.metadata.version(name) == locked[name].version
        for needed in map(Requirement, importlib.metadata.requires(name) or []):
            if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                waiting += [(canonicalize_name(needed.name), more) for more in ("", *needed.extras)]
    assert {name for name, _ in seen} == set(locked), f"{stem}.lock holds what nothing needs: run tools/lock"


def test_the_bundle_is_locked_at_the_versions_that_are_tested() -> None:
    tested = {entry.name: entry.version for entry in entries(EVERYTHING)}
    assert {entry.name: tested.get(entry.name) for entry in entries(BUNDLE)} == {entry.name: entry.version for entry in entries(BUNDLE)}


def test_which_packages_are_bundled_does_not_depend_on_who_bundles() -> None:
    """pip judges a marker by the Python that runs it, not by the one that it installs for."""
    for entry in entries(BUNDLE):
        if entry.marker:
            marker = Marker(entry.marker)
            answers = {
                marker.evaluate(default_environment() | {
                    "python_version": python, "python_full_version": f"{python}.1", "platform_machine": machine, "sys_platform": system,
                    "platform_system": system.capitalize()})  # type: ignore[arg-type] # a TypedDict of texts and None
                for python, machine, system in itertools.product(PYTHONS, ("x86_64", "aarch64", "arm64"), ("linux", "darwin"))
            }  # fmt: skip
            assert len(answers) == 1, f"{entry.name} ; {entry.marker}"


def test_every_python_that_the_settings_offer_is_tried_when_the_bundle_is_locked() -> None:
    assert get_args(DeploymentSettings.model_fields["lambda_python"].annotation) == PYTHONS
    assert f"for python in {' '.join(PYTHONS)}; do" in (ROOT / "tools" / "lock").read_text(encoding="utf-8")


def test_nothing_is_installed_without_its_hash() -> None:
    """Every call of pip's install in the programs of this repository."""
    calls = []
    for file in [*(ROOT / "tools").iterdir(), *(ROOT / ".ci").iterdir(), *(ROOT / "infra").glob("*.py"), *(ROOT / "localaws").glob("*.py"),
                 *(ROOT / "cli").glob("*.py"), ROOT / "test", ROOT / "demo", ROOT / "grafana-reencrypt"]:  # fmt: skip
        text = file.read_text(encoding="utf-8") if file.is_file() else ""
        code = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
        calls += [(file.name, code[max(found.start() - 400, 0) : found.end() + 400]) for found in re.finditer(r'-m pip install|"pip",\s*"install"', code)]
    assert {name for name, _ in calls} == {"setup.sh", "maintenance.sh", "bundling.py", "aws.py"}
    assert [name for name, around in calls if "--require-hashes" not in around or "--no-deps" not in around] == []


def test_every_node_package_is_locked_with_its_hash_and_no_host_is_named() -> None:
    lock = json.loads((ROOT / "package-lock.json").read_text(encoding="utf-8"))
    packages = {name: package for name, package in lock["packages"].items() if name}
    assert packages
    assert [name for name, package in packages.items() if not re.fullmatch(r"sha512-[A-Za-z0-9+/]{86}==", package.get("integrity", ""))] == []
    assert [name for name, package in packages.items() if "resolved" in package] == []
    wanted = json.loads((ROOT / "package.json").read_text(encoding="utf-8"))["devDependencies"]
    assert {name: packages[f"node_modules/{name}"]["version"] for name in wanted} == wanted
