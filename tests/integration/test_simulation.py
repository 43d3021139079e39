"""The simulator finds every bug that it is given, finds none in the product, and repeats itself to the step."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

import pytest

from bench import simulate
from bench.live_grafana import LiveGrafana
from bench.simulation import past, plants, tables, traffic
from bench.simulation.interleaving import Interleaving
from bench.simulation.plants import PLANTS
from bench.simulation.secrets_service import SecretsService
from bench.simulation.truth import Truth
from tests.integration.conftest import EmptyDatabase
from tests.support import decryptor

ROOT = Path(__file__).parents[2]
INTERLEAVINGS = {"sqlite": 150, "mysql": 60, "postgres": 80}  # more than that is for bench.simulate
HAPPENS = {
    "workers killed", "values re-encrypted", "values swept", "values that Grafana changed first", "values restored", "runs refused",
}  # fmt: skip
SOON = 400  # interleavings in which a planted bug must show
TRACE = """
import hashlib
from bench.simulate import simulate
for interleaving in simulate("sqlite", 7, 4):
    print(hashlib.sha256("\\n".join(interleaving.scheduler.trace).encode()).hexdigest(), interleaving.events)
"""


def faults(interleavings: list[Interleaving]) -> list[tuple[int, str, str]]:
    return [(played.seed, kind, line) for played in interleavings for kind, lines in played.findings.faults.items() for line in lines]


@pytest.mark.parametrize("engine", INTERLEAVINGS)
def test_nothing_is_lost_overwritten_or_miscounted(engine: str) -> None:
    played = list(simulate.simulate(engine, 20261124, INTERLEAVINGS[engine]))
    found = faults(played)
    assert found == [], f"python -m bench.simulate --interleavings 1 --engine {engine} --seed {found[0][0]}"
    happened = sum((one.events for one in played), Counter[str]())
    wanted = HAPPENS | (set() if engine == "sqlite" else {"connections lost"})
    assert wanted <= happened.keys(), "a simulation in which nothing happens proves nothing"


@pytest.mark.parametrize("name", sorted(PLANTS))
def test_a_planted_bug_is_found(name: str) -> None:
    for played in simulate.simulate("sqlite", 1, SOON, name):
        if any(played.findings.faults[kind] for kind in PLANTS[name].shows):
            return
    pytest.fail(f"{SOON} interleavings did not show it")


@pytest.mark.parametrize("engine", ["mysql", "postgres"])
def test_a_missing_comparison_is_found_on_a_server_too(engine: str) -> None:
    assert any(played.findings.faults["overwritten"] for played in simulate.simulate(engine, 1, SOON, "no-compare"))


def test_a_damaged_payload_is_never_written() -> None:
    with plants.damaging_sealer():
        played = list(simulate.simulate("sqlite", 1, 15))
    kinds = {kind for _, kind, _ in faults(played)}
    assert "unfinished" in kinds, "the check after sealing stops the run"
    assert not kinds & {"lost", "overwritten"}


def test_a_seed_is_one_interleaving_in_every_process() -> None:
    def traces(hash_seed: str) -> str:
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'lambda'}"}
        return subprocess.run([sys.executable, "-c", TRACE], env=environment, cwd=ROOT, capture_output=True, text=True, check=True).stdout

    first = traces("1")
    assert first == traces("2")
    assert len(set(first.splitlines())) == 4, "another seed is another interleaving"


def test_a_failure_names_the_command_that_repeats_it(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--plant", "skip-decrypt-back", "--engine", "sqlite"]
    assert simulate.main(["--interleavings", "10", "--seed", "5", *arguments]) == 1
    *lines, last = capsys.readouterr().out.splitlines()
    assert last.startswith("10 interleavings, ")
    told = next(line for line in lines if line.startswith("seed "))
    command = told.partition("python -m bench.simulate ")[2]
    assert simulate.main(command.split()) == 1
    again = capsys.readouterr().out.splitlines()
    assert again[0] == told
    assert again[1] == lines[lines.index(told) + 1]


def test_the_command_ends_well_and_says_what_it_has_done(capsys: pytest.CaptureFixture[str]) -> None:
    assert simulate.main(["--interleavings", "3", "--seed", "1"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("3 interleavings, 0 lost, 0 overwritten, 0 miscounted, ")
    assert simulate.main(["--list-plants"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(PLANTS)


def test_grafanas_writers_write_what_an_independent_reader_reads(empty_database: EmptyDatabase) -> None:
    rng, truth, engine = random.Random(1), Truth(), empty_database.engine  # noqa: S311 - which request comes next

    def now() -> datetime:
        return datetime.now(UTC)

    tables.create(engine)
    past.fill(LiveGrafana(engine, past.PastSecrets(engine, b"secret", now), truth, rng, now))
    grafana = LiveGrafana(engine, SecretsService(engine, b"secret", "secretKey.v1", {}, now), truth, rng, now)
    for _, operation in islice(filter(None, iter(lambda: traffic.operation(grafana, rng), 0)), 60):
        for _ in operation:
            pass
    assert grafana.wrong_reads == []
    reader = decryptor.Reader(engine, "secret")
    for place, plaintext in truth.values.items():
        entry = {"table": place.table, "pk": {"id": place.key}, "column": place.column, "path": place.path}
        assert reader.read(entry).plaintext == plaintext
