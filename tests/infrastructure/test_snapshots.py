"""What each named deployment is made of, as it was reviewed last: whatever changes it shows in a diff. Each synthesis goes through cdk-nag too."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.infrastructure import snapshots
from tests.infrastructure.conftest import Synthesized


@pytest.mark.parametrize("name", snapshots.NAMES)
def test_the_template_is_the_one_that_was_reviewed(synthesize: Callable[[str], Synthesized], name: str) -> None:
    """After a change that is meant: `.venv/bin/python -m tests.infrastructure.snapshots`, and read the difference."""
    expected = set(snapshots.path_of(name).read_text(encoding="utf-8").splitlines())
    found = set(snapshots.text_of(name, synthesize).splitlines())
    assert {"come": sorted(found - expected), "gone": sorted(expected - found)} == {"come": [], "gone": []}


def test_a_snapshot_shows_each_property_once_and_a_statement_whole_wherever_it_stands() -> None:
    statement = {"Sid": "ReadRun", "Effect": "Allow", "Action": "s3:GetObject", "Resource": {"Ref": "Bucket"}}
    template = {"Resources": {"Policy": {"Type": "AWS::IAM::Policy", "Properties": {"Statement": [statement], "Name": "grafana-a", "Tags": [{}]}}}}
    assert snapshots.lines(template, "grafana-a") == {
        'Policy/Type = "AWS::IAM::Policy"',
        'Policy/Statement {"Action": "s3:GetObject", "Effect": "Allow", "Resource": {"Ref": "Bucket"}, "Sid": "ReadRun"}',
        'Policy/Name = "grafana-reencrypt"',
        "every function = {}",
        "Outputs = {}",
    }
