"""`kill -9` of the deployed stack's Lambda processes, at each step: the run gets over it by itself, or the next start ends in the same state."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from cli.deployment import RunResult
from tests.e2e.conftest import PROVIDER, SECOND_PROVIDER, SECOND_SECTION, Sample
from tests.e2e.test_deployed_stack import READY, assert_readable_under, engine, read_by_the_independent_decryptor
from tests.support.kills import Killer

STEPS = ["preflight", "plan_chunks", "acquire_lease", "choose_data_key", "process_chunk", "judge_pass", "report"]
FOR_GOOD = 4  # more than the one further try that the state machine gives a process that died


def data_keys(sample: Sample, provider: str = PROVIDER) -> int:
    with engine(sample.path).connect() as connection:
        return int(connection.exec_driver_sql("SELECT COUNT(*) FROM data_keys WHERE provider = ?", (provider,)).scalar_one())


def killing(sample: Sample, step: str, times: int, when: Callable[[], bool] = lambda: True, **options: object) -> RunResult:
    """The result of a run whose processes of `step` are killed, `times` times."""
    sample.deployed.cold_start()
    with Killer(sample.deployed.aws.process_id, {step: times}, when=when) as killer:
        result = sample.deployed.run({**READY, **options})
    assert killer.killed[step], f"no process of {step} was killed"
    return result


def let_the_lease_expire(sample: Sample) -> None:
    """As time would: a run that died at the wrong moment leaves its lease behind."""
    table, name = sample.deployed.client("dynamodb"), sample.deployed.outputs["LeaseTableName"]
    for item in table.scan(TableName=name)["Items"]:
        table.put_item(TableName=name, Item={**item, "expires": {"N": str(int(time.time()) - 1)}})


def assert_same_end_state(sample: Sample, report: dict[str, Any]) -> None:
    assert (report["outcome"], report["totals"]["values"]) == ("succeeded", 53)
    assert report["census"]["after"] == {report["data_key"]: len(sample.secrets)}
    assert_readable_under(sample, PROVIDER)
    assert data_keys(sample) == 1, "the data key of the run that died is used again"


def test_a_run_whose_process_is_killed_once_at_every_step_succeeds_by_itself(sample: Sample) -> None:
    sample.deployed.cold_start()
    once = dict.fromkeys((*STEPS, "release_lease"), 1)
    with Killer(sample.deployed.aws.process_id, once) as killer:
        result = sample.deployed.run({**READY, "chunkRows": 4})
    assert killer.killed == once
    assert result.ended_well, result.headline
    assert result.report is not None
    assert_same_end_state(sample, dict(result.report))


def test_a_run_over_data_keys_whose_process_is_killed_once_at_every_step_succeeds_by_itself(sample: Sample) -> None:
    sample.configure(provider=SECOND_PROVIDER, more=SECOND_SECTION)
    for request, steps in (
        ({"mode": "rewrap-data-keys", "providerReady": True}, ("rewrap_data_keys",)),
        ({"mode": "rollback", "settleSeconds": 0}, ("judge_scan", "process_chunk", "remove_data_keys")),
    ):
        sample.deployed.cold_start()
        once = dict.fromkeys(steps, 1)
        with Killer(sample.deployed.aws.process_id, once) as killer:
            result = sample.deployed.run(request)
        assert killer.killed == once
        assert result.ended_well, result.headline
        assert result.report is not None
        assert (result.report["outcome"], result.report["totals"]["values"]) == ("succeeded", 53)
        under = read_by_the_independent_decryptor(sample)
        assert {key for key in under.values() if key[0]} == ({(SECOND_PROVIDER, True), (SECOND_PROVIDER, False)} if request["mode"] != "rollback" else set())
    assert set(under) == {None}
    assert data_keys(sample, SECOND_PROVIDER) == 0


def the_next_start_ends_in_the_same_state(sample: Sample) -> None:
    let_the_lease_expire(sample)
    again = sample.deployed.run(READY)
    assert again.ended_well, again.headline
    assert again.report is not None
    assert_same_end_state(sample, dict(again.report))


@pytest.mark.parametrize("step", [step for step in STEPS if step != "process_chunk"])
def test_after_a_step_that_is_killed_for_good_the_next_start_ends_in_the_same_state(sample: Sample, step: str) -> None:
    result = killing(sample, step, times=FOR_GOOD)
    assert not result.ended_well
    the_next_start_ends_in_the_same_state(sample)


def test_a_worker_that_is_killed_while_it_writes_loses_nothing(sample: Sample) -> None:
    """The first worker dies as soon as the first journal entry is there: before, in or after its first write."""
    bucket = sample.deployed.outputs["JournalBucketName"]
    before = _objects(sample, bucket)
    result = killing(sample, "process_chunk", times=3, when=lambda: _objects(sample, bucket) > before, chunkRows=4)
    assert result.report is not None
    the_next_start_ends_in_the_same_state(sample)


def test_a_chunk_whose_worker_dies_twice_is_narrowed_and_finished(sample: Sample) -> None:
    result = killing(sample, "process_chunk", times=2)
    assert result.ended_well, result.headline
    history = json.dumps(_children(sample, result.run), default=str)
    assert "NarrowChunkFunction" in history
    assert result.report is not None
    assert_same_end_state(sample, dict(result.report))


def test_an_execution_that_is_stopped_leaves_a_lease_that_expires_and_the_next_start_finishes_its_work(sample: Sample) -> None:
    sample.deployed.cold_start()
    execution = sample.deployed.start({**READY, "settleSeconds": 40_000})
    sample.wait_for_state(execution, "Settle")
    sample.deployed.client("stepfunctions").stop_execution(executionArn=execution)
    refused = sample.deployed.run(READY)
    assert execution in refused.headline, "the refusal names the execution that holds the lease"
    the_next_start_ends_in_the_same_state(sample)


def _objects(sample: Sample, bucket: str) -> int:
    return int(sample.deployed.client("s3").list_objects_v2(Bucket=bucket)["KeyCount"])


def _children(sample: Sample, run: str) -> list[Any]:
    """The histories of the child executions of `run`'s maps."""
    sfn = sample.deployed.client("stepfunctions")
    execution = sample.deployed.outputs["StateMachineArn"].replace(":stateMachine:", ":execution:") + f":{run}"
    found = []
    for listed in sfn.list_map_runs(executionArn=execution)["mapRuns"]:
        for child in sfn.list_executions(mapRunArn=listed["mapRunArn"])["executions"]:
            found.append(sfn.get_execution_history(executionArn=child["executionArn"])["events"])
    return found
