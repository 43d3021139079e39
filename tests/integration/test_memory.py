"""A worker's memory stays below 300 MB whatever the table holds: many rows, and values of many megabytes."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.integration.conftest import EmptyDatabase
from tests.support import big

LIMIT_MEGABYTES = 300
SECRET_KEY = "a-secret-key"
ROOT = Path(__file__).resolve().parents[2]


def measure(database: EmptyDatabase, folder: Path, mode: str) -> dict[str, Any]:
    settings = {**dataclasses.asdict(database.settings), "query": {}}
    done = subprocess.run(
        [sys.executable, "-m", "tests.integration.measure_worker", json.dumps(settings), SECRET_KEY, str(folder), mode],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'lambda'}", "AWS_DEFAULT_REGION": "eu-north-1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def test_200_000_rows_and_16_megabyte_values_fit_into_a_small_worker(empty_database: EmptyDatabase, tmp_path: Path) -> None:
    sealer = big.Sealer("ag5b0mpfx27lsc")
    big.create_tables(empty_database.engine)
    big.add_data_key(empty_database.engine, sealer, SECRET_KEY)
    if empty_database.engine_name == "mysql":
        empty_database.execute("SET GLOBAL max_allowed_packet = 67108864")
    big.fill_secrets(empty_database.engine, 200_000, sealer)
    big.fill_snapshots(empty_database.engine, 3, sealer, 16_000_000)
    plan = measure(empty_database, tmp_path / "plan", "plan")
    assert (plan["outcome"], plan["totals"]["values"]) == ("succeeded", 200_003), plan
    assert plan["megabytes"] < LIMIT_MEGABYTES, plan


def test_large_values_are_rewritten_in_a_small_worker(empty_database: EmptyDatabase, tmp_path: Path) -> None:
    sealer = big.Sealer("ag5b0mpfx27lsc")
    big.create_tables(empty_database.engine)
    big.add_data_key(empty_database.engine, sealer, SECRET_KEY)
    if empty_database.engine_name == "mysql":
        empty_database.execute("SET GLOBAL max_allowed_packet = 67108864")
    big.fill_secrets(empty_database.engine, 5_000, sealer)
    big.fill_snapshots(empty_database.engine, 3, sealer, 16_000_000)
    done = measure(empty_database, tmp_path / "run", "re-encrypt")
    assert (done["outcome"], done["totals"]["re_encrypted"]) == ("succeeded", 5_003), done
    assert done["megabytes"] < LIMIT_MEGABYTES, done
