"""What `start`, `watch`, `report` and `runs` have in common: their options, and how a command that cannot go on says so."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from botocore.exceptions import BotoCoreError, ClientError
from rich.console import Console

from cli.aws_problems import explain
from cli.exit_codes import CannotGoOn, ExitCode
from cli.screen import Screen
from cli.stack import Stack, find_stack

StackName = Annotated[str, typer.Option("--stack", metavar="NAME", help="The deployed CloudFormation stack (stack_name in deployment.toml).")]
Region = Annotated[str | None, typer.Option("--region", metavar="REGION", help="Its AWS region, if not that of the profile or of AWS_REGION.")]
Profile = Annotated[str | None, typer.Option("--profile", metavar="PROFILE", help="A profile of ~/.aws/config, if not the default one or AWS_PROFILE.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a program to standard output; everything for people goes to standard error.")]


class Session:
    """One command at work: its screen, and the stack once it is found. `interrupted` is what to say at Ctrl-C; set it as soon as there is more to say."""

    def __init__(self, *, as_json: bool = False) -> None:
        self.screen = Screen(Console(stderr=True, highlight=False, soft_wrap=True)) if as_json else Screen()
        self.interrupted = "interrupted; nothing was started"
        self.goes_on = ""
        self._profile: str | None = None
        self._stack: Stack | None = None

    def find_stack(self, name: str, region: str | None, profile: str | None) -> Stack:
        """The stack, which errors are then told about. See cli.stack.find_stack."""
        self._profile = profile
        self._stack = find_stack(name, region, profile)
        return self._stack

    @contextlib.contextmanager
    def errors_in_words(self) -> Iterator[None]:
        """Ends the command with a message and an exit code whatever goes wrong: never with a traceback, which could show a secret."""
        try:
            yield
        except CannotGoOn as error:
            self._end(error.code, str(error))
        except (ClientError, BotoCoreError) as error:
            resource = f"the run bucket {self._stack.bucket}" if self._stack else ""
            self._end(ExitCode.AWS_PROBLEM, explain(error, resource=resource, profile=self._profile) + (f". {self.goes_on}" if self.goes_on else ""))
        except KeyboardInterrupt:
            self._end(ExitCode.INTERRUPTED, self.interrupted)
        except (typer.Exit, BrokenPipeError):  # the reader of a pipe has gone: typer ends quietly
            raise
        except Exception as error:  # named by class and place only
            place = traceback.extract_tb(error.__traceback__)[-1]
            self._end(ExitCode.AWS_PROBLEM, f"a bug: {type(error).__name__} in {Path(place.filename).name}, line {place.lineno}; please report it")

    def _end(self, code: ExitCode, message: str) -> None:
        self.screen.error(message)
        raise typer.Exit(code) from None
