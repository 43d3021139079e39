"""A folder under `.local/` for one run of a command, and what else a command must do to leave nothing behind however it ends."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from localaws.aws import REPOSITORY

LOCAL = REPOSITORY / ".local"


@contextlib.contextmanager
def working_folder() -> Iterator[Path]:
    """A new folder, gone afterwards. Folders that a killed process left behind go too."""
    LOCAL.mkdir(exist_ok=True)
    for old in LOCAL.glob("run-*-*"):
        if not _alive(old.name.split("-")[1]):
            shutil.rmtree(old, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=f"run-{os.getpid()}-", dir=LOCAL))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def results_folder(name: str) -> Iterator[Path]:
    """An empty folder `.local/name` that stays, nobody else's while the block runs: `.local/name-2` and so on if another process has it."""
    LOCAL.mkdir(exist_ok=True)
    for number in itertools.count(1):
        folder = LOCAL / (name if number == 1 else f"{name}-{number}")
        with (LOCAL / f".{folder.name}.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            yield folder
            return


def end_cleanly_on_signals() -> None:
    """Makes SIGTERM and SIGINT raise KeyboardInterrupt, also where SIGINT was ignored (a script's background command)."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)


def _interrupt(number: int, frame: FrameType | None) -> None:
    for again in (signal.SIGINT, signal.SIGTERM):
        signal.signal(again, signal.SIG_IGN)  # a second one would cut the cleaning-up short, which takes a moment only
    raise KeyboardInterrupt


def _alive(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        return True
    return True
