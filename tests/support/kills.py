"""`kill -9` for the Lambda processes of a deployed stack on the local AWS."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

_LOOK_SECONDS = 0.002
_RUNTIME_SOCKETS = 3


def processes_of(handlers: Iterable[str], above: int) -> list[tuple[int, str]]:
    """The processes of the functions with these handler modules, among the descendants of the process `above`."""
    wanted = {f"reencrypt.handlers.{handler}.handler".encode(): handler for handler in handlers}
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                last = (entry / "cmdline").read_bytes().rstrip(b"\0").rpartition(b"\0")[2]
                if last in wanted and above in _ancestors(int(entry.name)):
                    found.append((int(entry.name), wanted[last]))
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
    """Whether it has opened a connection of its own (to AWS, by then): three sockets are those of Lambda's runtime client."""
    with contextlib.suppress(OSError):
        return sum(str(link.readlink()).startswith("socket:") for link in Path(f"/proc/{process}/fd").iterdir()) > _RUNTIME_SOCKETS
    return False


class Killer:
    """While entered, kills each process of the handlers in `times` that is at work once `when()` holds, so many times at most.

    At work: in its handler. A process that dies while it loads the function is started again by Lambda itself.
    `killed` counts by handler.
    """

    def __init__(self, above: int, times: Mapping[str, int], *, when: Callable[[], bool] = lambda: True) -> None:
        self._above, self._times, self._when = above, times, when
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self.killed = dict.fromkeys(times, 0)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()

    def _work(self) -> None:
        seen: set[int] = set()
        while not self._stop.wait(_LOOK_SECONDS):
            left = [handler for handler, times in self._times.items() if self.killed[handler] < times]
            for process, handler in processes_of(left, self._above) if left else ():
                if process not in seen and _is_at_work(process) and self._when():
                    seen.add(process)
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(process, signal.SIGKILL)
                        self.killed[handler] += 1
