"""`kill -9` for the Lambda processes of a deployed stack on the local AWS."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

_LOOK_SECONDS = 0.002


def processes_of(handler: str, above: int) -> list[int]:
    """The process ids of the functions with that handler module, among the descendants of the process `above`."""
    wanted = f"reencrypt.handlers.{handler}.handler".encode()
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            if wanted in (entry / "cmdline").read_bytes().split(b"\0") and above in _ancestors(int(entry.name)):
                found.append(int(entry.name))
    return found


def _ancestors(process: int) -> list[int]:
    found = []
    while process > 1:
        with contextlib.suppress(OSError, StopIteration):
            lines = Path(f"/proc/{process}/status").read_text().splitlines()
            process = int(next(line for line in lines if line.startswith("PPid:")).split()[1])
            found.append(process)
            continue
        break
    return found


def _is_at_work(process: int) -> bool:
    """Whether it has opened a socket: the first one is to Lambda's runtime API, for its event."""
    with contextlib.suppress(OSError):
        return any(str(link.readlink()).startswith("socket:") for link in Path(f"/proc/{process}/fd").iterdir())
    return False


class Killer:
    """While entered, kills each process of `handler` that is at work once `when()` holds, `times` times at most. `killed` counts them.

    At work: it has loaded the function and fetched an event. A process that dies while it loads is started again by Lambda itself.
    """

    def __init__(self, handler: str, above: int, *, times: int, when: Callable[[], bool] = lambda: True) -> None:
        self._handler, self._above, self._times, self._when = handler, above, times, when
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self.killed = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()

    def _work(self) -> None:
        seen: set[int] = set()
        while not self._stop.wait(_LOOK_SECONDS) and self.killed < self._times:
            for process in processes_of(self._handler, self._above):
                if process not in seen and _is_at_work(process) and self._when():
                    seen.add(process)
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(process, signal.SIGKILL)
                        self.killed += 1
