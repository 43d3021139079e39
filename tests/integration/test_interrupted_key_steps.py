"""Whatever step of a key's life is killed, at whatever statement: every value stays readable, and the same input once more ends as if nothing had happened.

A killed process runs no statement any more, so what stands is what its last commit left. A kill comes before and after each statement that writes, and
before and after each commit; and, since nothing changes between two commits, before a seeded sample of the statements that read.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine.default import DefaultDialect

from tests.support import local_run
from tests.support.engine_hooks import Commit, hooked
from tests.support.golden import GoldenDatabase
from tests.support.lifecycle import KMS_A, Entry, Life

SQLITE = pytest.mark.parametrize("golden_database", ["12.4.0-sqlite"], indirect=True)
SERVERS = pytest.mark.parametrize("golden_database", ["12.4.0-mysql", "12.4.0-postgres"], indirect=True)
TABLES = ("data_source", "secrets", "secret_encrypted_value")
OTHERS = ("data_keys", "secret_data_key", "cache_data")
WRITES = ("UPDATE", "INSERT", "DELETE", "COMMIT")
SCHEMA = ("PRAGMA", "SELECT name FROM sqlite_master", "SHOW", "SELECT @@", "SELECT pg_catalog", "SELECT database()")
STEPS = ("choose_data_key", "judge_scan", "rewrap", "remove_data_keys", "work")
READS, SAMPLE = 12, 1


class Killed(BaseException):
    """What a killed process does not live to see."""


@dataclass
class Guillotine:
    """Falls at the point number `at` while it is armed: from then on not one statement comes through. `points` lists what it could have fallen at."""

    at: int | None = None
    armed: bool = False
    fallen: bool = False
    points: list[str] = field(default_factory=list)

    @contextmanager
    def installed(self) -> Iterator[None]:
        with hooked(self._commit, before_cursor_execute=self._before, after_cursor_execute=self._after):
            yield

    def _commit(self, commit: Commit, dialect: DefaultDialect, connection: Any) -> None:
        self._point("before commit")
        commit(dialect, connection)
        self._point("after commit")

    @contextmanager
    def falls(self, at: int | None) -> Iterator[None]:
        """While entered, for one process."""
        self.at, self.armed, self.fallen, self.points = at, True, False, []
        try:
            yield
        finally:
            self.armed = False

    def _before(self, _connection: sa.Connection, _cursor: Any, statement: str, *_rest: Any) -> None:
        if not statement.startswith(SCHEMA):
            self._point(f"before {statement[:60]}")

    def _after(self, _connection: sa.Connection, _cursor: Any, statement: str, *_rest: Any) -> None:
        if statement.startswith(WRITES):
            self._point(f"after {statement[:60]}")

    def _point(self, what: str) -> None:
        if not self.armed:
            return
        self.points.append(what)
        if self.fallen or len(self.points) == self.at:
            self.fallen = True
            raise Killed(what)


@dataclass
class Step:
    """A destructive step: its input, and what makes the database and the configuration ready for it."""

    mode: str
    options: dict[str, Any] = field(default_factory=dict)
    before: Callable[[Life], None] = lambda life: None


def _aged_after_re_encrypt(life: Life) -> None:
    life.provider = KMS_A
    life.do("re-encrypt", providerReady=True)
    life.clock.advance(5 * 86_400)


def _with_a_new_secret_key(life: Life) -> None:
    life.change_secret_key("another-secret-key-0123", "another-manager-key-0123")


STEPS_OF_LIFE = {
    "rotate": Step("rotate"),
    "rewrap": Step("rewrap-data-keys", {"provider": KMS_A, "providerReady": True}),
    "rotate-secret-key": Step("rotate-secret-key", {"settleSeconds": 0}, before=_with_a_new_secret_key),
    "rollback": Step("rollback"),
    "rollback to 8.x": Step("rollback", {"for": "8.x", "settleSeconds": 0}),
    "prune": Step("prune-data-keys", before=_aged_after_re_encrypt),
}
EACH_STEP = pytest.mark.parametrize("step", STEPS_OF_LIFE.values(), ids=STEPS_OF_LIFE.keys())


class Copies:
    """The rows of a small database as they were, to begin anew from."""

    def __init__(self, life: Life) -> None:
        self._life = life
        with life.engine.connect() as connection:
            self._quote = connection.dialect.identifier_preparer.quote
            self._rows = {table: self._read(connection, table) for table in (*TABLES, *OTHERS)}

    def _read(self, connection: sa.Connection, table: str) -> tuple[list[str], list[tuple[Any, ...]]]:
        result = connection.exec_driver_sql(f"SELECT * FROM {table}")
        return list(result.keys()), [tuple(row) for row in result]

    def put_back(self) -> None:
        mark = "?" if self._life.database.url.drivername == "sqlite" else "%s"
        with self._life.engine.begin() as connection:
            for table, (names, rows) in self._rows.items():
                connection.exec_driver_sql(f"DELETE FROM {table}")
                into = f"INSERT INTO {table} ({', '.join(map(self._quote, names))}) VALUES ({', '.join([mark] * len(names))})"
                if rows:
                    connection.exec_driver_sql(into, rows)


def small(database: GoldenDatabase, folder: Path) -> Life:
    """A database with a few rows in a few tables: values under each data key, directly under secret_key, and in the secrets manager."""
    life = Life(database, folder)
    engine = database.engine
    with engine.begin() as connection:
        if engine.dialect.name == "mysql":
            connection.exec_driver_sql("SET FOREIGN_KEY_CHECKS = 0")
        for table in set(sa.inspect(connection).get_table_names()) - {*TABLES, *OTHERS}:
            quoted = engine.dialect.identifier_preparer.quote(table)
            connection.exec_driver_sql(f"DROP TABLE {quoted}{' CASCADE' if engine.dialect.name == 'postgresql' else ''}")
    values: list[Entry] = []
    for table in TABLES:
        rows: dict[tuple[str, str | None], list[Any]] = {}
        for entry in (entry for entry in life.values if entry["table"] == table):
            held = rows.setdefault((entry["form"], entry["key_id"]), [])
            if not held:
                held.append(entry["pk"])
        chosen = [key for keys in rows.values() for key in keys]
        kept = [entry for entry in life.values if entry["table"] == table and entry["pk"] in chosen]
        values += kept
        names = list(kept[0]["pk"])
        conditions = {tuple(entry["pk"].values()) for entry in kept}
        for row in life.rows(f"SELECT {', '.join(names)} FROM {table}"):
            if tuple(row) not in conditions:
                life.execute(f"DELETE FROM {table} WHERE {' AND '.join(f'{name} = :{name}' for name in names)}", **dict(zip(names, row, strict=True)))
    life.values = values
    assert {entry["form"] for entry in values} == {"envelope-cfb-prefixed", "legacy-cfb-prefixed", "legacy-cfb-unprefixed", "split-gcm"}
    return life


def state(life: Life) -> list[Any]:
    """Where every value stands, and which keys there are. A dead attempt at a rotation leaves a key that is not used: those are not counted."""
    found = life.found()
    places = [(entry["table"], str(entry["pk"]), str(entry["path"]), row and (row[0], row[2])) for entry, _, row in found]
    ours = "reencrypt"
    keys = sorted((name, *key) for name, key in life.keys().items() if not name.startswith(ours))
    used = sorted({(row[0], row[2]) for _, value, row in found if row and value.key_id and value.key_id.startswith(ours)})
    cached = life.rows("SELECT COUNT(*) FROM cache_data")[0][0]
    return [places, keys, used, cached]


@pytest.fixture
def guillotine() -> Iterator[Guillotine]:
    guillotine = Guillotine()
    with guillotine.installed():
        yield guillotine


class Trial:
    """One step on one small database, again and again from the same state."""

    def __init__(self, step: Step, life: Life, guillotine: Guillotine) -> None:
        self.step, self.life, self.guillotine = step, life, guillotine
        step.before(life)
        self.begin, self._copies = life.clock.now, Copies(life)
        with guillotine.falls(None):
            assert self._run()["outcome"] == "succeeded"
        self.points, self.wanted = list(guillotine.points), self._ended()

    def writes(self) -> list[int]:
        """The points at which the database changes: around every write and every commit."""
        return [number for number, what in enumerate(self.points, 1) if "SELECT" not in what]

    def commits(self) -> list[int]:
        """The points at which a commit has just been done."""
        return [number for number, what in enumerate(self.points, 1) if what in ("after COMMIT", "after commit")]

    def reads(self) -> list[int]:
        """Every other point."""
        return [number for number, what in enumerate(self.points, 1) if "SELECT" in what]

    def reset(self) -> None:
        self._copies.put_back()
        self.life.clock.now = self.begin

    def killed_at(self, number: int) -> None:
        self.reset()
        with self.guillotine.falls(number), contextlib.suppress(BaseException):  # SQLAlchemy may make something else of it
            self._run()
        assert self.guillotine.fallen
        self.life.found()

    def run_again(self) -> None:
        report = self._run()
        assert (report["outcome"], report["error"], report["unreadable"]) == ("succeeded", None, []), report["headline"]
        assert self._ended() == self.wanted

    def _run(self) -> dict[str, Any]:
        return self.life.run(self.step.mode, **self.step.options)

    def _ended(self) -> list[Any]:
        """The state that Grafana finds which is started now: with the new keys alone."""
        old = self.life.old_secret_key, self.life.old_manager_key
        self.life.forget_old_keys()
        try:
            return state(self.life)
        finally:
            self.life.old_secret_key, self.life.old_manager_key = old


@SQLITE
@EACH_STEP
def test_a_step_that_is_killed_at_any_statement_loses_nothing_and_is_finished_by_the_next_run(
    golden_database: GoldenDatabase, tmp_path: Path, guillotine: Guillotine, step: Step
) -> None:
    trial = Trial(step, small(golden_database, tmp_path), guillotine)
    assert len(trial.commits()) >= 4
    for number in trial.writes():
        trial.killed_at(number)
        if number in trial.commits() or number == trial.writes()[0]:  # other points leave what the commit before them left
            trial.run_again()
    for number in _sample(trial.reads(), step.mode, READS):
        trial.killed_at(number)


@SQLITE
@EACH_STEP
def test_a_function_that_is_killed_is_tried_again_within_its_run(
    golden_database: GoldenDatabase, tmp_path: Path, guillotine: Guillotine, step: Step, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state machine's Retry: the same function with the same event, over the objects that the killed one left."""
    trial = Trial(step, small(golden_database, tmp_path), guillotine)
    for name in STEPS:
        monkeypatch.setattr(local_run, name, _tried_again(getattr(local_run, name), trial))
    for number in trial.commits():
        trial.reset()
        with guillotine.falls(number):
            trial.run_again()
        assert len(guillotine.points) >= number, "it was killed"


def _tried_again(function: Callable[..., Any], trial: Trial) -> Callable[..., Any]:
    def twice(*arguments: Any) -> Any:
        try:
            return function(*arguments)
        except BaseException:  # Killed, or what SQLAlchemy has made of it
            if not trial.guillotine.fallen:
                raise
            trial.guillotine.armed = trial.guillotine.fallen = False
            trial.life.found()
            return function(*arguments)

    return twice


@SERVERS
def test_a_step_that_is_killed_on_a_server_loses_nothing_and_is_finished_by_the_next_run(
    golden_database: GoldenDatabase, tmp_path: Path, guillotine: Guillotine
) -> None:
    life = small(golden_database, tmp_path)
    values, copies = life.values, Copies(life)
    for name, step in STEPS_OF_LIFE.items():
        copies.put_back()
        life = Life(golden_database, tmp_path / name)
        life.values = values
        trial = Trial(step, life, guillotine)
        for number in sorted(_sample(trial.writes(), step.mode, SAMPLE) + _sample(trial.reads(), step.mode, SAMPLE)):
            trial.killed_at(number)
            trial.run_again()


def _sample(numbers: Sequence[int], seed: str, size: int) -> list[int]:
    return random.Random(seed).sample(list(numbers), min(size, len(numbers)))  # noqa: S311 - which statements


def test_the_guillotine_lets_nothing_through_once_it_has_fallen(tmp_path: Path) -> None:
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'some.db'}", poolclass=sa.pool.NullPool)
    guillotine = Guillotine()
    with guillotine.installed(), guillotine.falls(2):
        for number in (1, 2, 3):
            with engine.connect() as connection, pytest.raises(Killed) if number > 1 else contextlib.nullcontext():
                connection.exec_driver_sql(f"SELECT {number}")
    assert guillotine.points == [f"before SELECT {number}" for number in (1, 2, 3)]
