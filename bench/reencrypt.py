"""How fast is `re-encrypt`, measured against the one cost that nobody can avoid: PBKDF2 derivations of this machine, in the same run.

    .venv/bin/python -m bench.reencrypt [--json] [--values 4000] [--engine sqlite --engine mysql --engine postgres]

Prints a line for each engine and case: `values_per_second` of the re-encrypt pass (read, decrypt, judge, encrypt, decrypt back,
compare-and-swap), `derivations_per_second` of the same core, and their `ratio`. Values that Grafana wrote need one derivation each to be read
(about 1.0 is the best there is); values that this product wrote share one salt a chunk (the case `again`: forced re-encryption).
One core: the process pins itself to one; the database servers, whose work is not ours, may use another.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa

from reencrypt.database import connect
from reencrypt.grafana import cipher
from reencrypt.grafana import payload as payloads
from reencrypt.grafana.settings import DatabaseSettings, load_settings
from reencrypt.operations import run_input
from reencrypt.operations.choose_data_key import choose_data_key
from reencrypt.operations.plan_chunks import MANIFEST, plan_chunks
from reencrypt.operations.preflight import preflight
from reencrypt.operations.work import Delivery, Phase, work
from tests.support.local_run import LocalRun
from tests.support.servers import server_settings

SECRET_KEY = "bench-secret-key"  # noqa: S105
DATA_KEY = bytes(range(16))
MAPPED = 4  # secrets in one data source


def main() -> int:
    """Runs every engine and case; exit code 0 when all of them ran."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--values", type=int, default=4000, help="secret values in the database")
    parser.add_argument("--engine", action="append", choices=["sqlite", "mysql", "postgres"], help="default: all three")
    arguments = parser.parse_args()
    engines = arguments.engine or ["sqlite", "mysql", "postgres"]
    # Servers first, so that they do not inherit this process's single core.
    with tempfile.TemporaryDirectory() as folder, _databases(engines, Path(folder)) as databases:
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        sealed = list(_sealed_by_grafana(arguments.values))
        for engine, settings in databases:
            _fill(settings, sealed)
            for line in _measure(engine, settings, Path(folder) / engine):
                print(json.dumps(line) if arguments.json else _readable(line), flush=True)
    return 0


def _measure(engine: str, settings: DatabaseSettings, folder: Path) -> Iterator[dict[str, object]]:
    ini = f"[security]\nsecret_key = {SECRET_KEY}\nencryption_provider = awskms.example-encryption-key\n"
    ini += "[security.encryption.awskms.example-encryption-key]\nkey_id = alias/bench\n"
    grafana = load_settings(ini)
    local = LocalRun(type(grafana)(**{**grafana.__dict__, "database": settings}), folder)
    for case, options in (("values that Grafana wrote", {}), ("values this product wrote, again", {"force": True})):
        request = run_input.parse({"mode": "re-encrypt", "providerReady": True, **options})
        workspace = local.workspace()
        preflight(request, workspace)
        plan_chunks(request, workspace, 1)
        choose_data_key(request, workspace)
        derive, values, seconds, rates = cipher.caching_derivation(), 0, 0.0, [_derivations_per_second()]
        for chunk in workspace.store.iter_lines(MANIFEST):
            started = time.perf_counter()
            values += work(request, Delivery(Phase.PROCESS, chunk, None), workspace, lambda: False, derive)["values"]
            seconds += time.perf_counter() - started
            rates.append(_derivations_per_second())  # between the chunks, so that a busy machine slows both down
        rate = statistics.mean(rates)
        yield {
            "engine": engine,
            "case": case,
            "values_per_second": round(values / seconds, 1),
            "derivations_per_second": round(rate, 1),
            "ratio": round(values / seconds / rate, 3),
        }


def _derivations_per_second(number: int = 250) -> float:
    started = time.perf_counter()
    for count in range(number):
        cipher.derive_key(DATA_KEY, b"%08d" % count)
    return number / (time.perf_counter() - started)


def _sealed_by_grafana(values: int) -> Iterator[str]:
    """Base64 payloads as Grafana writes them: a salt of its own for each."""
    for number in range(values):
        salt = cipher.new_salt()
        body = cipher.encrypt_cfb(b"password-of-data-source-%d" % number, cipher.derive_key(DATA_KEY, salt), salt)
        yield base64.b64encode(payloads.envelope("ag5b0mpfx27lsc", payloads.CFB_PREFIX + body)).decode()


def _fill(settings: DatabaseSettings, sealed: list[str]) -> None:
    """Half of the values in `secrets`, one a row; half in `data_source`, four a row. Column types as Grafana 12.4 declares them."""
    engine = connect.create_engine(settings, read_only=False)
    kind = engine.dialect.name
    blob, boolean, moment = {"mysql": ("BLOB", "TINYINT(1)", "DATETIME"), "postgresql": ("BYTEA", "BOOL", "TIMESTAMP")}.get(
        kind, ("BLOB", "INTEGER", "DATETIME")
    )
    half = len(sealed) // 2
    maps = [sealed[at : at + MAPPED] for at in range(half, len(sealed), MAPPED)]
    with engine.begin() as connection:
        for table in ("data_keys", "secrets", "data_source"):
            connection.execute(sa.text(f"DROP TABLE IF EXISTS {table}"))
        connection.execute(sa.text(
            f"CREATE TABLE data_keys (name VARCHAR(100) PRIMARY KEY, active {boolean} NOT NULL, scope VARCHAR(30) NOT NULL, provider VARCHAR(50) NOT NULL, "
            f"encrypted_data {blob} NOT NULL, created {moment} NOT NULL, updated {moment} NOT NULL, label VARCHAR(100) DEFAULT '')"
        ))  # fmt: skip
        connection.execute(sa.text("CREATE TABLE secrets (id INTEGER PRIMARY KEY, namespace VARCHAR(255), value TEXT)"))
        long = "MEDIUMTEXT" if kind == "mysql" else "TEXT"
        connection.execute(sa.text(f"CREATE TABLE data_source (id INTEGER PRIMARY KEY, name VARCHAR(190), secure_json_data {long})"))
        connection.execute(
            sa.text("INSERT INTO data_keys VALUES ('ag5b0mpfx27lsc', :active, 'root', 'secretKey.v1', :wrapped, :now, :now, '2026-01-01/root@secretKey.v1')"),
            {"active": True, "wrapped": payloads.encrypt_with_password(SECRET_KEY.encode(), DATA_KEY), "now": "2026-01-01 00:00:00"},
        )
        _insert(connection, "INSERT INTO secrets VALUES (:id, :name, :value)", ((number, value) for number, value in enumerate(sealed[:half], 1)))
        _insert(
            connection,
            "INSERT INTO data_source VALUES (:id, :name, :value)",
            ((number, json.dumps({f"httpHeaderValue{n}": value for n, value in enumerate(row)})) for number, row in enumerate(maps, 1)),
        )
    engine.dispose()


def _insert(connection: sa.Connection, statement: str, rows: Iterable[tuple[int, str]]) -> None:
    connection.execute(sa.text(statement), [{"id": number, "name": f"row {number}", "value": value} for number, value in rows])


@contextmanager
def _databases(engines: list[str], folder: Path) -> Iterator[list[tuple[str, DatabaseSettings]]]:
    def settings(engine: str, start: Callable[[str], DatabaseSettings]) -> DatabaseSettings:
        if engine != "sqlite":
            return start(engine)
        path = folder / "grafana.db"
        path.touch()
        return load_settings(f"[database]\npath = {path}\n").database

    with server_settings(engines) as start:
        yield [(engine, settings(engine, start)) for engine in engines]


def _readable(line: dict[str, object]) -> str:
    rates = f"{line['values_per_second']:>10} values/s {line['derivations_per_second']:>8} derivations/s"
    return f"{line['engine']:9} {line['case']:34} {rates}  ratio {line['ratio']}"


if __name__ == "__main__":
    sys.exit(main())
