"""One run writes at a time; a dead run blocks the next one no longer than its lease; nobody gives back what another holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from botocore.exceptions import ClientError
from botocore.stub import Stubber

from reencrypt.errors import LeaseHeld
from reencrypt.storage.lease import Lease
from tests.unit.storage.conftest import SESSION

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

OURS = "arn:aws:states:eu-north-1:111122223333:execution:grafana:ours"
THEIRS = "arn:aws:states:eu-north-1:111122223333:execution:grafana:theirs"
NOON = 1_795_608_000  # 2026-11-25 12:00:00 UTC


@dataclass
class Clock:
    now: float = NOON

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def lease(dynamodb: DynamoDBClient, table: str, clock: Clock) -> Lease:
    return Lease(table, dynamodb, clock)


def test_a_free_lease_is_taken_with_its_owner_and_the_second_at_which_the_table_forgets_it(lease: Lease, dynamodb: DynamoDBClient, table: str) -> None:
    lease.acquire(OURS, 600)
    assert dynamodb.scan(TableName=table)["Items"] == [{"pk": {"S": "run"}, "owner": {"S": OURS}, "expires": {"N": str(NOON + 600)}}]


def test_a_second_run_is_refused_with_the_name_of_the_first_its_end_and_what_to_do(lease: Lease) -> None:
    lease.acquire(THEIRS, 600)
    with pytest.raises(LeaseHeld) as refusal:
        lease.acquire(OURS, 600)
    for words in (THEIRS, "2026-11-25 12:10:00 UTC", "stop it"):
        assert words in str(refusal.value)


def test_a_run_that_takes_its_own_lease_again_prolongs_it(lease: Lease, clock: Clock, dynamodb: DynamoDBClient, table: str) -> None:
    lease.acquire(OURS, 600)
    clock.now += 60
    lease.acquire(OURS, 600)
    assert dynamodb.scan(TableName=table)["Items"][0]["expires"] == {"N": str(NOON + 660)}


@pytest.mark.parametrize(("late", "taken"), [(599, False), (600, False), (601, True)])
def test_a_dead_runs_lease_is_free_once_it_has_expired_and_not_a_second_before(lease: Lease, clock: Clock, late: int, taken: bool) -> None:
    lease.acquire(THEIRS, 600)
    clock.now += late
    if taken:
        lease.acquire(OURS, 600)
        with pytest.raises(LeaseHeld, match="ours"):
            lease.acquire(THEIRS, 600)
    else:
        with pytest.raises(LeaseHeld, match="theirs"):
            lease.acquire(OURS, 600)


def test_a_renewed_lease_outlives_its_first_end(lease: Lease, clock: Clock) -> None:
    lease.acquire(OURS, 600)
    clock.now += 500
    lease.renew(OURS, 600)
    clock.now += 500
    with pytest.raises(LeaseHeld, match="ours"):
        lease.acquire(THEIRS, 600)


def test_a_run_that_was_late_but_that_nobody_replaced_goes_on(lease: Lease, clock: Clock) -> None:
    lease.acquire(OURS, 600)
    clock.now += 900
    lease.renew(OURS, 600)
    with pytest.raises(LeaseHeld, match="ours"):
        lease.acquire(THEIRS, 600)


def test_a_run_that_was_taken_for_dead_learns_at_its_next_renewal_who_has_replaced_it(lease: Lease, clock: Clock, dynamodb: DynamoDBClient, table: str) -> None:
    lease.acquire(OURS, 600)
    clock.now += 601
    lease.acquire(THEIRS, 600)
    with pytest.raises(LeaseHeld, match=r"lost its lease, now held by .*theirs"):
        lease.renew(OURS, 600)
    assert dynamodb.scan(TableName=table)["Items"][0]["owner"] == {"S": THEIRS}


def test_a_run_without_a_lease_cannot_renew_one_into_being(lease: Lease, dynamodb: DynamoDBClient, table: str) -> None:
    with pytest.raises(LeaseHeld, match="lost its lease"):
        lease.renew(OURS, 600)
    assert not dynamodb.scan(TableName=table)["Items"]


def test_each_renewal_tells_what_all_workers_have_seen(lease: Lease) -> None:
    lease.acquire(OURS, 600)
    assert lease.renew(OURS, 600) == 0
    assert lease.renew(OURS, 600, "000001-start", 2) == 2
    assert lease.renew(OURS, 600, "000002-start", 3) == 5
    assert lease.renew(OURS, 600, "000001-start", 4) == 7
    assert lease.renew(OURS, 600, "000003-start") == 7
    assert lease.renew(OURS, 600) == 7


def test_a_stretch_that_is_tried_again_is_counted_once(lease: Lease) -> None:
    lease.acquire(OURS, 600)
    for _ in range(3):
        lease.renew(OURS, 600, "000001-start", 1)
        assert lease.renew(OURS, 600, "000001-start", 6) == 6


def test_a_new_run_begins_with_no_counts(lease: Lease, clock: Clock) -> None:
    lease.acquire(THEIRS, 600)
    lease.renew(THEIRS, 600, "000001-start", 9)
    clock.now += 601
    lease.acquire(OURS, 600)
    assert lease.renew(OURS, 600) == 0
    assert lease.renew(OURS, 600, "000001-start", 1) == 1


def test_a_worker_of_a_run_that_was_replaced_adds_nothing_to_the_other_ones_counts(lease: Lease, clock: Clock) -> None:
    lease.acquire(OURS, 600)
    clock.now += 601
    lease.acquire(THEIRS, 600)
    with pytest.raises(LeaseHeld):
        lease.renew(OURS, 600, "000001-start", 50)
    assert lease.renew(THEIRS, 600) == 0


def test_a_released_lease_is_free_and_releasing_it_again_does_nothing(lease: Lease) -> None:
    lease.acquire(OURS, 600)
    lease.release(OURS)
    lease.release(OURS)
    lease.acquire(THEIRS, 600)


def test_a_run_never_releases_the_lease_of_another(lease: Lease) -> None:
    lease.acquire(THEIRS, 600)
    lease.release(OURS)
    with pytest.raises(LeaseHeld, match="theirs"):
        lease.acquire(OURS, 600)


@pytest.mark.parametrize(
    ("operation", "call"),
    [
        ("put_item", lambda lease: lease.acquire(OURS, 600)),
        ("update_item", lambda lease: lease.renew(OURS, 600)),
        ("update_item", lambda lease: lease.renew(OURS, 600, "000001-start", 1)),
        ("delete_item", lambda lease: lease.release(OURS)),
    ],
)
def test_what_is_no_refusal_of_the_condition_is_never_taken_for_one(operation: str, call: Callable[[Lease], None]) -> None:
    client = SESSION.client("dynamodb")
    with Stubber(client) as stub:
        stub.add_client_error(operation, "AccessDeniedException")
        with pytest.raises(ClientError, match="AccessDenied"):
            call(Lease("table", client))
