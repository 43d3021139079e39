"""`grafana-reencrypt`: the operator's command. Each subcommand is one module; this one only puts them together."""

from __future__ import annotations

import sys

import typer

from cli.rehearse import rehearse
from cli.working_folder import end_cleanly_on_signals

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Re-encrypts the secrets of a Grafana database under the current data key of its encryption provider, such as an AWS KMS key.",
)
app.command()(rehearse)


@app.callback()
def _several_commands() -> None:
    """Makes typer expect a command's name even while there is only one command."""


def main() -> None:
    """Runs the command; SIGTERM ends it as Ctrl-C does, so that nothing stays behind."""
    end_cleanly_on_signals()
    try:
        app(prog_name="grafana-reencrypt")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
