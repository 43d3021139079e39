"""The Lambda bundle: its wheels exist for the deployed target, it is hashed by its sources, and what is bundled can be imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from infra.bundling import DECLARED_COLUMNS, SOURCE, PipBundling, local_architecture, pip_target, source_hash
from infra.settings import DeploymentSettings
from reencrypt.grafana import secret_columns

DEFAULT = DeploymentSettings(grafana_ini_secret="grafana/ini")


@pytest.mark.slow
def test_every_pinned_package_has_a_wheel_for_the_default_target(tmp_path: Path) -> None:
    """The local AWS runs another Python and architecture than AWS will, so nothing else would notice."""
    done = subprocess.run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--dest", tmp_path,
         "-r", SOURCE / "requirements.txt", *pip_target(DEFAULT.lambda_python, DEFAULT.architecture)],
        capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    natives = [wheel.name for wheel in tmp_path.glob("*.whl") if "none-any" not in wheel.name]
    assert {name.split("-")[0].lower() for name in natives} >= {"cryptography", "psycopg_binary", "pydantic_core", "sqlalchemy"}
    assert all("aarch64" in name for name in natives)


def _sources(folder: Path, **files: str) -> Path:
    for name, text in {"requirements_txt": "", "package__module_py": "X = 1\n", **files}.items():
        file = folder / name.replace("__", "/").replace("_", ".")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return folder


def test_the_same_sources_have_the_same_hash_wherever_they_lie_and_whatever_caches_lie_beside(tmp_path: Path) -> None:
    one, two = _sources(tmp_path / "one"), _sources(tmp_path / "two")
    (two / "package" / "__pycache__").mkdir()
    (two / "package" / "__pycache__" / "module.cpython-311.pyc").write_bytes(b"cache")
    (two / ".mypy_cache").mkdir()
    (two / ".mypy_cache" / "x.json").write_text("{}")
    assert source_hash(one, "3.13", "arm64") == source_hash(two, "3.13", "arm64")


def test_another_source_name_python_or_architecture_is_another_hash(tmp_path: Path) -> None:
    base = source_hash(_sources(tmp_path / "base"), "3.13", "arm64")
    changed = source_hash(_sources(tmp_path / "changed", package__module_py="X = 2\n"), "3.13", "arm64")
    added = source_hash(_sources(tmp_path / "added", package__other_py=""), "3.13", "arm64")
    python = source_hash(tmp_path / "base", "3.12", "arm64")
    machine = source_hash(tmp_path / "base", "3.13", "x86_64")
    declaring = source_hash(tmp_path / "base", "3.13", "arm64", "[[secret_column]]")
    declaring_more = source_hash(tmp_path / "base", "3.13", "arm64", "[[secret_column]]\n")
    assert len({base, changed, added, python, machine, declaring, declaring_more}) == 7


def test_a_bundle_holds_the_sources_and_no_cache(tmp_path: Path) -> None:
    source, out = _sources(tmp_path / "source"), tmp_path / "out"
    (source / "package" / "__pycache__").mkdir()
    (source / "package" / "__pycache__" / "stale.pyc").write_bytes(b"cache")
    out.mkdir()
    assert PipBundling(source, "3.14" if sys.version_info[:2] != (3, 14) else "3.13", local_architecture()).try_bundle(str(out))
    assert sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()) == ["package/module.py", "requirements.txt"]


def test_a_bundle_holds_what_the_settings_declare_where_the_functions_look_for_it_and_nothing_else_there(tmp_path: Path) -> None:
    assert SOURCE / DECLARED_COLUMNS == secret_columns.DECLARED
    source = _sources(tmp_path / "source", reencrypt__grafana__x_py="")
    tried_out = source / DECLARED_COLUMNS
    before = source_hash(source, "3.13", "arm64")
    tried_out.write_text("left behind by somebody")
    assert source_hash(source, "3.13", "arm64") == before
    for text in ("", "# ä\n"):
        out = tmp_path / f"out{len(text)}"
        out.mkdir()
        PipBundling(source, "3.14" if sys.version_info[:2] != (3, 14) else "3.13", local_architecture(), text).try_bundle(str(out))
        assert (out / DECLARED_COLUMNS).exists() == bool(text)
        assert not text or (out / DECLARED_COLUMNS).read_text(encoding="utf-8") == text


def test_a_bundle_for_the_running_python_ships_its_byte_code(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    PipBundling(_sources(tmp_path / "source"), f"{sys.version_info.major}.{sys.version_info.minor}", local_architecture()).try_bundle(str(out))
    assert list((out / "package" / "__pycache__").glob("module.*.pyc"))
