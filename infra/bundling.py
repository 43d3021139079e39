"""The functions' code as an asset: `lambda/` and its wheels for the target Python and architecture, put together by pip, without Docker.

Beside the sources lie the secret columns that the deployment's settings declare. The asset's hash is of both, so an unchanged bundle is neither
built nor uploaded again. Byte code ships when the target is the running Python: without it a cold start compiles SQLAlchemy anew (0.7 s instead
of 0.24 s). The context `aws:cdk:bundling-stacks: []` skips the bundling (unit tests).
"""

from __future__ import annotations

import compileall
import hashlib
import platform
import py_compile
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aws_cdk as cdk
import jsii
from aws_cdk import aws_lambda as lambda_

SOURCE = Path(__file__).resolve().parent.parent / "lambda"
ARCHITECTURES = {"x86_64": lambda_.Architecture.X86_64, "arm64": lambda_.Architecture.ARM_64}
_WHEEL_MACHINE = {"x86_64": "x86_64", "arm64": "aarch64"}
# Lambda's Python 3.12 and later run on Amazon Linux 2023 (glibc 2.34), which loads both. Its 3.11 (glibc 2.26) would not load the second.
_WHEEL_TAGS = ("manylinux2014", "manylinux_2_28")
# Where `reencrypt.grafana.secret_columns` looks for it.
DECLARED_COLUMNS = "reencrypt/grafana/declared_columns.toml"
_BUNDLER = "1"  # part of the hash: raise it when this module bundles differently


def local_architecture() -> str:
    """CDK's name of this machine's architecture."""
    return "arm64" if platform.machine().lower() in ("arm64", "aarch64") else "x86_64"


def pip_target(python: str, architecture: str) -> list[str]:
    """pip's arguments that choose wheels for Lambda, whatever machine pip runs on; an sdist could not be built, so it is an error."""
    platforms = [argument for tag in _WHEEL_TAGS for argument in ("--platform", f"{tag}_{_WHEEL_MACHINE[architecture]}")]
    return ["--implementation", "cp", "--python-version", python, *platforms, "--only-binary=:all:"]


def python_code(python: str, architecture: str, declared_columns: str = "", source: Path = SOURCE) -> lambda_.AssetCode:
    """The asset of `source` for Lambda's Python `python` on `architecture`, with the TOML text of the columns that the settings declare, if any."""
    image = cdk.DockerImage.from_registry("never-pulled")  # CDK demands one; the local bundling below always succeeds or raises
    return lambda_.Code.from_asset(
        str(source),
        asset_hash_type=cdk.AssetHashType.CUSTOM,
        asset_hash=source_hash(source, python, architecture, declared_columns),
        bundling=cdk.BundlingOptions(image=image, local=PipBundling(source, python, architecture, declared_columns)),
    )


def source_hash(source: Path, python: str, architecture: str, declared_columns: str = "") -> str:
    """Changes with any file that ships, the declared columns, the target, and this module's way of bundling; not with caches, times or the checkout's path."""
    digest = hashlib.sha256(f"{_BUNDLER}/{python}/{architecture}".encode())
    shipped = [(file.relative_to(source).as_posix(), file.read_bytes()) for file in _shipped(source)]
    for name, content in [*shipped, *([(DECLARED_COLUMNS, declared_columns.encode())] if declared_columns else [])]:
        digest.update(f"\0{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


@jsii.implements(cdk.ILocalBundling)
class PipBundling:
    """Installs the wheels into the asset, copies the sources beside them, and writes the declared columns where those look for them."""

    def __init__(self, source: Path, python: str, architecture: str, declared_columns: str = "") -> None:
        self._source, self._python, self._architecture, self._declared_columns = source, python, architecture, declared_columns

    def try_bundle(self, output_dir: str, *_: Any, **__: Any) -> bool:
        out = Path(output_dir)
        subprocess.run(  # noqa: S603 - fixed arguments, no shell
            [
                sys.executable,
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "--no-compile",
                "--target",
                output_dir,
                "-r",
                str(self._source / "requirements.txt"),
                *pip_target(self._python, self._architecture),
            ],
            check=True,
            stdout=sys.stderr,
        )  # standard output belongs to jsii
        for file in _shipped(self._source):
            target = out / file.relative_to(self._source)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
        if self._declared_columns:
            (out / DECLARED_COLUMNS).write_text(self._declared_columns, encoding="utf-8")
        shutil.rmtree(out / "bin", ignore_errors=True)  # console scripts that name this machine's Python
        if self._python == f"{sys.version_info.major}.{sys.version_info.minor}":
            compileall.compile_dir(str(out), quiet=2, stripdir=str(out), invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
        return True


def _shipped(source: Path) -> Iterator[Path]:
    for file in sorted(source.rglob("*")):
        parts = file.relative_to(source).parts
        hidden = any(part.startswith(".") or part == "__pycache__" for part in parts)
        if file.is_file() and not hidden and file.relative_to(source).as_posix() != DECLARED_COLUMNS:  # one that somebody tried out is no setting
            yield file
