"""Python functions run under awslambdaric, AWS's own runtime client, with nothing importable but the bundle and the runtime's packages.

MiniStack 1.5.33's own Python worker reports every exception as `Runtime.HandlerError`, so Retry and Catch by class never match, and it
shares the emulator's site-packages, so a package missing from the bundle is not noticed. Here python* functions take MiniStack's
`provided.*` path (the real Runtime API over HTTP), whose bootstrap starts `python -S -m awslambdaric` in a clean environment.
LOCAL_LAMBDA_RUNTIME names the folder that holds requirements-runtime.lock's packages.
"""

import os
import sys
from pathlib import Path

from ministack.core import tls
from ministack.services import lambda_svc

_BOOTSTRAP = '#!/bin/sh\nexec "$_LOCAL_PYTHON" -S -m awslambdaric "$_HANDLER"\n'
_HOST_VARIABLES = ("PATH", "LANG", "TZ", "TMPDIR")


def apply():
    code_dir0, env0, warm0 = lambda_svc._provided_runtime_code_dir, lambda_svc._provided_worker_env, lambda_svc._execute_function_warm
    packages = os.environ["LOCAL_LAMBDA_RUNTIME"]

    def code_dir(code_zip):
        folder = code_dir0(code_zip)
        bootstrap = Path(folder, "bootstrap")
        if not bootstrap.exists():
            temporary = bootstrap.with_name(f"bootstrap.{os.getpid()}.{id(folder)}")
            temporary.write_text(_BOOTSTRAP)
            temporary.chmod(0o700)
            temporary.replace(bootstrap)
        return folder

    def worker_env(config, folder, port):
        if "_python" not in config:
            return env0(config, folder, port)
        env = {name: value for name, value in env0(config, folder, port).items() if name in _HOST_VARIABLES or os.environ.get(name) != value}
        scheme = "https" if tls.use_ssl_enabled() else "http"
        env.setdefault("AWS_ENDPOINT_URL", f"{scheme}://127.0.0.1:{os.environ.get('GATEWAY_PORT', '4566')}")
        if tls.use_ssl_enabled():
            tls.trust_gateway_cert(env)
        env.update(
            _LOCAL_PYTHON=sys.executable,
            _HANDLER=config["Handler"],
            LAMBDA_TASK_ROOT=folder,
            PYTHONPATH=f"{folder}:{packages}",
            PYTHONDONTWRITEBYTECODE="1",
            AWS_EXECUTION_ENV=f"AWS_Lambda_{config['_python']}",
        )
        return env

    def warm(function, event, request_id):
        config = function.get("config") or function
        runtime = config.get("Runtime", "")
        if not runtime.startswith("python"):
            return warm0(function, event, request_id)
        here = f"python{sys.version_info.major}.{sys.version_info.minor}"
        if runtime != here:
            message = f"{config['FunctionName']} wants {runtime}; the emulator runs {here} (deployment setting lambda_python = {here[6:]})"
            return {"body": {"errorType": "Runtime.InvalidRuntime", "errorMessage": message}, "error": True}
        changed = {**config, "Runtime": "provided.al2023", "_python": runtime}
        return lambda_svc._execute_function_provided_warm({**function, "config": changed}, event, request_id)

    lambda_svc._provided_runtime_code_dir, lambda_svc._provided_worker_env, lambda_svc._execute_function_warm = code_dir, worker_env, warm
