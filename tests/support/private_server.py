"""A database server of one test module, which may stop it, crash it, fill it and make it read-only. Its accounts have passwords."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from tests.support import servers

PASSWORD = "Gr4fana-p4ssw0rd"
ACCOUNT = "worker"
_STOP_SECONDS = 30


@dataclass
class PrivateServer:
    """A MariaDB or PostgreSQL of one test module. `admin` may do everything; `account` is a plain one, as Grafana's should be."""

    engine: str
    folder: Path
    port: int
    megabytes: int = 80
    process: subprocess.Popen[bytes] | None = None

    @property
    def admin(self) -> sa.URL:
        if self.engine == "mysql":
            return sa.URL.create(servers.DRIVERS["mysql"], "root", "", "127.0.0.1", self.port, query={"ssl_disabled": "true"})
        return sa.URL.create(servers.DRIVERS["postgres"], "postgres", PASSWORD, "127.0.0.1", self.port, "postgres")

    @property
    def account(self) -> sa.URL:
        return self.admin.set(username=ACCOUNT, password=PASSWORD)

    @property
    def mariadb_file(self) -> list[str]:
        """One file that holds everything and can get full, as a disk does; with more `megabytes` it has room again after a restart."""
        return ["--innodb-file-per-table=0", f"--innodb-data-file-path=ibdata1:12M:autoextend:max:{self.megabytes}M"]

    def start(self) -> None:
        """Starts it on its data and waits until it takes connections."""
        data = self.folder / "data"
        if self.engine == "mysql":
            command = [servers.binary("mariadbd", "mysqld"), "--no-defaults", f"--datadir={data}", f"--port={self.port}"]
            command += [
                f"--socket={self.folder}/mysql.sock",
                f"--tmpdir={self.folder}",
                "--skip-name-resolve",
                "--skip-log-bin",
                "--innodb-flush-log-at-trx-commit=2",
            ]
            command += ["--character-set-server=utf8mb4", "--innodb-buffer-pool-size=32M", *self.mariadb_file, *_as_root()]
            account = None
        else:
            command = [servers.binary("postgres"), "-D", str(data), "-p", str(self.port), "-h", "127.0.0.1"]
            command += [f"-cunix_socket_directories={data}", "-cfsync=off", "-cmax_connections=12", "-csuperuser_reserved_connections=3"]
            account = servers._unprivileged()
        log = self.folder / "server.log"
        user, group = servers._ids(account)
        with log.open("ab") as output:
            self.process = subprocess.Popen(command, stdout=output, stderr=output, stdin=subprocess.DEVNULL, cwd="/", user=user, group=group)
        servers._wait_until_ready(self.process, self.admin, log)

    def stop(self) -> None:
        """Crashes it: what was committed is on the disk, and everybody is cut off. Does nothing where it is down already."""
        if self.process is None:
            return
        # PostgreSQL's "immediate shutdown" is a crash that leaves no orphans.
        self.process.send_signal(signal.SIGKILL if self.engine == "mysql" else signal.SIGQUIT)
        self.process.wait(_STOP_SECONDS)
        self.process = None

    def restart(self) -> None:
        self.stop()
        self.start()

    @contextmanager
    def read_only(self) -> Iterator[None]:
        """Makes it what a replica is: MariaDB with read_only, PostgreSQL a hot standby."""
        standby = self.folder / "data" / "standby.signal"
        if self.engine == "mysql":
            servers.execute(self.admin, "SET GLOBAL read_only = 1")
        else:
            self.stop()
            standby.touch()
            self.start()
        try:
            yield
        finally:
            if self.engine == "mysql":
                servers.execute(self.admin, "SET GLOBAL read_only = 0")
            else:
                self.stop()
                standby.unlink()
                self.start()


@contextmanager
def private_server(engine: str) -> Iterator[PrivateServer]:
    """A running one of its own ("mysql" or "postgres"), whose accounts have passwords."""
    folder = Path(tempfile.mkdtemp(prefix=f"reencrypt-private-{engine}-"))
    folder.chmod(0o755)  # PostgreSQL runs as another user
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        server = PrivateServer(engine, folder, probe.getsockname()[1])
    data = folder / "data"
    try:
        if engine == "mysql":
            install = [servers.binary("mariadb-install-db", "mysql_install_db"), "--no-defaults", f"--datadir={data}", *server.mariadb_file, *_as_root()]
            servers._make([*install, "--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve"])
            grants = [f"CREATE USER {ACCOUNT}@'127.0.0.1' IDENTIFIED BY '{PASSWORD}'", f"GRANT ALL PRIVILEGES ON `%%`.* TO {ACCOUNT}@'127.0.0.1'"]
        else:
            account = servers._unprivileged()
            data.mkdir(mode=0o700)
            passwords = folder / "password"
            passwords.write_text(PASSWORD)
            if account:
                os.chown(data, account.pw_uid, account.pw_gid)
            initdb = [servers.binary("initdb"), "-D", str(data), "-U", "postgres", "--auth-host=scram-sha-256", "--auth-local=trust", f"--pwfile={passwords}"]
            servers._make([*initdb, "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"], account)
            grants = [f"CREATE ROLE {ACCOUNT} LOGIN PASSWORD '{PASSWORD}'", f"GRANT pg_read_all_data, pg_write_all_data TO {ACCOUNT}"]
        server.start()
        for statement in grants:
            servers.execute(server.admin, statement)
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _as_root() -> list[str]:
    return ["--user=root"] if os.geteuid() == 0 else []  # MariaDB refuses to run as root unless told so
