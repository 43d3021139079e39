"""`python -m localaws`: MiniStack with the corrections in `localaws/patches/`, configured by environment variables (see `LocalAws`).

Each patch is one module with a docstring (what AWS does, what MiniStack does) and an `apply()`. They are written against one MiniStack
version, which is pinned; on another version this refuses to start, so that an upgrade is a decision: drop what is fixed, then move the pin.
"""

import importlib
import importlib.metadata
import os
import pkgutil
import signal
import sys
import threading

from localaws import patches

VERSION = "1.5.33"


def main() -> None:
    """Serves until it is killed, or, with LOCALAWS_ENDS_WITH_STDIN=1, until its standard input ends: then its starter is gone, however it died."""
    installed = importlib.metadata.version("ministack")
    if installed != VERSION:
        raise SystemExit(f"localaws/patches is written for ministack {VERSION}, but {installed} is installed")
    if os.environ.pop("LOCALAWS_ENDS_WITH_STDIN", "") == "1":
        threading.Thread(target=_end_with_standard_input, daemon=True).start()
    for module in sorted(module.name for module in pkgutil.iter_modules(patches.__path__)):
        importlib.import_module(f"{patches.__name__}.{module}").apply()
    importlib.import_module("ministack.app").main()  # after the patches


def _end_with_standard_input() -> None:
    sys.stdin.buffer.read()
    os.killpg(os.getpgrp(), signal.SIGKILL)  # the functions' processes too; there is no state to save


if __name__ == "__main__":
    main()
