"""How the tests are named and shared out between workers (pytest-xdist)."""

from __future__ import annotations

from pathlib import Path

import pytest

_TEMPLATE = Path(__file__).parent / "infrastructure"
_LONG = 30


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keeps the tests of the template in one worker (`--dist loadgroup`), so that it is synthesized once."""
    for item in items:
        if _TEMPLATE in item.path.parents:
            item.add_marker(pytest.mark.xdist_group("template"))


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Names payloads by their parameter: some are made at random, and every worker must come to the same names."""
    return argname if isinstance(val, bytes) or (isinstance(val, str) and len(val) > _LONG) else None
