"""Under IAM enforcement a state machine acts as its own role, as on AWS.

MiniStack 1.5.33 (AUTH=true) checks requests over HTTP only; a state machine's calls are made inside the emulator and never checked, so a
machine that may not invoke its functions passes. Here the integrations in `_INTEGRATIONS`, the ItemReader and the ResultWriter are checked
against the role in the state machine's `roleArn`.
"""

import contextvars

from ministack import app
from ministack.core import iam_evaluator, lambda_runtime
from ministack.core.responses import get_account_id, get_region
from ministack.services import s3
from ministack.services import stepfunctions as sfn

_role = contextvars.ContextVar("state machine role", default=None)
_INTEGRATIONS = {"sns:publish": ("sns:Publish", "TopicArn"), "states:startExecution": ("states:StartExecution", "StateMachineArn")}


def _check(action, resource, error):
    role = _role.get()
    if not app.AUTH or role is None:
        return
    name = role["stateMachineArn"].rsplit(":", 1)[-1]
    # MiniStack's own session for a function's role; the function named here need not exist.
    session = lambda_runtime.execution_credentials(
        {"Role": role["roleArn"], "FunctionName": name, "FunctionArn": f"arn:aws:lambda:{get_region()}:{get_account_id()}:function:{name}"}
    )
    principal = iam_evaluator.resolve_principal(session["AWS_ACCESS_KEY_ID"], get_account_id())
    context = iam_evaluator.EvalContext(
        principal_arn=principal.arn,
        principal_type=principal.type,
        principal_account=principal.account,
        action=action,
        resource_arn=resource,
        region=get_region(),
        service_context={"aws:tagkeys": None},
        principal_keys=principal.keys,
    )
    if iam_evaluator.evaluate(context, principal.policies, *principal.limits).decision != "Allow":
        raise sfn._ExecutionError(error, f"User: {principal.arn} is not authorized to perform: {action} on resource: {resource}")


def apply():
    task0, call0, resource0 = sfn._execute_task, sfn._call_lambda, sfn._invoke_resource
    map0, text0, put0 = sfn._run_distributed_map, sfn._s3_object_text, s3._put_object

    def as_role(execution):
        arn = execution["stateMachineArn"].split("/")[0]  # a child execution's machine is MACHINE/LABEL
        machine = sfn._state_machines.get(":".join(arn.split(":")[:7]))
        return _role.set(machine)

    def execute_task(state, raw_input, execution, context):
        token = as_role(execution)
        try:
            return task0(state, raw_input, execution, context)
        finally:
            _role.reset(token)

    def call_lambda(reference, event):
        from ministack.services import lambda_svc

        _, config, _ = lambda_svc._get_func_record_for_ref(reference)
        if config:
            _check("lambda:InvokeFunction", config["FunctionArn"], "Lambda.AWSLambdaException")
        return call0(reference, event)

    def invoke_resource(resource, payload):
        for suffix, (action, parameter) in _INTEGRATIONS.items():
            if resource.startswith(f"arn:aws:states:::{suffix}"):
                _check(action, payload.get(parameter, "*"), "SNS.AuthorizationErrorException" if action.startswith("sns") else "States.TaskFailed")
        return resource0(resource, payload)

    def distributed_map(state, raw_input, effective, iterator, execution, context):
        token = as_role(execution)
        try:
            _check("states:StartExecution", execution["stateMachineArn"].split("/")[0], "States.TaskFailed")
            return map0(state, raw_input, effective, iterator, execution, context)
        finally:
            _role.reset(token)

    def object_text(bucket, key):
        _check("s3:GetObject", f"arn:aws:s3:::{bucket}/{key}", "States.ItemReaderFailed")
        return text0(bucket, key)

    def put_object(bucket, key, *args, **kwargs):
        _check("s3:PutObject", f"arn:aws:s3:::{bucket}/{key}", "States.ResultWriterFailed")
        return put0(bucket, key, *args, **kwargs)

    sfn._execute_task, sfn._call_lambda, sfn._invoke_resource = execute_task, call_lambda, invoke_resource
    sfn._run_distributed_map, sfn._s3_object_text, s3._put_object = distributed_map, object_text, put_object
