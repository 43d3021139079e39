"""Faults made for real: sessions that are killed, a wire that loses commits and replies, files that cannot be written or grow.

Nothing here touches what tests share; for what would, see private_server.py.
"""

from __future__ import annotations

import ctypes
import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

import sqlalchemy as sa

from reencrypt.database.database import Database, Swap, Swapped
from reencrypt.grafana.secret_columns import ColumnGroup

_PATIENCE_SECONDS = 30
_SESSIONS = "SELECT pid, wait_event_type = 'Lock' AS waits FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
_WAITING = "SELECT trx_mysql_thread_id FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'"
_LOOK_SECONDS = 0.11  # InnoDB shows its transactions of before to whoever asks again within 0.1 s


def sessions(connection: sa.Connection, *, waiting: bool = False) -> list[int]:
    """The other sessions in the connection's database, or only those of them that wait for a row."""
    if connection.dialect.name == "mysql":  # SHOW needs no temporary table, which a query of the process list does
        mine, name = connection.exec_driver_sql("SELECT CONNECTION_ID(), DATABASE()").one()
        found = [row.Id for row in connection.exec_driver_sql("SHOW PROCESSLIST") if row.db == name and row.Id != mine]
        if waiting:
            found = [session for session in connection.exec_driver_sql(_WAITING).scalars() if session in found]
    else:
        found = [row.pid for row in connection.exec_driver_sql(_SESSIONS) if row.waits or not waiting]
    connection.rollback()  # PostgreSQL shows the same sessions for a whole transaction
    return found


def kill(connection: sa.Connection, session: int) -> None:
    """Cuts a session off, whatever it is doing."""
    connection.exec_driver_sql(f"KILL CONNECTION {session}" if connection.dialect.name == "mysql" else f"SELECT pg_terminate_backend({session})")
    connection.rollback()


def eventually(found: Callable[[], Sequence[int]], what: str) -> Sequence[int]:
    """The first answer of `found` that is not empty. Raises AssertionError where `what` does not happen."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not (answer := found()):
        if time.monotonic() > deadline:
            raise AssertionError(f"in vain: {what}")
        time.sleep(_LOOK_SECONDS)  # between two looks at a server; there is nothing to wait on
    return answer


def answers(database: Database) -> list[object]:
    """Lists, from now on, the code of each error that the server answers `database`."""
    codes: list[object] = []

    def note(context: sa.ExceptionContext) -> None:
        error = context.original_exception
        number = error.args[0] if error.args and isinstance(error.args[0], int) else None  # PyMySQL's
        codes.append(number or getattr(error, "sqlite_errorname", None) or getattr(error, "sqlstate", None))

    sa.event.listen(database._engine, "handle_error", note)
    return codes


def in_each_session(database: Database, *statements: str) -> Database:
    """Has `statements` run at the beginning of each session that `database` opens from now on, after its own."""

    def prepare(connection: sa.engine.interfaces.DBAPIConnection, _record: object) -> None:
        cursor = connection.cursor()
        for statement in statements:
            cursor.execute(statement)
        cursor.close()
        connection.commit()

    sa.event.listen(database._engine, "connect", prepare)
    database.close()
    return database


def before_each_write(action: Callable[[str], None]) -> Callable[[Database], Database]:
    """For LocalRun.wrap_database: calls `action` with the table's name between our read of a page and our write."""

    def wrap(ours: Database) -> Database:
        swap = ours.compare_and_swap

        def compare_and_swap(group: ColumnGroup, swaps: Sequence[Swap]) -> list[Swapped]:
            action(group.table)
            return swap(group, swaps)

        ours.compare_and_swap = compare_and_swap  # type: ignore[method-assign]  # the seam between read and write
        return ours

    return wrap


class Loss(Enum):
    """What a wire loses of a transaction's end: the COMMIT itself, or the server's answer to it."""

    COMMIT = "the server never hears COMMIT"
    REPLY = "the client never hears that it was done"


@dataclass
class Wire:
    """A TCP proxy to a database. While `loses` is set, it is cut at the next COMMIT of a transaction that wrote, once; `cuts` counts."""

    target: int
    loses: Loss | None = None
    cuts: int = 0
    _listener: socket.socket = field(default_factory=socket.socket)

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def serve(self) -> None:
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self.target))
            deaf = threading.Event()
            threading.Thread(target=self._requests, args=(client, server, deaf), daemon=True).start()
            threading.Thread(target=self._replies, args=(client, server, deaf), daemon=True).start()

    def _requests(self, client: socket.socket, server: socket.socket, deaf: threading.Event) -> None:
        wrote = False
        with client, server:
            while data := _received(client):
                wrote = wrote or b"UPDATE" in data
                if wrote and b"COMMIT" in data:
                    wrote, loses = False, self.loses
                    if loses:
                        self.loses, self.cuts = None, self.cuts + 1
                        deaf.set()
                    if loses is Loss.COMMIT:
                        break
                server.sendall(data)
            _hang_up(server, client)

    def _replies(self, client: socket.socket, server: socket.socket, deaf: threading.Event) -> None:
        while (data := _received(server)) and not deaf.is_set():
            client.sendall(data)
        _hang_up(client, server)


@contextmanager
def wire(url: sa.URL) -> Iterator[Wire]:
    """A wire to the server of `url`."""
    between = Wire(url.port or 0)
    between.serve()
    try:
        yield between
    finally:
        between.close()


@contextmanager
def write_protected(*paths: Path) -> Iterator[None]:
    """Takes the write permission from `paths`, even where the tests run as root: this thread then lacks root's privilege to ignore it."""
    modes = {path: path.stat().st_mode for path in paths}
    for path, mode in modes.items():
        path.chmod(mode & ~0o222)
    try:
        with _without_privilege():
            yield
    finally:
        for path, mode in modes.items():
            path.chmod(mode)


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """No file of this process may grow beyond `size` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextmanager
def _without_privilege() -> Iterator[None]:
    """Linux capabilities(7): CAP_DAC_OVERRIDE is bit 1 of the thread's effective set; it stays permitted, so that it can be taken back."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable, for the lower and the upper 32 bits
    if libc.capget(header, sets):
        raise OSError(ctypes.get_errno(), "capget")
    before = sets[0]
    sets[0] = before & ~(1 << 1)
    if libc.capset(header, sets):
        raise OSError(ctypes.get_errno(), "capset")
    try:
        yield
    finally:
        sets[0] = before
        libc.capset(header, sets)


def _received(connection: socket.socket) -> bytes:
    try:
        return connection.recv(1 << 16)
    except OSError:
        return b""


def _hang_up(*connections: socket.socket) -> None:
    for connection in connections:
        try:
            connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            continue  # the other side was faster
