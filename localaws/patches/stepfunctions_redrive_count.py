"""`$$.Execution.RedriveCount` is 0: MiniStack 1.5.33 has neither the field nor RedriveExecution, and an unknown path fails the state."""

from ministack.services import stepfunctions as sfn


def apply():
    resolve0 = sfn._resolve_ctx_path

    def resolve(path, context):
        if path == "$$.Execution.RedriveCount":
            return 0
        return resolve0(path, context)

    sfn._resolve_ctx_path = resolve
