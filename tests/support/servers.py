"""Real database servers for tests and benchmarks: private, on loopback, with their data in a temporary folder, gone afterwards.

`TEST_MYSQL_URL` and `TEST_POSTGRES_URL` (SQLAlchemy URLs of an account that may create databases) name servers that are already there.
`python -m tests.support.servers COMMAND …` runs a command with both servers up and those variables set, so that all its processes share them.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import MappingProxyType

import sqlalchemy as sa

from reencrypt.grafana.settings import DatabaseSettings

VARIABLES = {"mysql": "TEST_MYSQL_URL", "postgres": "TEST_POSTGRES_URL"}
DRIVERS = {"mysql": "mysql+pymysql", "postgres": "postgresql+psycopg"}
_READY_SECONDS = 60
_FOLDERS = ["/usr/sbin", "/usr/local/sbin", *map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True))]


class MissingServer(RuntimeError):
    """No server of an engine is installed, and none is named by the environment."""


def binary(*names: str) -> str:
    """The path of the first of `names` that is installed, in PATH or where distributions put servers. Raises MissingServer."""
    for name in names:
        if found := shutil.which(name) or shutil.which(name, path=os.pathsep.join(_FOLDERS)):
            return found
    raise MissingServer(f"{names[0]} is not installed (Debian: apt-get install mariadb-server postgresql), and {' or '.join(VARIABLES.values())} is not set")


@contextmanager
def server(engine: str) -> Iterator[sa.URL]:
    """The URL of a running server of `engine` ("mysql" or "postgres"), of an account that may create databases."""
    if given := os.environ.get(VARIABLES[engine]):
        yield sa.make_url(given)
        return
    with _private(engine) as url:
        yield url


@contextmanager
def tls_server(engine: str, certificate: Path, key: Path) -> Iterator[sa.URL]:
    """A server of its own that also speaks TLS, with the certificate and key of these PEM files."""
    with _private(engine, {"cert": certificate, "key": key}) as url:
        yield url


@contextmanager
def _private(engine: str, tls: Mapping[str, Path] = MappingProxyType({})) -> Iterator[sa.URL]:
    folder = Path(tempfile.mkdtemp(prefix=f"reencrypt-{engine}-"))
    folder.chmod(0o755)  # PostgreSQL runs as another user
    try:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        for name, file in tls.items():
            shutil.copyfile(file, folder / name)
            (folder / name).chmod(0o600)
        with (_mariadb if engine == "mysql" else _postgresql)(folder, port, tls=bool(tls)) as url:
            yield url
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def new_database(url: sa.URL, template: str | None = None) -> Iterator[sa.URL]:
    """A fresh database on the server of `url`, a copy of the PostgreSQL database `template` if one is named; dropped afterwards."""
    name = f"test_{uuid.uuid4().hex[:16]}"
    execute(url, f"CREATE DATABASE {name}" + (f" TEMPLATE {template}" if template else ""))
    try:
        yield url.set(database=name)
    finally:
        execute(url, f"DROP DATABASE {name}" + (" WITH (FORCE)" if url.drivername.startswith("postgresql") else ""))


def execute(url: sa.URL, statement: str) -> None:
    """Runs one statement outside of a transaction."""
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sa.pool.NullPool)
    with engine.connect() as connection:
        connection.exec_driver_sql(statement)


def settings_of(url: sa.URL) -> DatabaseSettings:
    """`url` as `[database]` of grafana.ini would say it."""
    if url.drivername == "sqlite":
        return DatabaseSettings("sqlite3", path=url.database or "")
    kind = "mysql" if url.drivername.startswith("mysql") else "postgres"
    return DatabaseSettings(kind, url.host or "", url.port, url.database or "", url.username or "", url.password or "", ssl_mode="disable")


@contextmanager
def server_settings(engines: list[str]) -> Iterator[Callable[[str], DatabaseSettings]]:
    """Starts the servers of `engines` (SQLite needs none); the function gives a fresh database of an engine."""
    with ExitStack() as stack:
        urls = {engine: stack.enter_context(server(engine)) for engine in engines if engine in VARIABLES}
        yield lambda engine: settings_of(stack.enter_context(new_database(urls[engine])))


@contextmanager
def _mariadb(folder: Path, port: int, *, tls: bool) -> Iterator[sa.URL]:
    data = folder / "data"
    encrypted = [f"--ssl-cert={folder}/cert", f"--ssl-key={folder}/key"] if tls else []
    user = ["--user=root"] if os.geteuid() == 0 else []  # it refuses to run as root unless told so
    install = [binary("mariadb-install-db", "mysql_install_db"), "--no-defaults", f"--datadir={data}", "--auth-root-authentication-method=normal", *user]
    _make([*install, "--skip-test-db", "--skip-name-resolve"])
    options = [
        f"--datadir={data}", f"--port={port}", f"--socket={folder}/mysql.sock", f"--tmpdir={folder}", f"--pid-file={folder}/pid",
        "--bind-address=127.0.0.1", "--skip-name-resolve",
        "--character-set-server=utf8mb4", "--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=128M", "--skip-log-bin", *user, *encrypted,
    ]  # fmt: skip
    # Without it PyMySQL reads the system's certificates for every connection, which takes longer than most tests' queries.
    root = sa.URL.create(DRIVERS["mysql"], "root", "", "127.0.0.1", port, query={"ssl_disabled": "true"})
    with _running([binary("mariadbd", "mysqld"), "--no-defaults", *options], folder / "server.log", root, signal.SIGKILL):
        # The account of the golden databases' grafana.ini: an empty password would not override theirs.
        execute(root, "CREATE USER grafana@'127.0.0.1' IDENTIFIED BY 'grafana'")
        execute(root, "GRANT ALL PRIVILEGES ON *.* TO grafana@'127.0.0.1' WITH GRANT OPTION")
        yield root.set(username="grafana", password="grafana")


@contextmanager
def _postgresql(folder: Path, port: int, *, tls: bool) -> Iterator[sa.URL]:
    data, account = folder / "data", _unprivileged()
    data.mkdir(mode=0o700)
    files = [folder / "cert", folder / "key"] if tls else []
    if account:
        for path in (data, *files):
            os.chown(path, account.pw_uid, account.pw_gid)
    initdb = [binary("initdb"), "-D", str(data), "-U", "postgres", "--auth=trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"]
    _make(initdb, account)
    encrypted = ["ssl=on", f"ssl_cert_file={folder}/cert", f"ssl_key_file={folder}/key"] if tls else []
    fast = [part for name in ("fsync=off", "synchronous_commit=off", "full_page_writes=off", *encrypted) for part in ("-c", name)]
    command = [binary("postgres"), "-D", str(data), "-p", str(port), "-h", "127.0.0.1", "-c", f"unix_socket_directories={data}", *fast]
    url = sa.URL.create(DRIVERS["postgres"], "postgres", "", "127.0.0.1", port, "postgres")
    with _running(command, folder / "server.log", url, signal.SIGINT, account):
        yield url


def _make(command: list[str], account: pwd.struct_passwd | None = None) -> None:
    """Makes a data folder; an error carries what the program said."""
    user, group = _ids(account)
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL, check=False, cwd="/", user=user, group=group)
    if done.returncode:
        raise RuntimeError(f"{command!r} failed with exit code {done.returncode}:\n{(done.stdout + done.stderr)[-2000:]}")


@contextmanager
def _running(command: list[str], log: Path, url: sa.URL, stop: signal.Signals, account: pwd.struct_passwd | None = None) -> Iterator[None]:
    with log.open("wb") as output:
        user, group = _ids(account)
        process = subprocess.Popen(command, stdout=output, stderr=output, stdin=subprocess.DEVNULL, cwd="/", user=user, group=group)
    try:
        _wait_until_ready(process, url, log)
        yield
    finally:
        process.send_signal(stop)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_ready(process: subprocess.Popen[bytes], url: sa.URL, log: Path) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    engine = sa.create_engine(url, poolclass=sa.pool.NullPool)
    while True:
        try:
            with engine.connect():
                return
        except sa.exc.OperationalError as error:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{process.args!r} is not ready; its log ends with:\n{log.read_text(errors='replace')[-2000:]}") from error
            time.sleep(0.05)  # between two looks; there is nothing to wait on


def _unprivileged() -> pwd.struct_passwd | None:
    """PostgreSQL refuses to run as root: the distribution's account, or nobody."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise MissingServer("there is no account but root that PostgreSQL could run as")


def _ids(account: pwd.struct_passwd | None) -> tuple[int | None, int | None]:
    return (account.pw_uid, account.pw_gid) if account else (None, None)


def main(command: list[str]) -> int:
    """Runs `command` with both servers; returns its exit code. A SIGTERM ends the servers too."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    with ExitStack() as stack:
        environment = {VARIABLES[engine]: stack.enter_context(server(engine)).render_as_string(hide_password=False) for engine in VARIABLES}
        return subprocess.run(command, env={**os.environ, **environment}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
