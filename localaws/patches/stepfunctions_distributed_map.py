"""Distributed Map: MaxConcurrencyPath, Tolerated...Path and ResultWriter; ItemBatcher and anything else unknown is refused.

MiniStack 1.5.33 reads none of these fields: it silently runs up to 64 children at once, tolerates no failure and returns the results inline
instead of writing them to S3. Here the paths are resolved against the state's input, and the result files and manifest.json have AWS's
shape; they are written when the Map Run fails too.
"""

import json

from ministack.services import s3
from ministack.services import stepfunctions as sfn

_PATHS = ("MaxConcurrency", "ToleratedFailureCount", "ToleratedFailurePercentage")


def _write_results(writer, run_arn, effective, context):
    params = sfn._resolve_params_obj(writer.get("Parameters") or writer.get("Arguments") or {}, effective, context)
    bucket, prefix = params["Bucket"], f"{params.get('Prefix', '').rstrip('/')}/{run_arn.rsplit(':', 1)[-1]}".lstrip("/")
    files = {"FAILED": [], "PENDING": [], "SUCCEEDED": []}

    def put(key, value):
        body = json.dumps(value).encode()
        status, _, answer = s3._put_object(bucket, key, body, {"content-type": "application/json"})[:3]
        if status != 200:
            raise sfn._ExecutionError("States.ResultWriterFailed", str(answer))
        return {"Key": key, "Size": len(body)}

    for status in ("SUCCEEDED", "FAILED"):
        children = [
            {
                "ExecutionArn": c["executionArn"],
                "Name": c["name"],
                "StateMachineArn": c["stateMachineArn"],
                "Status": status,
                "StartDate": c["startDate"],
                "StopDate": c["stopDate"],
                "Input": c["input"],
                "InputDetails": {"Included": True},
                "RedriveCount": 0,
                **({"Output": c["output"], "OutputDetails": {"Included": True}} if status == "SUCCEEDED" else {"Error": c["error"], "Cause": c["cause"]}),
            }
            for c in list(sfn._executions.values())
            if c.get("mapRunArn") == run_arn and c["status"] == status
        ]
        if children:
            files[status].append(put(f"{prefix}/{status}_0.json", children))
    put(f"{prefix}/manifest.json", {"DestinationBucket": bucket, "MapRunArn": run_arn, "ResultFiles": files})
    return {"MapRunArn": run_arn, "ResultWriterDetails": {"Bucket": bucket, "Key": f"{prefix}/manifest.json"}}


def apply():
    run0 = sfn._run_distributed_map

    def run(state, raw_input, effective, iterator, execution, context):
        if "ItemBatcher" in state:
            raise sfn._ExecutionError("States.Runtime", "ItemBatcher is not emulated: let the planner write ready-made chunks")
        state = dict(state)
        for name in _PATHS:
            if path := state.pop(f"{name}Path", None):
                state[name] = sfn._resolve_path_or_ctx(path, effective, context)
        writer = state.pop("ResultWriter", None)
        if writer is None:
            return run0(state, raw_input, effective, iterator, execution, context)
        shape = {key: state.pop(key) for key in ("ResultSelector", "ResultPath", "OutputPath") if key in state}
        before, error = set(sfn._map_runs.keys()), None
        try:
            run0(state, raw_input, effective, iterator, execution, context)
        except sfn._ExecutionError as failure:
            error = failure
        run_arn = next((arn for arn, r in sfn._map_runs.items() if arn not in before and r["executionArn"] == execution["executionArn"]), None)
        details = _write_results(writer, run_arn, effective, context) if run_arn else None
        if error:
            raise error
        output = sfn._apply_result_path(shape, raw_input, sfn._apply_result_selector(shape, details))
        return sfn._apply_output_path(shape, output, context), sfn._next_or_end(state)

    sfn._run_distributed_map = run
