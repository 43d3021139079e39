"""`with LocalAws(folder) as aws:` is an empty AWS account on this machine, to deploy to with the real CDK CLI.

Everything it writes is under `folder` (log, certificate, function code, cdk.out), except what later starts reuse: the runtime's packages and
the function bundles, beside `folder`. State is in memory only. It speaks HTTPS and enforces IAM, so that a policy that demands TLS, or a
missing grant, behaves as on AWS. Host settings that would leak into it (CA bundles, profiles, endpoints, PYTHONPATH) are dropped.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import botocore.session
from boto3 import Session
from botocore.config import Config

if TYPE_CHECKING:
    from collections.abc import Sequence

REPOSITORY = Path(__file__).resolve().parent.parent
ACCOUNT, REGION = "000000000000", "us-east-1"
_START_SECONDS = 60
_AWS_SETTINGS = ("AWS_", "BOTO", "CDK_", "PYTHONPATH", "NODE_OPTIONS")
_NETWORK_SETTINGS = (
    "REQUESTS_CA_BUNDLE",
    "SSL_CERT_",
    "CURL_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
)


class LocalAwsError(Exception):
    """The emulator or the CDK CLI failed; the message ends with what it said, or names its log."""


class LocalAws:
    """A local AWS in `folder`; one per folder.

    `iam` enforces IAM policies. `wait_scale` shortens Wait states and retry intervals of state machines (0.01: a hundredth).
    """

    def __init__(self, folder: Path, *, iam: bool = True, wait_scale: float = 1.0) -> None:
        self.folder, self.iam, self.wait_scale = folder.resolve(), iam, wait_scale
        self.folder.mkdir(parents=True, exist_ok=True)
        self.log, self.certificate = self.folder / "emulator.log", self.folder / "ministack-tls" / "server.crt"
        self.port = _free_port()
        self.url = f"https://127.0.0.1:{self.port}"
        self._emulator: subprocess.Popen[bytes] | None = None
        self._commands: set[subprocess.Popen[str]] = set()
        self._stopped = False

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    @property
    def process_id(self) -> int:
        """The emulator's process, whose children the functions are."""
        if self._emulator is None:
            raise LocalAwsError("the local AWS is not running")
        return self._emulator.pid

    def start(self) -> None:
        """Returns when it answers. Raises LocalAwsError when it does not within a minute."""
        self._stopped = False
        runtime = install_runtime(self.folder.parent / "lambda-runtime")
        environment = _environment_without(_AWS_SETTINGS + _NETWORK_SETTINGS) | {
            "BIND_HOST": "127.0.0.1",
            "GATEWAY_PORT": str(self.port),
            "USE_SSL": "1",
            "AUTH": str(self.iam).lower(),
            "TMPDIR": str(self.folder),
            "MINISTACK_AUTOCREATE_AWS_MANAGED": "1",
            "LOCAL_LAMBDA_RUNTIME": str(runtime),
            "SFN_WAIT_SCALE": str(self.wait_scale),
            "LOCALAWS_ENDS_WITH_STDIN": "1",
        }
        with self.log.open("wb") as log:
            # Its own process group, so that one signal ends the functions' processes too. The open pipe ends it when this process dies.
            self._emulator = subprocess.Popen(
                [sys.executable, "-m", "localaws"], cwd=REPOSITORY, env=environment, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True
            )
        try:
            self._wait_until_it_answers(self._emulator)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Ends the emulator, the functions and a running CDK CLI at once (there is no state to save). Safe to call again."""
        self._stopped = True
        for command in tuple(self._commands):
            _kill(command)
        if self._emulator is not None:
            _kill(self._emulator)
            self._emulator.wait()
            if self._emulator.stdin:
                self._emulator.stdin.close()
            self._emulator = None

    @property
    def environment(self) -> dict[str, str]:
        """The variables with which the CDK CLI, the AWS CLI or boto3 speak to this AWS as its root user."""
        certificate = str(self.certificate)
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ENDPOINT_URL_S3": self.url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CA_BUNDLE": certificate,
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "NODE_EXTRA_CA_CERTS": certificate,
            "CDK_DISABLE_CLI_TELEMETRY": "true",
            "JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION": "20",
        }

    def client(self, service: str, *, region: str = REGION, account: str = ACCOUNT) -> Any:
        """A boto3 client of this AWS as the root user of `account`; the process's own AWS settings play no part."""
        core = botocore.session.Session(
            session_vars={
                "profile": (None, None, None, None),
                "config_file": (None, None, os.devnull, None),
                "credentials_file": (None, None, os.devnull, None),
                "ca_bundle": (None, None, None, None),
            }
        )
        session: Any = Session(botocore_session=core)
        return session.client(
            service,
            region_name=region,
            endpoint_url=self.url,
            verify=str(self.certificate),
            aws_access_key_id=account if account != ACCOUNT else "test",
            aws_secret_access_key="test",  # noqa: S106 - the emulator's own, the same in every copy of it
            config=Config(proxies={}, retries={"mode": "standard"}),
        )

    def synth(self, context: Mapping[str, str]) -> None:
        """Synthesizes the CDK app once, functions bundled; `cdk()` then works on the result. Needs no running emulator."""
        output, bundles = self.folder / "cdk.out", self.folder.parent / "bundles"
        with _locked(bundles):
            for bundle in bundles.glob("asset.*"):  # the CDK takes an asset that is there already, by its hash
                _link_tree(bundle, output / bundle.name)
        arguments = [text for key, value in context.items() for text in ("--context", f"{key}={value}")]
        # Bundling runs pip, which may need this machine's proxy and certificates; nothing here speaks to the emulator.
        self._cli(
            ["synth", "--quiet", "--app", f"{sys.executable} app.py", "--output", str(output), *arguments],
            _environment_without(_AWS_SETTINGS) | {k: v for k, v in self.environment.items() if not k.endswith(("CA_BUNDLE", "CA_CERTS"))},
        )
        used = [asset for asset in output.glob("asset.*") if asset.is_dir() and (asset / "reencrypt").is_dir() and _is_used(asset, output)]
        with _locked(bundles):
            for bundle in bundles.glob("asset.*"):
                if bundle.name not in {asset.name for asset in used}:
                    shutil.rmtree(bundle)
            for asset in used:
                _link_tree(asset, bundles / asset.name)

    def bootstrap(self) -> None:
        """`cdk bootstrap`; needs no synthesized app."""
        self._cli(["bootstrap", f"aws://{ACCOUNT}/{REGION}"], self._cli_environment, cwd=self.folder)

    def cdk(self, *arguments: str) -> str:
        """Runs a CDK CLI command on the synthesized app; returns its output. Raises LocalAwsError with the output when it fails."""
        return self._cli([*arguments, "--app", str(self.folder / "cdk.out")], self._cli_environment)

    @property
    def _cli_environment(self) -> dict[str, str]:
        return _environment_without(_AWS_SETTINGS + _NETWORK_SETTINGS) | self.environment

    def _cli(self, arguments: Sequence[str], environment: Mapping[str, str], cwd: Path = REPOSITORY) -> str:
        command = subprocess.Popen(  # noqa: S603 - argument list, no shell
            [str(REPOSITORY / "node_modules/.bin/cdk"), *arguments, "--no-notices", "--no-version-reporting", "--ci"],
            cwd=cwd,
            env=dict(environment),
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._commands.add(command)
        if self._stopped:  # meanwhile, by another thread
            _kill(command)
        try:
            output, _ = command.communicate()
        except BaseException:
            _kill(command)
            raise
        finally:
            self._commands.discard(command)
        with (self.folder / "cdk.log").open("a", encoding="utf-8") as log:
            log.write(f"$ cdk {' '.join(arguments)}\n{output}\n")
        if command.returncode:
            raise LocalAwsError(f"cdk {arguments[0]} failed:\n{output[-6000:]}")
        return output

    def _wait_until_it_answers(self, emulator: subprocess.Popen[bytes]) -> None:
        opener_handlers = urllib.request.ProxyHandler({})
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            if emulator.poll() is not None:
                raise LocalAwsError(f"the local AWS did not start; the end of {self.log}:\n{self.log.read_text(errors='replace')[-2000:]}")
            with contextlib.suppress(OSError):  # no certificate yet, or nobody listens yet
                context = ssl.create_default_context(cafile=str(self.certificate))
                opener = urllib.request.build_opener(opener_handlers, urllib.request.HTTPSHandler(context=context))
                opener.open(f"{self.url}/_ministack/health", timeout=2).close()
                return
            _pause(0.05)
        raise LocalAwsError(f"the local AWS did not answer within {_START_SECONDS} s; see {self.log}")


def install_runtime(folder: Path) -> Path:
    """Installs what AWS's managed Python runtime brings (requirements-runtime.lock) into a folder of its own, once; returns that folder."""
    requirements = Path(__file__).with_name("requirements-runtime.lock")
    wanted, stamp = f"{sys.version_info.major}.{sys.version_info.minor}\n{requirements.read_text()}", folder / ".installed"
    with _locked(folder):
        if not stamp.exists() or stamp.read_text() != wanted:
            subprocess.run(  # noqa: S603 - fixed arguments, no shell
                [
                    sys.executable,
                    "-m",
                    "pip",
                    "install",
                    "--quiet",
                    "--disable-pip-version-check",
                    "--upgrade",
                    "--no-deps",
                    "--require-hashes",
                    "--target",
                    str(folder),
                    "-r",
                    str(requirements),
                ],
                check=True,
            )
            stamp.write_text(wanted)
    return folder


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One process at a time in `folder`, which is made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f".{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _kill(process: subprocess.Popen[Any]) -> None:
    """Ends a process that leads its own group, and all that it started. Nothing if it has ended and was waited for."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _link_tree(source: Path, target: Path) -> None:
    """The folder `source` at `target` too, its files shared, whole or not at all; nothing if it is there already."""
    if not target.exists():
        unfinished = target.with_name(f"unfinished-{target.name}")
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.copytree(source, unfinished, copy_function=os.link)
        unfinished.rename(target)


def _is_used(asset: Path, output: Path) -> bool:
    """Whether a synthesized stack names the asset (one that an earlier state of the sources left behind is named by none)."""
    return any(asset.name in manifest.read_text(encoding="utf-8") for manifest in output.glob("*.assets.json"))


def _environment_without(prefixes: tuple[str, ...]) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(prefixes)}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _pause(seconds: float) -> None:
    """Between two looks at something that cannot announce itself."""
    threading.Event().wait(seconds)
