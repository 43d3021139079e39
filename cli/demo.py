"""`./demo`: the whole product on this machine. A sample Grafana database, the real stack on a local AWS, and three runs of the real state machine.

plan         who is encrypted by what; writes nothing
re-encrypt   every secret under a new data key that an AWS KMS key wraps
verify       everything decrypted again
"""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path

import typer

from cli.deployment import RunResult
from cli.rehearse import ExitCode, exit_code, run_all
from cli.sample import DEFAULT_SECRET_KEY, make_sample
from cli.screen import Screen
from cli.working_folder import end_cleanly_on_signals, results_folder
from localaws.aws import LocalAwsError

_INI = """\
[security]
secret_key = {secret_key}
encryption_provider = awskms.example-encryption-key
available_encryption_providers = awskms.example-encryption-key

[security.encryption.awskms.example-encryption-key]
key_id = alias/ExampleAlias
region = eu-north-1
access_key_id = AKIAIOSFODNN7EXAMPLE
secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY

[database]
type = sqlite3
path = {path}
"""
_REQUESTS: list[object] = [{"mode": "plan"}, {"mode": "re-encrypt", "providerReady": True}, {"mode": "verify"}]


def demo(rows: int = typer.Option(24, min=1, help="Data sources in the sample database; the rest grows with them.")) -> None:
    """Shows the product on a sample database, without an AWS account."""
    screen, started = Screen(), time.monotonic()
    with results_folder("demo") as folder:
        results = _show(folder, rows, screen)
    report = folder / "2-re-encrypt" / "report.html"
    if report.exists():
        screen.console.print(f"\nThe re-encryption's report, to open in a browser: {report}", markup=False)
    screen.note(f"{time.monotonic() - started:.0f} s in all")
    raise typer.Exit(exit_code(results))


def _show(folder: Path, rows: int, screen: Screen) -> list[RunResult]:
    path, copy = folder / "grafana.db", folder / "re-encrypted.db"
    secrets = make_sample(path, rows=rows)
    shutil.copyfile(path, copy)  # the sample itself stays as it was, for a rehearsal of one's own
    (folder / "grafana.ini").write_text(_INI.format(secret_key=DEFAULT_SECRET_KEY, path=path), encoding="utf-8")
    ini = _INI.format(secret_key=DEFAULT_SECRET_KEY, path=copy)
    screen.note(f"made {path}: a sample Grafana database with {len(secrets)} secrets, under secret_key, an old and an active data key")
    try:
        return run_all(ini, {}, _REQUESTS, folder, screen)
    except LocalAwsError as error:
        screen.error(str(error))
        raise typer.Exit(ExitCode.NO_LOCAL_AWS) from None
    except KeyboardInterrupt:
        raise typer.Exit(ExitCode.INTERRUPTED) from None


if __name__ == "__main__":
    end_cleanly_on_signals()
    try:
        typer.run(demo)
    except KeyboardInterrupt:
        sys.exit(ExitCode.INTERRUPTED)
