"""docs/iam.md is the review of what is granted: generated where it can be, and compared with the templates where it cannot."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

from infra import iam_review
from infra.iam_review import EVERY_FUNCTION, OTHERS, RESOURCES
from infra.permissions import PERMISSIONS, Target
from tests.infrastructure.conftest import Synthesized

_PRINCIPALS = {"states.amazonaws.com": "the state machine", "scheduler.amazonaws.com": "a schedule", "events.amazonaws.com": "the rules"}


def _actions(statement: dict[str, Any]) -> set[str]:
    return {statement["Action"]} if isinstance(statement["Action"], str) else set(statement["Action"])


def test_the_page_is_current() -> None:
    page = iam_review.PAGE.read_text(encoding="utf-8")
    assert "| `process_chunk` |" in page
    assert iam_review.written(page) == page, "run python -m infra.iam_review"


def test_each_permission_has_a_reason_and_each_target_a_name() -> None:
    assert set(RESOURCES) == set(get_args(Target))
    for permissions in PERMISSIONS.values():
        assert all(permission.why and permission.actions for permission in permissions)
    assert all(grant.why for grant in (*EVERY_FUNCTION, *OTHERS))


def test_what_other_principals_may_do_is_exactly_what_the_page_says(synthesize: Callable[[str], Synthesized]) -> None:
    granted: dict[str, set[str]] = {}
    for name in ("two schedules", "vpc, rds password"):
        stack = synthesize(name)
        for role, resource in stack.resources("AWS::IAM::Role").items():
            if role in stack.function_of_role():
                continue
            (trust,) = resource["Properties"]["AssumeRolePolicyDocument"]["Statement"]
            actions = set[str]().union(*map(_actions, stack.statements(role)))
            granted.setdefault(_PRINCIPALS[trust["Principal"]["Service"]], set()).update(actions)
    assert granted == {
        principal: {action for grant in OTHERS if grant.principal == principal for action in grant.actions} for principal in _PRINCIPALS.values()
    }


def test_what_every_function_may_do_besides_is_what_the_page_says(synthesize: Callable[[str], Synthesized]) -> None:
    stack = synthesize("vpc, rds password")
    (role,) = (role for role, function in stack.function_of_role().items() if function == "end_failed")  # which has no permission of its own
    assert set().union(*map(_actions, stack.statements(role))) == {action for grant in EVERY_FUNCTION for action in grant.actions}
