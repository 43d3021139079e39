"""The copy of a SQLite database: found where Grafana would find it, complete, and the original untouched."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
from pathlib import Path

import pytest

from cli.source_database import copy_sqlite, locate_sqlite, naming
from reencrypt.errors import ConfigurationError
from reencrypt.grafana.settings import load_settings


def _ini(folder: Path, text: str) -> Path:
    path = folder / "grafana.ini"
    path.write_text(text)
    return path


def _located(ini: Path) -> Path:
    return locate_sqlite(load_settings(ini.read_text()).database, ini)


@pytest.mark.parametrize(
    ("ini", "file"),
    [
        ("[database]\npath = grafana.db\n", "grafana.db"),
        ("[database]\ntype = sqlite3\n", "grafana.db"),
        ("[database]\npath = grafana.db\n", "data/grafana.db"),
        ("[database]\npath = other/g.db\n", "other/g.db"),
        ("[paths]\ndata = var\n[database]\npath = grafana.db\n", "var/grafana.db"),
    ],
)
def test_a_relative_path_is_found_in_the_data_folder_and_beside_the_ini(tmp_path: Path, ini: str, file: str) -> None:
    (tmp_path / file).parent.mkdir(exist_ok=True, parents=True)
    (tmp_path / file).touch()
    assert _located(_ini(tmp_path, ini)) == tmp_path / file


def test_the_data_folder_comes_before_the_inis_own(tmp_path: Path) -> None:
    (tmp_path / "var").mkdir()
    (tmp_path / "var/grafana.db").touch()
    (tmp_path / "grafana.db").touch()
    assert _located(_ini(tmp_path, f"[paths]\ndata = {tmp_path}/var\n")) == tmp_path / "var/grafana.db"


def test_an_absolute_path_is_taken_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "g.db").touch()
    (tmp_path / "conf").mkdir()
    assert _located(_ini(tmp_path / "conf", f"[database]\npath = {tmp_path}/g.db\n")) == tmp_path / "g.db"


def test_a_missing_database_names_every_place_looked_at(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as raised:
        _located(_ini(tmp_path, "[paths]\ndata = /somewhere/data\n[database]\npath = g.db\n"))
    for place in ("/somewhere/data/g.db", f"{tmp_path}/g.db", f"{tmp_path}/data/g.db"):
        assert place in str(raised.value)


@pytest.mark.parametrize("journal", ["delete", "wal"])
def test_the_copy_is_complete_and_the_original_untouched(tmp_path: Path, journal: str) -> None:
    source = tmp_path / "grafana.db"
    _fill(source, journal)
    before = _fingerprint(tmp_path)
    (tmp_path / "out").mkdir()
    copy_sqlite(source, tmp_path / "out/grafana.db")
    assert _rows(tmp_path / "out/grafana.db") == 1000
    assert _fingerprint(tmp_path) == before


def test_what_a_running_grafana_has_only_in_its_wal_is_copied_too(tmp_path: Path) -> None:
    source = tmp_path / "grafana.db"
    _fill(source, "wal")
    with contextlib.closing(sqlite3.connect(source)) as grafana:
        grafana.execute("INSERT INTO t (x) VALUES ('new')")
        grafana.commit()
        copy_sqlite(source, tmp_path / "copy.db")
    assert _rows(tmp_path / "copy.db") == 1001


def test_what_is_no_sqlite_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "g.db").write_text("hello")
    with pytest.raises(ConfigurationError, match="is not a SQLite database"):
        copy_sqlite(tmp_path / "g.db", tmp_path / "copy.db")


@pytest.mark.parametrize(
    "ini",
    [
        "",
        "[database]\ntype = sqlite3\npath = old.db",
        "[database]\nurl = sqlite3://somewhere/else",
        "[database]\npath = a\n[security]\nsecret_key = abc ; comment\n[database]\npath = b \\\n",
    ],
)
@pytest.mark.parametrize("folder", ["plain", "with # and ; in it", "back`quote"])
def test_the_settings_name_the_copy_whatever_they_named_before(tmp_path: Path, ini: str, folder: str) -> None:
    path = tmp_path / folder / "grafana.db"
    changed, variables = naming(ini, {"GF_DATABASE_URL": "mysql://x/y", "GF_SECURITY_SECRET_KEY": "k"}, path)
    settings = load_settings(changed, variables)
    assert (settings.database.type, settings.database.path) == ("sqlite3", str(path))
    assert variables == {"GF_SECURITY_SECRET_KEY": "k"}


def _fill(path: Path, journal: str) -> None:
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA journal_mode = {journal}")
        db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, x TEXT)")
        db.executemany("INSERT INTO t (x) VALUES (?)", [("x" * 100,)] * 1000)
        db.commit()


def _rows(path: Path) -> int:
    with contextlib.closing(sqlite3.connect(path)) as db:
        return int(db.execute("SELECT count(*) FROM t").fetchone()[0])


def _fingerprint(folder: Path) -> list[tuple[str, int, str]]:
    return sorted((e.name, e.stat().st_mtime_ns, hashlib.sha256(Path(e).read_bytes()).hexdigest()) for e in os.scandir(folder) if e.is_file())
