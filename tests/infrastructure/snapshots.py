"""Templates as sorted lines, one for each property, so that a review sees what a setting or a change of the code makes of them.

`minimal.txt` is a whole template; each other file says what its settings change: lines that come (+) and go (-). What other tests look at is left out:
the state machine's definition, the bundle, and what the functions have in common stands once.
`.venv/bin/python -m tests.infrastructure.snapshots` writes them anew; look at the difference before you commit it.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).with_name("snapshots")
NAMES = ("minimal", "vpc, rds password", "aurora, iam token, keys of another account", "rds proxy", "two schedules", "everything off")
_COMMON = ("Environment", "VpcConfig", "Runtime", "Architectures", "TracingConfig")  # to all functions


def lines(template: Mapping[str, Any], stack_name: str) -> set[str]:
    """Each property of the template as `path = value`."""
    resources = {name: dict(resource) for name, resource in template["Resources"].items() if resource["Type"] != "AWS::CDK::Metadata"}
    functions = [resource for resource in resources.values() if resource["Type"] == "AWS::Lambda::Function"]
    common = {}
    for name in _COMMON:
        found = {json.dumps(function["Properties"].get(name), sort_keys=True) for function in functions}
        if len(found) == 1:
            common[name] = json.loads(found.pop())
    for function in functions:
        own = {name: value for name, value in function["Properties"].items() if name not in common and name != "Code"}
        function["Properties"] = own
        function.pop("Metadata", None)
    for resource in resources.values():
        if resource["Type"] == "AWS::StepFunctions::StateMachine":
            resource["Properties"] = {name: value for name, value in resource["Properties"].items() if name != "DefinitionString"}
        resource.pop("Metadata", None)
    whole = {"every function": common, **resources, "Outputs": template.get("Outputs", {})}
    return {line.replace(stack_name, "grafana-reencrypt") for line in _flat("", whole)}


def _flat(path: str, value: Any) -> Iterator[str]:
    if isinstance(value, Mapping) and value and not _is_intrinsic(value):
        for key, item in value.items():
            if key == "Properties":
                yield from _flat(path, item)
            elif key != "Tags":  # a test of their own
                yield from _flat(f"{path}/{key}" if path else str(key), item)
    elif isinstance(value, list) and value and all(isinstance(item, Mapping) and not _is_intrinsic(item) for item in value):
        for number, item in enumerate(value):
            if "Effect" in item:  # a statement of a policy, whatever stands before it
                yield f"{path} {json.dumps(item, sort_keys=True)}"
            else:
                yield from _flat(f"{path}[{number}]", item)
    else:
        yield f"{path} = {json.dumps(value, sort_keys=True, ensure_ascii=False)}"


def _is_intrinsic(value: Mapping[str, Any]) -> bool:
    return len(value) == 1 and next(iter(value)).startswith(("Ref", "Fn::"))


def text_of(name: str, synthesize: Callable[[str], Any]) -> str:
    """The snapshot of the stack `name`."""
    minimal, found = (lines(stack.template, stack.file.name.partition(".")[0]) for stack in (synthesize("minimal"), synthesize(name)))
    if name == "minimal":
        return "".join(f"{line}\n" for line in sorted(found))
    changes = [*((line, "-") for line in minimal - found), *((line, "+") for line in found - minimal)]
    return "".join(f"{sign} {line}\n" for line, sign in sorted(changes))


def path_of(name: str) -> Path:
    return FOLDER / f"{name.replace(',', '').replace(' ', '-')}.txt"


def main() -> None:
    """Writes every snapshot."""
    from tests.infrastructure.conftest import synthesized  # CDK starts Node, which a reader of snapshots does not need

    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        made = {name: synthesized(name, Path(folder) / str(number)) for number, name in enumerate(NAMES)}
    for name in NAMES:
        path_of(name).write_text(text_of(name, made.__getitem__), encoding="utf-8")
        sys.stdout.write(f"{path_of(name).name}\n")


if __name__ == "__main__":
    main()
