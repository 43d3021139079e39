"""The CDK app: `npx cdk deploy` deploys what deployment.toml describes; `-c settings=FILE` names another file."""

from __future__ import annotations

import sys
from pathlib import Path

import aws_cdk as cdk

from infra.nag import check
from infra.settings import SettingsError, load_settings
from infra.stack import ReencryptStack


def main() -> None:
    app = cdk.App()
    named = app.node.try_get_context("settings")
    try:
        settings = load_settings(Path(named) if named else Path(__file__).resolve().parent / "deployment.toml")
    except SettingsError as error:
        sys.exit(str(error))
    ReencryptStack(app, settings)
    check(app)
    app.synth()


if __name__ == "__main__":
    main()
