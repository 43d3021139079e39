"""The operator's command `grafana-reencrypt`, and the demo: what people run, on top of a deployed stack or of the local AWS."""

from __future__ import annotations

import functools
import tomllib
from pathlib import Path

_PROJECT = Path(__file__).resolve().parent.parent / "pyproject.toml"


@functools.cache
def version() -> str:
    """The version of this checkout; it stands in pyproject.toml and nowhere else."""
    return str(tomllib.loads(_PROJECT.read_text(encoding="utf-8"))["project"]["version"])
