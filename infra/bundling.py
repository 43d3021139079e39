"""The functions' code as an asset: `lambda/` and its wheels for the target Python and architecture, put together by pip, without Docker.

The same sources, lock file, target and settings give the same bytes, wherever and whenever they are bundled: pip takes exactly the wheels whose SHA-256
is in `lambda/requirements.lock`, what pip notes about the installation is left out, and modes and times are fixed. The asset's hash is of all that goes in,
so an unchanged bundle is neither built nor uploaded again. The CDK CLI makes the zip file of it, from names, bytes and modes alone.

Beside the sources lie what the deployment's settings put there (declared columns, CA certificates), and `METADATA`: version, licence and bill of materials
(`infra.sbom`). Byte code ships when the target is the running Python: without it a cold start compiles SQLAlchemy anew (0.7 s instead of 0.24 s). It is
part of the hash, with the exact version of the Python that made it. The context `aws:cdk:bundling-stacks: []` skips the bundling (unit tests).
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aws_cdk as cdk
import jsii
from aws_cdk import aws_lambda as lambda_

from infra import sbom

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "lambda"
VERSION = str(tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"])
METADATA = f"{sbom.PRODUCT.replace('-', '_')}-{VERSION}.dist-info"
REQUIREMENTS, LOCK = "requirements.txt", "requirements.lock"
ARCHITECTURES = {"x86_64": lambda_.Architecture.X86_64, "arm64": lambda_.Architecture.ARM_64}
_WHEEL_MACHINE = {"x86_64": "x86_64", "arm64": "aarch64"}
# Lambda's Python 3.12 and later run on Amazon Linux 2023 (glibc 2.34), which loads both. Its 3.11 (glibc 2.26) would not load the second.
_WHEEL_TAGS = ("manylinux2014", "manylinux_2_28")
# Where `reencrypt.grafana.secret_columns` looks for it.
DECLARED_COLUMNS = "reencrypt/grafana/declared_columns.toml"
# Where `reencrypt.database.certificates` looks for it.
CA_BUNDLE = "reencrypt/database/ca_bundle.pem"
_BUNDLER = "2"  # part of the hash: raise it when this module bundles differently
# What pip writes about an installation, of this machine and this pip; nothing at run time reads it.
_INSTALLERS_NOTES = ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json")
_TIME = 315532800  # 1980-01-01, the first moment that a zip file can name


def local_architecture() -> str:
    """CDK's name of this machine's architecture."""
    return "arm64" if platform.machine().lower() in ("arm64", "aarch64") else "x86_64"


def pip_target(python: str, architecture: str) -> list[str]:
    """pip's arguments that choose wheels for Lambda, whatever machine pip runs on; an sdist could not be built, so it is an error."""
    platforms = [argument for tag in _WHEEL_TAGS for argument in ("--platform", f"{tag}_{_WHEEL_MACHINE[architecture]}")]
    return ["--implementation", "cp", "--python-version", python, *platforms, "--only-binary=:all:"]


def python_code(python: str, architecture: str, declared_columns: str = "", ca_bundle: bytes = b"", source: Path = SOURCE) -> lambda_.AssetCode:
    """The asset of `source` for Lambda's Python `python` on `architecture`, with the declared columns (TOML) and CA certificates (PEM) of the settings."""
    image = cdk.DockerImage.from_registry("never-pulled")  # CDK demands one; the local bundling below always succeeds or raises
    return lambda_.Code.from_asset(
        str(source),
        asset_hash_type=cdk.AssetHashType.CUSTOM,
        asset_hash=source_hash(source, python, architecture, declared_columns, ca_bundle),
        bundling=cdk.BundlingOptions(image=image, local=PipBundling(source, python, architecture, declared_columns, ca_bundle)),
    )


def source_hash(source: Path, python: str, architecture: str, declared_columns: str = "", ca_bundle: bytes = b"") -> str:
    """Changes with any file that ships or is put in, the locked wheels, the target, the product's version, the Python that makes byte code, and
    this module's way of bundling; not with caches, times or the checkout's path."""
    digest = hashlib.sha256(f"{_BUNDLER}/{VERSION}/{python}/{architecture}/{_byte_code_of(python)}".encode())
    listed = [*_shipped(source), source / REQUIREMENTS, source / LOCK]
    content = [(file.relative_to(source).as_posix(), file.read_bytes()) for file in listed]
    content += _put_in(declared_columns, ca_bundle).items()
    for name, data in [*content, ("LICENSE", (ROOT / "LICENSE").read_bytes())]:
        digest.update(f"\0{name}\0{len(data)}\0".encode() + data)
    return digest.hexdigest()


@jsii.implements(cdk.ILocalBundling)
class PipBundling:
    """Installs the wheels into the asset, copies the sources beside them, and puts in what the settings say where those look for it."""

    def __init__(self, source: Path, python: str, architecture: str, declared_columns: str = "", ca_bundle: bytes = b"") -> None:
        self._source, self._python, self._architecture = source, python, architecture
        self._put_in = _put_in(declared_columns, ca_bundle)

    def try_bundle(self, output_dir: str, *_: Any, **__: Any) -> bool:
        out = Path(output_dir)
        wheels = _install(self._source / LOCK, pip_target(self._python, self._architecture), out)
        shutil.rmtree(out / "bin", ignore_errors=True)  # console scripts that name this machine's Python
        for note in [note for name in _INSTALLERS_NOTES for note in out.glob(f"*.dist-info/{name}")]:
            note.unlink()
        for file in _shipped(self._source):
            target = out / file.relative_to(self._source)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
        for name, data in self._put_in.items():
            (out / name).write_bytes(data)
        self._write_metadata(out, wheels)
        if _byte_code_of(self._python):
            _compile(out)
        _fix_modes_and_times(out)
        return True

    def _write_metadata(self, out: Path, wheels: list[sbom.Wheel]) -> None:
        folder = out / METADATA
        for part in ("licenses", "sboms"):
            (folder / part).mkdir(parents=True)
        header = f"Metadata-Version: 2.4\nName: {sbom.PRODUCT}\nVersion: {VERSION}\nLicense-Expression: {sbom.LICENCE}\nLicense-File: LICENSE\n"
        (folder / "METADATA").write_bytes(header.encode())
        shutil.copyfile(ROOT / "LICENSE", folder / "licenses" / "LICENSE")
        requirements = (self._source / REQUIREMENTS).read_text(encoding="utf-8")
        target = {"python": self._python, "architecture": self._architecture}
        (folder / sbom.PLACE).write_bytes(sbom.text_of(sbom.bill_of_materials(out, wheels, requirements, VERSION, target)).encode())


def _install(lock: Path, target: list[str], out: Path) -> list[sbom.Wheel]:
    """Installs exactly what `lock` names. `--no-deps`: pip would judge a dependency's markers by the Python that runs it, not by the target."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        arguments = ["--quiet", "--disable-pip-version-check", "--no-compile", "--no-deps", "--require-hashes", "--report", str(report)]
        subprocess.run(  # noqa: S603 - fixed arguments, no shell
            [sys.executable, "-m", "pip", "install", *arguments, "--target", str(out), "-r", str(lock), *target], check=True, stdout=sys.stderr
        )  # standard output belongs to jsii
        return sbom.installed_wheels(json.loads(report.read_text(encoding="utf-8"))) if report.exists() else []  # none of an empty lock file


def _byte_code_of(python: str) -> str:
    """The exact version of the running Python if it makes byte code for the target, else nothing."""
    return platform.python_version() if python == f"{sys.version_info.major}.{sys.version_info.minor}" else ""


def _compile(out: Path) -> None:
    """Byte code that is valid whatever the file's time, made by a process of its own: the bytes vary with the hash seed and with what is already loaded."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")} | {"PYTHONHASHSEED": "0"}
    subprocess.run(  # noqa: S603 - fixed arguments, no shell
        [sys.executable, "-S", "-m", "compileall", "-qq", "-s", str(out), "--invalidation-mode", "unchecked-hash", str(out)],
        check=False,  # a package may ship a file for another Python: it stays without byte code
        env=environment,
        stdout=sys.stderr,
    )


def _fix_modes_and_times(out: Path) -> None:
    for path in [out, *out.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
        os.utime(path, (_TIME, _TIME))


def _put_in(declared_columns: str, ca_bundle: bytes) -> dict[str, bytes]:
    """Files that are of the settings, not of the sources."""
    return {name: data for name, data in ((DECLARED_COLUMNS, declared_columns.encode()), (CA_BUNDLE, ca_bundle)) if data}


def _shipped(source: Path) -> Iterator[Path]:
    for file in sorted(source.rglob("*")):
        name, parts = file.relative_to(source).as_posix(), file.relative_to(source).parts
        hidden = any(part.startswith(".") or part == "__pycache__" for part in parts)
        # What the bundle is made by does not ship, nor does what somebody tried out, which is no setting.
        if file.is_file() and not hidden and name not in (REQUIREMENTS, LOCK, DECLARED_COLUMNS, CA_BUNDLE):
            yield file
