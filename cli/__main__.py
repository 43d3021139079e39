"""`grafana-reencrypt`: the operator's command. Each subcommand is one module; this one only puts them together."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from cli import version
from cli.rehearse import rehearse
from cli.report_command import report
from cli.runs import runs
from cli.start import start
from cli.watch import watch
from cli.working_folder import end_cleanly_on_signals

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Re-encrypts the secrets of a Grafana database under the current data key of its encryption provider, such as an AWS KMS key.",
)
_DEPLOYED = "On the deployed stack"
app.command(rich_help_panel=_DEPLOYED)(start)
app.command(rich_help_panel=_DEPLOYED)(watch)
app.command(rich_help_panel=_DEPLOYED)(report)
app.command(rich_help_panel=_DEPLOYED)(runs)
app.command(rich_help_panel="On this machine")(rehearse)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"grafana-reencrypt {version()}")
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")] = False,
) -> None:
    """The options that belong to no command."""


def main() -> None:
    """Runs the command; SIGTERM ends it as Ctrl-C does, so that nothing stays behind."""
    end_cleanly_on_signals()
    try:
        app(prog_name="grafana-reencrypt")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
