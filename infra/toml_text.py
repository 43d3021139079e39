"""Python values as TOML text: its basic strings, numbers, booleans and arrays are JSON's, and a table can be written inline."""

from __future__ import annotations

import json
from collections.abc import Mapping


def inline(value: object) -> str:
    """`value` (texts, numbers, truth values, lists and tables of them) on one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(key)} = {inline(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(inline, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def lines(table: Mapping[str, object]) -> str:
    """The keys of a table, one a line."""
    return "".join(f"{key} = {inline(value)}\n" for key, value in table.items())
