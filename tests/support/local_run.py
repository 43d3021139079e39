"""A whole run in this process: the steps of the state machine in their order, over a real database, without AWS.

The state machine itself is tested on the local AWS (tests/e2e); here every engine and every kind of damage gets its turn in milliseconds.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from reencrypt.database.database import Database
from reencrypt.errors import DataKeyUnwrapFailed, ReencryptError, TooManyUnreadable
from reencrypt.grafana import cipher
from reencrypt.grafana.settings import GrafanaSettings, SecretKeyCandidate
from reencrypt.operations import report, run_input
from reencrypt.operations.choose_data_key import choose_data_key
from reencrypt.operations.judge_pass import Next, judge_pass
from reencrypt.operations.judge_scan import After, judge_scan
from reencrypt.operations.plan_chunks import EVERYTHING_MANIFEST, MANIFEST, plan_chunks
from reencrypt.operations.preflight import preflight
from reencrypt.operations.remove_data_keys import remove_data_keys
from reencrypt.operations.report import Times
from reencrypt.operations.rewrap import rewrap
from reencrypt.operations.run_input import RunInput
from reencrypt.operations.safeguards import CountingPulse
from reencrypt.operations.work import Delivery, Phase, work
from reencrypt.operations.workspace import Workspace
from reencrypt.providers import Provider
from reencrypt.providers.awskms import KmsOptions
from reencrypt.providers.registry import manager_providers_for, old_manager_providers_for
from reencrypt.providers.secret_key import SecretKeyProvider
from reencrypt.storage.bucket import FolderBucket
from reencrypt.storage.journal import Journal
from reencrypt.storage.objects import RunStore

KMS = "awskms.example-encryption-key"


@dataclass
class FakeKms:
    """A KMS key in memory: authenticated, and with AWS's 184-odd bytes of overhead. `fails` is raised by either call."""

    name: str = KMS
    key: bytes = field(default_factory=lambda: os.urandom(32), repr=False)
    fails: ReencryptError | None = None
    calls: int = 0

    def wrap(self, data_key: bytes) -> bytes:
        self._check()
        nonce = os.urandom(12)
        return b"\x01\x02\x02\x00" + bytes(100) + nonce + AESGCM(self.key).encrypt(nonce, data_key, None)

    def unwrap(self, wrapped: bytes) -> bytes:
        self._check()
        try:
            return AESGCM(self.key).decrypt(wrapped[104:116], wrapped[116:], None)
        except InvalidTag:
            raise DataKeyUnwrapFailed(f"{self.name} refuses the ciphertext") from None

    def _check(self) -> None:
        self.calls += 1
        if self.fails is not None:
            raise self.fails


def manifest_of(phase: Phase) -> str:
    """The manifest that a pass goes over."""
    return EVERYTHING_MANIFEST if phase in (Phase.SURVEY, Phase.SCAN) else MANIFEST


@dataclass
class LocalRun:
    """Runs over one database; each call of `run` is an execution of its own. `wrap_database` may put a meddler between."""

    settings: GrafanaSettings
    folder: Path
    kms: FakeKms = field(default_factory=FakeKms)
    wrap_database: Callable[[Database], Database] = lambda database: database
    out_of_time: Callable[[], bool] = lambda: False
    settle: Callable[[int], None] = lambda seconds: None
    journals: bool = True
    number: int = 0
    more_kms: Sequence[FakeKms] = ()
    store: RunStore = field(init=False)

    def providers(self, candidate: SecretKeyCandidate) -> Mapping[str, Provider]:
        return {"secretKey.v1": SecretKeyProvider(candidate.value), **{kms.name: kms for kms in (self.kms, *self.more_kms)}}

    def workspace(self) -> Workspace:
        self.number += 1
        run = f"run-{self.number}"
        self.store = RunStore(FolderBucket(self.folder / "bucket"), run)
        pulse = CountingPulse()
        return Workspace(
            settings=self.settings,
            providers=self.providers,
            open_database=lambda read_only: self.wrap_database(Database(self.settings.database, read_only=read_only)),
            store=self.store,
            now=lambda: datetime.now(UTC),
            journal=Journal(FolderBucket(self.folder / "journal-bucket"), run) if self.journals else None,
            pulse=lambda: pulse,
            manager_providers=lambda: manager_providers_for(self.settings, KmsOptions()),
            old_manager_providers=lambda: old_manager_providers_for(self.settings),
        )

    def run(self, mode: str = "plan", **options: Any) -> dict[str, Any]:
        """The report of an execution with this input; as the state machine does, a step's error becomes a failure report."""
        started = datetime.now(UTC)
        workspace = self.workspace()
        run = f"run-{self.number}"
        try:
            request = run_input.parse({"mode": mode, **options})
            self._steps(request, workspace)
            facts = report.build(run, request, workspace.store, Times(started, datetime.now(UTC), 1024))
        except ReencryptError as error:
            times = Times(started, datetime.now(UTC), 1024)
            facts = report.build_failure(run, mode, workspace.store, times, {"name": type(error).__name__, "message": str(error)})
        loaded: dict[str, Any] = json.loads(json.dumps(facts))
        return loaded

    def _steps(self, request: RunInput, workspace: Workspace) -> None:
        summary = preflight(request, workspace)
        if plan_chunks(request, workspace, 4)["chunks"] == 0:
            return
        if summary["encrypts"]:
            choose_data_key(request, workspace)
        if summary["surveys"] and not self._looks_everywhere(request, workspace, Phase.SURVEY):
            return
        self.over_all_chunks(request, workspace, Phase.PROCESS)
        if not summary["writes"]:
            return
        judged = judge_pass(request, workspace.store, 0)
        while judged["next"] != Next.VERIFY:
            if judged["next"] == Next.REWRAP:
                while not rewrap(request, workspace, self.out_of_time, cipher.caching_derivation())["done"]:
                    pass
                break
            if judged["next"] == Next.SETTLE:
                self.settle(judged["seconds"])
            self.over_all_chunks(request, workspace, Phase(judged["phase"]))
            judged = judge_pass(request, workspace.store, judged["number"])
        self.over_all_chunks(request, workspace, Phase.VERIFY)
        if summary["removes"]:
            self._looks_everywhere(request, workspace, Phase.SCAN)

    def _looks_everywhere(self, request: RunInput, workspace: Workspace, phase: Phase) -> bool:
        """Looks through every column until the state machine would go on elsewhere; True where that is to the values."""
        while True:
            self.over_all_chunks(request, workspace, phase)
            judged = judge_scan(request, workspace, phase.value)
            if judged["next"] == After.PROCESS:
                return True
            if judged["next"] == After.REMOVE:
                remove_data_keys(request, workspace)
                return False
            if judged["next"] == After.SETTLE:
                self.settle(judged["seconds"])
            phase = Phase(judged["phase"])

    def over_all_chunks(self, request: RunInput, workspace: Workspace, phase: Phase) -> None:
        """One pass. As in the map of the state machine, a chunk that fails leaves the others to go on."""
        derive = cipher.caching_derivation()
        for chunk in workspace.store.iter_lines(manifest_of(phase)):
            position, limit, done = None, None, False
            while not done:
                delivery = Delivery(phase, chunk, None if position is None else tuple(position), limit)
                try:
                    answer = work(request, delivery, workspace, self.out_of_time, derive)
                except TooManyUnreadable:
                    break
                position, limit, done = answer["position"], answer["limit"], answer["done"]
