"""The golden databases: written by the real Grafana, with every plaintext known. They are beside this checkout and not part of it.

`GOLDEN` names their folder (default: ../shared/golden). Without them a test is skipped, visibly; with REQUIRE_GOLDEN=1, as in CI, it fails.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from reencrypt.grafana.settings import DatabaseSettings, GrafanaSettings, load_settings
from tests.support import servers

FOLDER = Path(os.environ.get("GOLDEN") or Path(__file__).resolve().parents[3] / "shared" / "golden")
NAMES = ("12.4.0-sqlite", "9.4.0-pre-sqlite", "12.4.0-mysql", "9.4.0-pre-mysql", "12.4.0-postgres")
KMS_SECTION = """
[security]
encryption_provider = awskms.example-encryption-key
[security.encryption.awskms.example-encryption-key]
key_id = alias/example
"""


@dataclass(frozen=True)
class GoldenDatabase:
    """A loaded copy. `url` is SQLAlchemy's; `expected` is expected.json."""

    name: str
    url: sa.URL
    expected: dict[str, Any]

    @property
    def engine(self) -> sa.Engine:
        """A plain connection, not the product's."""
        return sa.create_engine(self.url, poolclass=sa.pool.NullPool)

    @property
    def ini(self) -> str:
        """The folder's grafana.ini, with this copy's address."""
        lines = [(FOLDER / self.name / "grafana.ini").read_text(), "[database]"]
        if self.url.drivername == "sqlite":
            lines.append(f"path = {self.url.database}")
        else:
            lines += [f"host = {self.url.host}:{self.url.port}", f"name = {self.url.database}"]
            lines += [f"user = {self.url.username}", f"password = {self.url.password or ''}"]
        return "\n".join(lines) + "\n"

    def settings(self, more: str = KMS_SECTION) -> GrafanaSettings:
        """What Grafana would read, with `more` at the end of the file."""
        settings = load_settings(self.ini + more)
        if self.url.drivername == "sqlite":
            return settings
        # An empty password does not override the folder's in an ini; the private servers have none.
        database = DatabaseSettings(**{**settings.database.__dict__, "password": self.url.password or ""})
        return GrafanaSettings(**{**settings.__dict__, "database": database})


def engine_of(name: str) -> str:
    """sqlite, mysql or postgres."""
    return name.rpartition("-")[2]


def require(name: str) -> Path:
    """The folder of a golden database; skips the test, or fails it in CI, where it is absent."""
    folder = FOLDER / name
    if not (folder / "expected.json").is_file():
        message = f"the golden database {name} is not beside this checkout (GOLDEN names the folder)"
        if os.environ.get("REQUIRE_GOLDEN") == "1":
            pytest.fail(message)
        pytest.skip(message)
    return folder


@contextmanager
def loaded(name: str, folder: Path, url: sa.URL | None, template: str | None = None) -> Iterator[GoldenDatabase]:
    """A fresh copy: a file in `folder`, or a database on the server of `url` (PostgreSQL: a copy of `template`, if given)."""
    source = require(name)
    expected = json.loads((source / "expected.json").read_text())
    if engine_of(name) == "sqlite":
        path = folder / "grafana.db"
        path.write_bytes(gzip.decompress((source / "grafana.db.gz").read_bytes()))
        yield GoldenDatabase(name, sa.URL.create("sqlite", database=str(path)), expected)
        return
    if url is None:
        raise AssertionError(f"{name} needs a server")
    with servers.new_database(url, template) as database:
        if template is None:
            load_dump(source / "grafana.sql.gz", database)
        yield GoldenDatabase(name, database, expected)


def load_dump(dump: Path, url: sa.URL) -> None:
    """Feeds a dump to the engine's own client."""
    host, port, script = url.host or "", str(url.port), gzip.decompress(dump.read_bytes())
    if url.drivername.startswith("mysql"):
        command = [servers.binary("mariadb", "mysql"), "--no-defaults", "-h", host, "-P", port, "-u", url.username or "", "--default-character-set=utf8mb4"]
        command.append(url.database or "")
        environment = {"MYSQL_PWD": url.password or ""}
    else:
        command = [servers.binary("psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-h", host, "-p", port, "-U", url.username or "", "-d", url.database or ""]
        environment = {"PGPASSWORD": url.password or ""}
        script = re.sub(rb"(?m)^\\(un)?restrict .*$", b"", script)  # older clients do not know it
    done = subprocess.run(command, input=script, check=False, capture_output=True, env={**os.environ, **environment})
    if done.returncode:
        raise RuntimeError(f"{dump} does not load into {url!r}:\n{done.stderr.decode(errors='replace')[-2000:]}")
