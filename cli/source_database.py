"""Finds the SQLite database that a grafana.ini names and copies it; the original is only ever read.

Also rewrites the ini so that it names the copy.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Mapping
from pathlib import Path

from reencrypt.errors import ConfigurationError
from reencrypt.grafana.settings import DatabaseSettings, load_settings

_PACKAGES_INI, _PACKAGES_DATA = Path("/etc/grafana"), Path("/var/lib/grafana")
_DATABASE_VARIABLES = "GF_DATABASE_"
_SQLITE_MAGIC = b"SQLite format 3\0"
_WAL = 2  # bytes 18 and 19 of the header; see https://www.sqlite.org/fileformat.html


def locate_sqlite(database: DatabaseSettings, ini: Path) -> Path:
    """The existing file that `[database] path` means, seen from the ini file. Raises ConfigurationError naming every place looked at.

    Grafana's working directory is not known here, so a relative path is tried in `[paths] data`, then beside the ini, then where packages put it.
    """
    here = ini.resolve().parent
    folders = [here / database.data_path] if database.data_path else []
    folders += [here, here / "data"]
    if here == _PACKAGES_INI:
        folders.append(_PACKAGES_DATA)
    candidates = list(dict.fromkeys(folder / database.path for folder in folders))  # an absolute path is the same in each
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    places = "".join(f"\n  {candidate}" for candidate in candidates)
    raise ConfigurationError(f"[database] path: no such SQLite file. Looked at:{places}\nSet it to an absolute path, or set [paths] data.")


def copy_sqlite(source: Path, target: Path) -> None:
    """A consistent copy of `source` at `target` by SQLite's backup API, safe beside a running Grafana. Raises ConfigurationError when it cannot be read."""
    with source.open("rb") as file:
        header = file.read(20)
    if header[:16] != _SQLITE_MAGIC:
        raise ConfigurationError(f"{source} is not a SQLite database")
    for leftover in (target, Path(f"{target}-wal"), Path(f"{target}-shm"), Path(f"{target}-journal")):
        leftover.unlink(missing_ok=True)
    # A reader of a WAL database makes files beside it. Without a -wal file nobody has it open, and `immutable` leaves not even those.
    resting = header[18] == _WAL and not Path(f"{source}-wal").exists()
    uri = f"{source.resolve().as_uri()}?mode=ro{'&immutable=1' if resting else ''}"
    try:
        with contextlib.closing(sqlite3.connect(uri, uri=True)) as original, contextlib.closing(sqlite3.connect(target)) as copy:
            original.backup(copy)
    except sqlite3.Error as error:
        raise ConfigurationError(f"{source} cannot be copied: SQLite says {error}. It must be readable, and so must its -wal file.") from None


def naming(ini: str, environment: Mapping[str, str], path: Path) -> tuple[str, dict[str, str]]:
    """`ini` and `environment`, changed so that Grafana's settings name the SQLite file `path` (absolute) and nothing else is different.

    Repeated sections merge and the last key wins, so a further [database] section is enough, whatever the first says.
    """
    quote = '"""' if "`" in str(path) else "`"  # literal in go-ini: a # or ; in the path would end an unquoted value
    changed = f"{ini}\n\n[database]\ntype = sqlite3\nurl =\nconnection_string =\npath = {quote}{path}{quote}\n"
    kept = {name: value for name, value in environment.items() if not name.startswith(_DATABASE_VARIABLES)}
    database = load_settings(changed, kept).database
    if (database.type, database.path) != ("sqlite3", str(path)):
        raise ConfigurationError(f"the copy's path cannot be written into grafana.ini: {path}; choose an --output without special characters")
    return changed, kept
