"""Draws the state machine, as it is synthesized, as one SVG: states from top to bottom, what is skipped to the right, ways back to the left.

    PYTHONPATH=.:lambda .venv/bin/python -m tools.state_machine_picture     writes docs/pictures/state-machine.svg

Nothing is placed by hand: a state that is added to `infra/run_definition.py` appears by itself. A test compares the file with a fresh drawing.
The states within a Distributed Map are left out; they are the same in each. Source of the fields: Amazon States Language, states-language.net.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import Any

PICTURE = Path(__file__).resolve().parent.parent / "docs" / "pictures" / "state-machine.svg"
ERROR = "any error"

_ROW, _HEIGHT, _WIDTH, _TOP, _LANE = 40, 26, 208, 92, 14
_CENTRE = 330
_LEFT, _RIGHT = _CENTRE - _WIDTH // 2, _CENTRE + _WIDTH // 2
_LABELS = 104  # room for an edge's words between a box and the first lane
_FILLS = {"Task": "#dbe9fb", "Map": "#e6defa", "Wait": "#fdf0c8", "Pass": "#eeeeee", "Choice": "#ffffff", "Succeed": "#d5f2dc", "Fail": "#fbdcdc"}
_SIGNS = {"NumericEquals": "=", "NumericGreaterThan": ">", "NumericLessThan": "<", "NumericGreaterThanEquals": "≥", "NumericLessThanEquals": "≤"}
_KINDS = {"Task": "a function or a message", "Map": "a function for each chunk", "Wait": "waits", "Choice": "decides"}


@dataclass(frozen=True)
class Edge:
    """A way from one state to another, and when it is taken (empty: always)."""

    source: str
    target: str
    words: str = ""


def edges(states: Mapping[str, Mapping[str, Any]]) -> Iterator[Edge]:
    """Every way between the states, those of errors included."""
    for name, state in states.items():
        for choice in state.get("Choices", ()):
            yield Edge(name, choice["Next"], condition(choice))
        if "Default" in state:
            yield Edge(name, state["Default"], "else")
        if "Next" in state:
            yield Edge(name, state["Next"])
        for caught in state.get("Catch", ()):
            yield Edge(name, caught["Next"], ERROR)


def condition(choice: Mapping[str, Any]) -> str:
    """When a choice is taken, in a word or two."""
    for several in ("Or", "And"):
        if several in choice:
            words = [condition(one) for one in choice[several]]
            return f"{words[0]}…" if all(word.startswith(words[0]) for word in words) else f" {several.lower()} ".join(words)
    if "Not" in choice:
        return f"not {condition(choice['Not'])}"
    field = str(choice["Variable"]).rpartition(".")[2]
    if "BooleanEquals" in choice:
        return field if choice["BooleanEquals"] else f"not {field}"
    if "StringEquals" in choice:
        return str(choice["StringEquals"])
    return next((f"{field} {sign} {choice[key]}" for key, sign in _SIGNS.items() if key in choice), field)


def order(definition: Mapping[str, Any]) -> list[str]:
    """The states, each below those that lead to it, but for ways back."""
    following: dict[str, list[str]] = {name: [] for name in definition["States"]}
    for edge in edges(definition["States"]):
        following[edge.source].append(edge.target)
    finished: list[str] = []
    seen: set[str] = set()

    def visit(name: str) -> None:
        seen.add(name)
        for target in reversed(following[name]):  # visited first is placed last: errors go below the rest, a choice's first way comes right after it
            if target not in seen:
                visit(target)
        finished.append(name)

    visit(definition["StartAt"])
    return finished[::-1]


def draw(definition: Mapping[str, Any]) -> str:
    """The SVG's text."""
    states = definition["States"]
    names = order(definition)
    row = {name: number for number, name in enumerate(names)}
    ways = list(edges(states))
    caught = [way for way in ways if way.words == ERROR]
    plain = [way for way in ways if way.words != ERROR]
    down = [way for way in plain if row[way.target] == row[way.source] + 1]
    ahead = [way for way in plain if row[way.target] > row[way.source] + 1]
    back = [way for way in plain if row[way.target] <= row[way.source]]
    right, rights = _lanes(ahead, row)
    left, _ = _lanes(back, row)
    errors, error_lanes = _lanes(caught, row)
    error_base = _RIGHT + _LABELS + rights * _LANE
    width = error_base + error_lanes * _LANE + 26
    parts = [*(_side(way, row, "back", _LEFT - 64 - left[way.target] * _LANE, back) for way in back)]
    parts += [_side(way, row, "ahead", _RIGHT + _LABELS + right[way.target] * _LANE, ahead) for way in ahead]
    parts += [_side(way, row, "error", error_base + errors[way.target] * _LANE, caught) for way in caught]
    parts += [_down(way, row) for way in down]
    parts += [_box(name, str(states[name]["Type"]), row[name]) for name in names]
    return _page(parts, width, _TOP + len(names) * _ROW, states, names)


def _lanes(ways: list[Edge], row: Mapping[str, int]) -> tuple[dict[str, int], int]:
    """A lane for each target, the shortest nearest to the boxes, none shared by two that overlap; and how many there are."""
    spans: dict[str, tuple[int, int]] = {}
    for way in ways:
        ends = (row[way.source], row[way.target], *spans.get(way.target, ()))
        spans[way.target] = (min(ends), max(ends))
    taken: list[list[tuple[int, int]]] = []
    lane_of: dict[str, int] = {}
    for target, (first, last) in sorted(spans.items(), key=lambda item: (item[1][1] - item[1][0], item[1])):
        free = (number for number, lane in enumerate(taken) if all(last < begin or end < first for begin, end in lane))
        number = next(free, len(taken))
        if number == len(taken):
            taken.append([])
        taken[number].append((first, last))
        lane_of[target] = number
    return lane_of, len(taken)


def _y(row: int) -> int:
    return _TOP + row * _ROW + _HEIGHT // 2


def _down(way: Edge, row: Mapping[str, int]) -> str:
    top, bottom = _y(row[way.source]) + _HEIGHT // 2, _y(row[way.target]) - _HEIGHT // 2
    return f'<path class="way" d="M{_CENTRE} {top}V{bottom - 2}"/>{_words(way.words, _CENTRE + 6, top + 11, "start")}'


def _side(way: Edge, row: Mapping[str, int], kind: str, lane: int, beside: list[Edge]) -> str:
    """Out of a box, along a lane, into another box. Several ways out of one box, or ways out and in, leave at different heights."""
    out = [other for other in beside if other.source == way.source]
    start = _y(row[way.source]) + {"back": -6, "ahead": -7, "error": 9}[kind] + 12 * out.index(way) * (kind != "error")
    end = _y(row[way.target]) + {"back": 6, "ahead": 4, "error": -3}[kind]
    edge, tip, side = (_LEFT, _LEFT - 2, "end") if kind == "back" else (_RIGHT, _RIGHT + 2, "start")
    words = "" if kind == "error" else _words(way.words, edge + (-5 if kind == "back" else 5), start - 3, side)
    return f'<path class="{"error" if kind == "error" else "way"}" d="M{edge} {start}H{lane}V{end}H{tip}"/>{words}'


def _words(text: str, x: int, y: int, anchor: str) -> str:
    return f'<text class="words" x="{x}" y="{y}" text-anchor="{anchor}">{escape(text)}</text>' if text else ""


def _box(name: str, kind: str, row: int) -> str:
    y = _y(row)
    top, bottom, fill = y - _HEIGHT // 2, y + _HEIGHT // 2, _FILLS.get(kind, "#eeeeee")
    if kind == "Choice":
        points = f"{_LEFT},{y} {_LEFT + 12},{top} {_RIGHT - 12},{top} {_RIGHT},{y} {_RIGHT - 12},{bottom} {_LEFT + 12},{bottom}"
        shape = f'<polygon class="box" fill="{fill}" points="{points}"/>'
    else:
        behind = f'<rect class="box" fill="{fill}" x="{_LEFT + 4}" y="{top + 4}" width="{_WIDTH - 8}" height="{_HEIGHT}" rx="4"/>' if kind == "Map" else ""
        shape = f'{behind}<rect class="box" fill="{fill}" x="{_LEFT}" y="{top}" width="{_WIDTH}" height="{_HEIGHT}" rx="{13 if kind == "Succeed" else 4}"/>'
    return f'{shape}<text x="{_CENTRE}" y="{y + 4}" text-anchor="middle">{escape(name)}</text>'


def _page(parts: list[str], width: int, height: int, states: Mapping[str, Any], names: list[str]) -> str:
    legend = []
    for number, (kind, meaning) in enumerate(_KINDS.items()):
        x = (16, 206, 388, 464)[number]
        legend.append(f'<rect class="box" fill="{_FILLS[kind]}" x="{x}" y="40" width="16" height="14" rx="3"/><text x="{x + 22}" y="51">{meaning}</text>')
    steps = "; ".join(f"{above}, then {below}" for above, below in pairwise(names) if states[above].get("Next") == below)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" aria-labelledby="t d">',
            '<title id="t">The state machine of a run</title>',
            f'<desc id="d">{len(names)} states from Name the run to Run failed. {escape(steps)}. Any error leads to Report failure.</desc>',
            "<style>text{font:12px system-ui,sans-serif;fill:#1b1f24}.words{font-size:11px;fill:#57606a}.head{font-size:15px;font-weight:600}"
            ".box{stroke:#57606a}.way,.error{fill:none;stroke:#57606a;marker-end:url(#a)}.error{stroke:#c2352b;marker-end:url(#e)}</style>",
            f"<defs>{_arrow('a', '#57606a')}{_arrow('e', '#c2352b')}</defs>",
            f'<rect width="{width}" height="{height}" rx="8" fill="#fbfbfb"/>',
            '<text class="head" x="16" y="26">A run, state by state</text>',
            *legend,
            '<path class="error" d="M16 70H48"/><text x="56" y="74">any error, after its retries</text>',
            *parts,
            "</svg>",
            "",
        ]
    )


def _arrow(name: str, colour: str) -> str:
    size = 'viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto"'
    return f'<marker id="{name}" {size}><path d="M0 0L8 4L0 8z" fill="{colour}"/></marker>'


def synthesized() -> dict[str, Any]:
    """The definition of a stack with nothing but the settings that must be given."""
    os.environ.setdefault("JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION", "20")  # before jsii starts node
    import aws_cdk as cdk

    from infra.settings import load_settings
    from infra.stack import ReencryptStack

    with tempfile.TemporaryDirectory() as folder:
        (file := Path(folder) / "settings.toml").write_text('grafana_ini_secret = "grafana/ini"\n', encoding="utf-8")
        app = cdk.App(outdir=f"{folder}/cdk.out", context={"aws:cdk:bundling-stacks": []})
        stack = ReencryptStack(app, load_settings(file))
        app.synth()
        template = json.loads((Path(folder) / "cdk.out" / f"{stack.stack_name}.template.json").read_text(encoding="utf-8"))
    return definition_in(template)


def definition_in(template: Mapping[str, Any]) -> dict[str, Any]:
    """The state machine of a synthesized template; what only the deployment knows (ARNs) is left out."""
    (machine,) = (resource for resource in template["Resources"].values() if resource["Type"] == "AWS::StepFunctions::StateMachine")
    parts = machine["Properties"]["DefinitionString"]["Fn::Join"][1]
    loaded: dict[str, Any] = json.loads("".join(part if isinstance(part, str) else "-" for part in parts))
    return loaded


if __name__ == "__main__":
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_text(draw(synthesized()), encoding="utf-8")
    print(PICTURE)
