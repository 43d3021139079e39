"""One deployment of the real stack on a local AWS, with IAM enforced, shared by every test of this folder that wants it."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cli.deployment import Rehearsal
from cli.sample import DEFAULT_SECRET_KEY, ExpectedValue, make_sample
from tests.support import decryptor, golden

PROVIDER = "awskms.example-encryption-key"
INI = """\
[security]
secret_key = {secret_key}
encryption_provider = {provider}
[security.encryption.awskms.example-encryption-key]
key_id = alias/ExampleAlias
region = eu-north-1
[database]
type = sqlite3
path = {path}
"""
# A second KMS key, which the roles of the deployment may use too.
SECOND_PROVIDER = "awskms.second-key"
SECOND_SECTION = """\
[security.encryption.awskms.second-key]
key_id = alias/SecondAlias
region = eu-north-1
"""
# A schedule that is not due, until a test says that it is; watched, so that the watch's function is deployed as well.
SCHEDULE = {"name": "nightly-plan", "expression": "at(2099-01-01T03:00:00)", "input": {"mode": "plan"}, "enabled": True, "alarm_after_days": 30}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that share the deployment run on one worker."""
    for item in items:
        if "deployed" in getattr(item, "fixturenames", ()) or "sample" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group("deployed"))


@pytest.fixture(scope="session")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rehearsal]:
    """The stack, configured with a database that no test uses."""
    folder = tmp_path_factory.mktemp("aws")
    ini = INI.format(secret_key=DEFAULT_SECRET_KEY, provider=PROVIDER, path=folder / "none.db") + SECOND_SECTION
    with Rehearsal(ini, folder / "local", settings={"schedule": [SCHEDULE]}, wait_scale=0.002) as rehearsal:
        yield rehearsal


def assert_golden_under(database: golden.GoldenDatabase, unwrap: Callable[[bytes], bytes]) -> None:
    """Every value that the real Grafana wrote, read by the independent decryptor, under an active data key of PROVIDER, which `unwrap` opens.

    Without those of the secrets manager, which has providers of its own; alert notifications stay directly under secret_key.
    """
    reader = decryptor.Reader(database.engine, database.expected["secret_key"], {PROVIDER: unwrap})
    for entry in database.expected["values"]:
        if entry["form"] == "split-gcm":
            continue
        found = reader.read(entry)
        assert decryptor.matches(entry, found.plaintext), (entry["table"], entry["pk"], entry["path"])
        if entry["table"] != "alert_notification":
            assert found.key_id is not None
            assert reader.rows[found.key_id][::2] == (PROVIDER, True)


class Sample:
    """A fresh sample database of our own making, and the deployment configured for it."""

    def __init__(self, deployed: Rehearsal, path: Path, secrets: list[ExpectedValue]) -> None:
        self.deployed, self.path, self.secrets = deployed, path, secrets

    def configure(self, secret_key: str = DEFAULT_SECRET_KEY, provider: str = PROVIDER, path: Path | None = None, more: str = "") -> None:
        """Puts another grafana.ini in place; `more` are further lines of it."""
        self.deployed.set_grafana_ini(INI.format(secret_key=secret_key, provider=provider, path=path or self.path) + more)

    def damage_one_value(self) -> None:
        """Cuts one value off, so that nothing can read it."""
        with contextlib.closing(sqlite3.connect(self.path)) as database, database:
            database.execute("UPDATE secrets SET value = substr(value, 1, 40) WHERE id = 1")

    def wait_for_state(self, execution: str, state: str) -> None:
        """Returns when the execution has entered `state`."""
        sfn, pause = self.deployed.client("stepfunctions"), threading.Event()
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            events = sfn.get_execution_history(executionArn=execution, reverseOrder=True)["events"]
            if any(event.get("stateEnteredEventDetails", {}).get("name") == state for event in events):
                return
            assert sfn.describe_execution(executionArn=execution)["status"] == "RUNNING", f"the run ended before it came to {state}"
            pause.wait(0.1)
        raise AssertionError(f"the run did not come to {state}")


@pytest.fixture(scope="session")
def sample_file(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[ExpectedValue]]:
    """The sample as it is made, to be copied."""
    path = tmp_path_factory.mktemp("sample") / "grafana.db"
    return path, make_sample(path, rows=6)


@pytest.fixture
def sample(deployed: Rehearsal, sample_file: tuple[Path, list[ExpectedValue]], tmp_path: Path) -> Sample:
    """A fresh copy of the sample database, and the deployment configured for it."""
    path = tmp_path / "grafana.db"
    shutil.copy(sample_file[0], path)
    made = Sample(deployed, path, sample_file[1])
    made.configure()
    return made
