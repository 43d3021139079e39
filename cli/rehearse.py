"""`grafana-reencrypt rehearse`: the real state machine on a local AWS, over a copy of a Grafana database.

Needs no AWS account and touches none. Exit codes: see `ExitCode`.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from enum import IntEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.deployment import FILES, Rehearsal, RunResult, mode_of
from cli.screen import Screen
from cli.source_database import copy_sqlite, locate_sqlite, naming
from cli.working_folder import LOCAL, working_folder
from localaws.aws import LocalAwsError
from reencrypt.errors import ConfigurationError
from reencrypt.grafana.secret_columns import declared
from reencrypt.grafana.settings import load_settings

COPY = "grafana.db"
# Nobody uses the copy, so there is no Grafana to wait for: a settle of 16 minutes takes a second.
_WAIT_SCALE = 0.001
_LOGS = ("emulator.log", "cdk.log", "functions.log")


class ExitCode(IntEnum):
    """What the exit code says."""

    ALL_ENDED_WELL = 0
    A_RUN_FAILED = 1
    NOTHING_STARTED = 2  # an argument, the ini or the database is not usable; nothing was started or copied over
    NO_LOCAL_AWS = 3  # the emulator or the deployment failed
    INTERRUPTED = 130


class Refused(Exception):
    """What was asked for cannot be done; `str()` is the whole message."""


def rehearse(
    grafana_ini: Annotated[Path, typer.Option("--grafana-ini", metavar="FILE", help="Grafana's configuration; names the database and the KMS keys.")],
    inputs: Annotated[
        list[str], typer.Option("--input", metavar="JSON", help='An execution\'s input, such as \'{"mode": "plan"}\'. Repeat for several, run in order.')
    ],
    output: Annotated[Path, typer.Option("--output", metavar="DIR", help="Gets the copied database, and the report and certificate of each run.")],
    environment: Annotated[Path | None, typer.Option("--grafana-environment", metavar="FILE", help="A JSON object with Grafana's GF_… variables.")] = None,
    columns: Annotated[
        Path | None, typer.Option("--secret-columns", metavar="FILE", help="TOML with [[secret_column]] tables, as in deployment.example.toml.")
    ] = None,
    in_place: Annotated[
        bool, typer.Option("--in-place", help="MySQL and PostgreSQL: work on the database that the ini names, which must be a copy that you made.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the results of an earlier rehearsal in DIR.")] = False,
) -> None:
    """Runs the real state machine on this machine, over a copy of the database.

    Runs are named by number and mode, as their folders are: [bold]{"mode": "restore", "run": "2-re-encrypt"}[/bold] undoes the second. The state machine's
    waits are a thousand times shorter than on AWS, since no Grafana uses the copy.

    The KMS keys and access keys that the ini names are made in the local AWS, with the same names and no other connection to the real ones. With two
    awskms sections in it, data keys can move from one to the other: [bold]{"mode": "rewrap-data-keys", "provider": "awskms.new"}[/bold].

    [bold]Example[/bold]: grafana-reencrypt rehearse --grafana-ini /etc/grafana/grafana.ini --output rehearsal
    --input '{"mode": "plan"}' --input '{"mode": "re-encrypt", "providerReady": true}' --input '{"mode": "verify"}'
    """
    screen = Screen()
    try:
        requests = parse_inputs(inputs)
        ini, variables = read_ini(grafana_ini), read_environment(environment)
        settings = read_secret_columns(columns)
        prepare_output(output, requests, overwrite=overwrite)
        ini, variables = prepare_database(grafana_ini, ini, variables, output, in_place=in_place, screen=screen)
        results = run_all(ini, variables, requests, output, screen, settings)
    except (Refused, ConfigurationError) as error:
        screen.error(str(error))
        raise typer.Exit(ExitCode.NOTHING_STARTED) from None
    except LocalAwsError as error:
        screen.error(str(error))
        raise typer.Exit(ExitCode.NO_LOCAL_AWS) from None
    except KeyboardInterrupt:
        screen.error(
            "interrupted; the local AWS is gone, the original database was never written to"
            if not in_place
            else "interrupted; the local AWS is gone. A run that was writing stopped where it was: run it again to finish"
        )
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    raise typer.Exit(exit_code(results))


def run_all(
    ini: str, environment: Mapping[str, str], requests: Sequence[object], output: Path, screen: Screen, settings: Mapping[str, object] | None = None
) -> list[RunResult]:
    """Deploys, runs every request in order (also after one that failed), and writes each report to `output`/<n>-<mode>/.

    `settings` are further deployment settings.
    """
    results = list[RunResult]()
    with working_folder() as folder:
        try:
            with (
                screen.steps() as step,
                Rehearsal(ini, folder, environment=environment, settings=settings, wait_scale=_WAIT_SCALE, on_step=step) as rehearsal,
            ):
                step("")
                for number, request in enumerate(requests, 1):
                    with screen.run(f"{number}/{len(requests)} {mode_of(request)}") as on_progress:
                        result = rehearsal.run(request, on_progress=on_progress)
                    results.append(result)
                    screen.result(result, write_report(result, output / f"{number}-{result.mode}"))
                    if foreign := foreign_keys(result.report):
                        screen.note(foreign)
                if not all(result.ended_well for result in results):
                    (folder / "functions.log").write_text(rehearsal.function_logs(), encoding="utf-8")
        finally:
            if not results or not all(result.ended_well for result in results):
                kept = [str(log.replace(LOCAL / log.name)) for name in _LOGS if (log := folder / name).exists()]
                screen.note(f"logs of the local AWS: {', '.join(kept)}")
    screen.summary(results, [output / f"{number}-{result.mode}" / "report.html" for number, result in enumerate(results, 1)])
    return results


def foreign_keys(report: Mapping[str, Any] | None) -> str | None:
    """What to say where data keys are wrapped by a KMS key that only AWS has; None where none are."""
    wrapped = [key for key in (report or {}).get("data_keys", ()) if not key["readable"] and str(key["provider"]).startswith(("awskms.", "aws_kms."))]
    if not wrapped:
        return None
    return (
        f"data keys of {', '.join(sorted({str(key['provider']) for key in wrapped}))} did not open: a KMS key of AWS wraps them, which this local AWS does not "
        "have. What is under them is unreadable here, and here only: nothing is wrong with it. Start {} on the deployed stack to see it"
    )


def exit_code(results: Sequence[RunResult]) -> ExitCode:
    return ExitCode.ALL_ENDED_WELL if results and all(result.ended_well for result in results) else ExitCode.A_RUN_FAILED


def parse_inputs(inputs: Sequence[str]) -> list[object]:
    """The executions' inputs. Raises Refused, naming the first that is not JSON; what the JSON says is for the run itself to judge."""
    requests = list[object]()
    for number, text in enumerate(inputs, 1):
        try:
            requests.append(json.loads(text))
        except ValueError as error:
            raise Refused(f'--input number {number} is not JSON: {error}. Example: --input \'{{"mode": "plan"}}\'') from None
    return requests


def read_ini(path: Path) -> str:
    """The text of the ini file. Raises Refused when it cannot be read."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise Refused(f"--grafana-ini: there is no file {path}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(f"--grafana-ini: {path} cannot be read: {getattr(error, 'strerror', None) or 'it is not UTF-8'}") from None


def read_environment(path: Path | None) -> dict[str, str]:
    """Grafana's variables from a JSON object of texts. Raises Refused."""
    if path is None:
        return {}
    try:
        variables = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise Refused(f"--grafana-environment: {path} is not a readable file with a JSON object") from None
    if not isinstance(variables, dict) or not all(isinstance(value, str) for value in variables.values()):
        raise Refused(f"--grafana-environment: {path} must hold a JSON object whose values are texts")
    return variables


def read_secret_columns(path: Path | None) -> dict[str, object]:
    """The deployment setting that the file's [[secret_column]] tables are. Raises Refused."""
    if path is None:
        return {}
    try:
        text = path.read_text(encoding="utf-8")
        declared(text)
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(f"--secret-columns: {path} cannot be read: {getattr(error, 'strerror', None) or 'it is not UTF-8'}") from None
    except ConfigurationError as error:
        raise Refused(f"--secret-columns: {path}: {error}") from None
    return tomllib.loads(text)


def prepare_output(output: Path, requests: Sequence[object], *, overwrite: bool) -> None:
    """Makes the folder, and room in it for this rehearsal's results; other files in it stay. Raises Refused over earlier results without `overwrite`."""
    if output.exists() and not output.is_dir():
        raise Refused(f"--output: {output} is not a folder")
    ours = [output / COPY, *(output / f"{number}-{mode_of(request)}" for number, request in enumerate(requests, 1))]
    existing = [path for path in ours if path.exists()]
    if existing and not overwrite:
        raise Refused(f"--output: {existing[0]} exists already; choose another folder, or replace it with --overwrite")
    output.mkdir(parents=True, exist_ok=True)


def prepare_database(path: Path, ini: str, environment: Mapping[str, str], output: Path, *, in_place: bool, screen: Screen) -> tuple[str, dict[str, str]]:
    """The settings to run with: SQLite's name a fresh copy in `output`; others are as they are, which takes `in_place`. Raises Refused."""
    database = load_settings(ini, environment).database
    if database.type != "sqlite3":
        if not in_place:
            raise Refused(
                f"{path} names a {database.type} database, and most modes write to it. Make a copy of it (a dump loaded into a "
                "database of another name), name the copy in the ini, and add --in-place."
            )
        screen.note(f"working in place on the {database.type} database {database.name} at {database.host or database.unix_socket or 'localhost'}")
        return ini, dict(environment)
    if in_place:
        raise Refused("--in-place is for MySQL and PostgreSQL; a SQLite database is always copied")
    source, copy = locate_sqlite(database, path), output.resolve() / COPY
    if copy.exists() and copy.samefile(source):
        raise Refused(f"--output: {output} holds the original, {source}; choose another folder")
    copy_sqlite(source, copy)
    screen.note(f"copied {source} to {copy}")
    return naming(ini, environment, copy)


def write_report(result: RunResult, folder: Path) -> Path | None:
    """Writes the run's files to `folder` and returns the path of report.html; None where the run wrote none."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        (folder / name).unlink(missing_ok=True)
    for name, text in result.files.items():
        (folder / name).write_bytes(text.encode())  # as it is: the certificate has the report's SHA-256
    if "report.html" not in result.files:
        return None
    return folder / "report.html"
