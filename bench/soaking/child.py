"""A process of the soak, seen from outside: it is told things over a pipe, and answers each."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any


class Child:
    """Runs `main(pipe, order)` in a process of its own. An exception that it sends back is raised here."""

    def __init__(self, main: Callable[[Connection, Any], None], order: object, answer_seconds: float, late: str) -> None:
        self._answer_seconds, self._late = answer_seconds, late
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=main, args=(theirs, order), daemon=True)
        self._process.start()
        theirs.close()

    def close(self) -> None:
        """Ends the process, whatever it is doing."""
        self._process.kill()
        self._process.join()
        self._pipe.close()

    def _answer(self) -> Any:
        if not self._pipe.poll(self._answer_seconds):
            raise TimeoutError(f"{self._late} within {self._answer_seconds:.0f} s")
        answer = self._pipe.recv()
        if isinstance(answer, Exception):
            raise answer
        return answer
