"""The Lambda bundle: exactly the locked wheels, the same bytes wherever it is made, hashed by what goes in, and it names what it holds."""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from infra import bundling, sbom
from infra.bundling import DECLARED_COLUMNS, METADATA, SOURCE, PipBundling, local_architecture, source_hash
from infra.settings import DeploymentSettings
from reencrypt.grafana import secret_columns

DEFAULT_PYTHON, DEFAULT_ARCHITECTURE = (DeploymentSettings.model_fields[name].default for name in ("lambda_python", "architecture"))
RUNNING = f"{sys.version_info.major}.{sys.version_info.minor}"
OTHER = "3.14" if RUNNING != "3.14" else "3.13"
OWN = [f"{METADATA}/METADATA", f"{METADATA}/licenses/LICENSE", f"{METADATA}/{sbom.PLACE}"]


def _sources(folder: Path, **files: str) -> Path:
    for name, text in {"requirements_txt": "", "requirements_lock": "", "package__module_py": "X = 1\n", **files}.items():
        file = folder / name.replace("__", "/").replace("_", ".")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return folder


def _bundle(source: Path, out: Path, python: str = OTHER, architecture: str = "", declared: str = "") -> Path:
    out.mkdir(parents=True)
    assert PipBundling(source, python, architecture or local_architecture(), declared).try_bundle(str(out))
    return out


def _content(folder: Path) -> dict[str, tuple[bytes, int, float]]:
    """Every file and folder: its bytes, mode and time."""
    return {
        path.relative_to(folder).as_posix(): (path.read_bytes() if path.is_file() else b"", path.stat().st_mode, path.stat().st_mtime)
        for path in folder.rglob("*")
    }


def _files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@contextmanager
def _umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package index of one wheel, `tool` 1.0, with a console script; pip is offline."""
    folder = tmp_path / "index"
    folder.mkdir()
    content = {
        "tool/__init__.py": "NAMES = {'a', 'b', 'c'} & {'b', 'c', 'd'}\n\n\ndef main(kind={'x', 'y'}) -> bool:\n    return kind in {'one', 'two', 'three'}\n",
        "tool-1.0.dist-info/METADATA": "Metadata-Version: 2.4\nName: tool\nVersion: 1.0\nLicense-Expression: MIT\n",
        "tool-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "tool-1.0.dist-info/entry_points.txt": "[console_scripts]\ntool = tool:main\n",
    }
    lines = [f"{name},sha256={base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip('=')},{len(text)}"
             for name, text in content.items()]  # fmt: skip
    content["tool-1.0.dist-info/RECORD"] = "\n".join([*lines, "tool-1.0.dist-info/RECORD,,"]) + "\n"
    file = folder / "tool-1.0-py3-none-any.whl"
    with zipfile.ZipFile(file, "w") as archive:
        for name, text in content.items():
            archive.writestr(name, text)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return file


def _locking(wheel: Path) -> dict[str, str]:
    return {"requirements_txt": "tool==1.0\n", "requirements_lock": f"tool==1.0 --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n"}


def test_the_same_sources_have_the_same_hash_wherever_they_lie_and_whatever_caches_lie_beside(tmp_path: Path) -> None:
    one, two = _sources(tmp_path / "one"), _sources(tmp_path / "two")
    (two / "package" / "__pycache__").mkdir()
    (two / "package" / "__pycache__" / "module.cpython-311.pyc").write_bytes(b"cache")
    (two / ".mypy_cache").mkdir()
    (two / ".mypy_cache" / "x.json").write_text("{}")
    assert source_hash(one, "3.13", "arm64") == source_hash(two, "3.13", "arm64")


def test_whatever_changes_the_bundle_changes_the_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = _sources(tmp_path / "base")
    hashes = [
        source_hash(base, "3.13", "arm64"),
        source_hash(_sources(tmp_path / "changed", package__module_py="X = 2\n"), "3.13", "arm64"),
        source_hash(_sources(tmp_path / "added", package__other_py=""), "3.13", "arm64"),
        source_hash(_sources(tmp_path / "locked", requirements_lock="tool==1.0\n"), "3.13", "arm64"),
        source_hash(_sources(tmp_path / "required", requirements_txt="tool==1.0\n"), "3.13", "arm64"),
        source_hash(base, "3.12", "arm64"),
        source_hash(base, "3.13", "x86_64"),
        source_hash(base, "3.13", "arm64", "[[secret_column]]"),
        source_hash(base, "3.13", "arm64", "[[secret_column]]\n"),
    ]
    monkeypatch.setattr(bundling, "VERSION", "99.0.0")
    hashes.append(source_hash(base, "3.13", "arm64"))
    assert len(set(hashes)) == len(hashes)


def test_byte_code_of_another_python_release_is_another_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = _sources(tmp_path / "source")
    running, other = source_hash(source, RUNNING, "arm64"), source_hash(source, OTHER, "arm64")
    monkeypatch.setattr("platform.python_version", lambda: f"{RUNNING}.999")
    assert source_hash(source, RUNNING, "arm64") != running
    assert source_hash(source, OTHER, "arm64") == other, "no byte code ships there, so whoever bundles it gets the same"


def test_a_bundle_holds_the_sources_the_metadata_and_no_cache(tmp_path: Path) -> None:
    source = _sources(tmp_path / "source")
    (source / "package" / "__pycache__").mkdir()
    (source / "package" / "__pycache__" / "stale.pyc").write_bytes(b"cache")
    assert _files(_bundle(source, tmp_path / "out")) == sorted([*OWN, "package/module.py"])


def test_a_bundle_says_which_version_it_is(tmp_path: Path) -> None:
    out = _bundle(_sources(tmp_path / "source"), tmp_path / "out")
    (own,) = importlib.metadata.distributions(path=[str(out)])
    assert (own.metadata["Name"], own.version) == ("grafana-reencrypt", bundling.VERSION)


def test_a_bundle_holds_what_the_settings_declare_where_the_functions_look_for_it_and_nothing_else_there(tmp_path: Path) -> None:
    assert SOURCE / DECLARED_COLUMNS == secret_columns.DECLARED
    source = _sources(tmp_path / "source", reencrypt__grafana__x_py="")
    tried_out = source / DECLARED_COLUMNS
    before = source_hash(source, "3.13", "arm64")
    tried_out.write_text("left behind by somebody")
    assert source_hash(source, "3.13", "arm64") == before
    for text in ("", "# ä\n"):
        out = _bundle(source, tmp_path / f"out{len(text)}", declared=text)
        assert (out / DECLARED_COLUMNS).exists() == bool(text)
        assert not text or (out / DECLARED_COLUMNS).read_text(encoding="utf-8") == text


def test_a_bundle_for_the_running_python_ships_its_byte_code(tmp_path: Path) -> None:
    out = _bundle(_sources(tmp_path / "source"), tmp_path / "out", RUNNING)
    assert list((out / "package" / "__pycache__").glob("module.*.pyc"))


@pytest.mark.parametrize("python", [RUNNING, OTHER])
def test_the_same_input_gives_the_same_bytes_modes_and_times(tmp_path: Path, wheel: Path, python: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In another folder, from another checkout, with another hash seed, umask, time zone and optimization."""
    one = _bundle(_sources(tmp_path / "source", **_locking(wheel)), tmp_path / "one", python)
    elsewhere = _sources(tmp_path / "a longer way" / "to the source", **_locking(wheel))
    for name, value in {"PYTHONHASHSEED": "77", "TZ": "Asia/Tokyo", "PYTHONOPTIMIZE": "1", "PYTHONPYCACHEPREFIX": str(tmp_path / "caches")}.items():
        monkeypatch.setenv(name, value)
    with _umask(0o077):
        two = _bundle(elsewhere, tmp_path / "another" / "two", python)
    assert "tool/__init__.py" in _content(one)
    assert any(name.endswith(".pyc") for name in _content(one)) == (python == RUNNING)
    assert _content(one) == _content(two)


def test_nothing_of_the_machine_that_bundles_is_in_the_bundle(tmp_path: Path, wheel: Path) -> None:
    out = _bundle(_sources(tmp_path / "source", **_locking(wheel)), tmp_path / "out", RUNNING)
    assert not [name for name in _files(out) if name.startswith("bin/") or Path(name).name in ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json")]
    here = [str(tmp_path).encode(), str(Path(sys.prefix)).encode(), str(bundling.ROOT).encode()]
    assert not [name for name in _files(out) for place in here if place in (out / name).read_bytes()]


def test_a_wheel_with_another_hash_than_the_locked_one_is_not_bundled(tmp_path: Path, wheel: Path) -> None:
    source = _sources(tmp_path / "source", **_locking(wheel))
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.writestr("tool/backdoor.py", "")
    with pytest.raises(subprocess.CalledProcessError):
        _bundle(source, tmp_path / "out")
    assert _files(tmp_path / "out") == []


def test_a_package_without_a_hash_is_not_bundled(tmp_path: Path, wheel: Path) -> None:
    source = _sources(tmp_path / "source", **_locking(wheel) | {"requirements_lock": "tool==1.0\n"})
    with pytest.raises(subprocess.CalledProcessError):
        _bundle(source, tmp_path / "out")


def test_the_bill_of_materials_has_the_hash_of_the_wheel_that_was_installed(tmp_path: Path, wheel: Path) -> None:
    out = _bundle(_sources(tmp_path / "source", **_locking(wheel)), tmp_path / "out")
    (component,) = json.loads((out / METADATA / sbom.PLACE).read_text())["components"]
    assert component["purl"] == "pkg:pypi/tool@1.0"
    assert component["hashes"] == [{"alg": "SHA-256", "content": hashlib.sha256(wheel.read_bytes()).hexdigest()}]
    assert component["licenses"] == [{"expression": "MIT"}]
    assert component["properties"] == [{"name": "grafana-reencrypt:wheel", "value": wheel.name}]


@pytest.mark.slow
def test_the_real_bundle_for_the_default_target_has_a_wheel_for_each_locked_package_and_the_same_bytes_twice(tmp_path: Path) -> None:
    """The local AWS runs another Python and architecture than AWS will, so nothing else would notice a missing wheel."""
    bundles = []
    for place in (tmp_path / "one", tmp_path / "another" / "two"):
        shutil.copytree(SOURCE, place / "lambda", ignore=shutil.ignore_patterns("__pycache__"))
        bundles.append(_bundle(place / "lambda", place / "out", DEFAULT_PYTHON, DEFAULT_ARCHITECTURE))
    one, two = (_content(bundle) for bundle in bundles)
    assert one.keys() == two.keys()
    assert [name for name in one if one[name] != two[name]] == []
    document = json.loads((bundles[0] / METADATA / sbom.PLACE).read_text(encoding="utf-8"))
    wheels = {component["name"].lower().replace("_", "-"): component["properties"][0]["value"] for component in document["components"]}
    natives = {name: file for name, file in wheels.items() if "none-any" not in file}
    assert set(natives) >= {"cryptography", "psycopg-binary", "pydantic-core", "sqlalchemy"}
    assert all("aarch64" in file for file in natives.values())
