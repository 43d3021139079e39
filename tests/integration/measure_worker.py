"""Runs one delivery of every chunk in a process of its own and prints its peak memory: started by test_memory.py.

Imports what a Lambda function imports, so that the libraries count too.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import reencrypt.handlers.process_chunk  # noqa: F401  (the whole of a worker's imports)
from reencrypt.grafana.settings import DatabaseSettings, GrafanaSettings, load_settings
from tests.support.local_run import LocalRun


def main(database: str, secret_key: str, folder: str, mode: str) -> None:
    """Prints {"outcome", "totals", "megabytes"} of a run over the database with these settings (JSON)."""
    settings = load_settings(f"[security]\nsecret_key = {secret_key}\n")
    here = GrafanaSettings(**{**settings.__dict__, "database": DatabaseSettings(**json.loads(database))})
    report = LocalRun(here, Path(folder)).run(mode, chunkRows=100_000, **({"force": True} if mode == "re-encrypt" else {}))
    megabytes = _peak_megabytes()
    print(json.dumps({"outcome": report["outcome"], "headline": report["headline"], "totals": report["totals"], "megabytes": megabytes}))


def _peak_megabytes() -> float:
    """The most memory that this program has had. (getrusage also counts the process that started it.)"""
    peak = re.search(r"^VmHWM:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert peak is not None
    return int(peak[1]) / 1024


if __name__ == "__main__":
    assert "reencrypt.handlers.process_chunk" in sys.modules
    main(*sys.argv[1:])
