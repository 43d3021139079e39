"""The sample database holds exactly the secrets that it says, in all the forms of a database with a history."""

from __future__ import annotations

import base64
import contextlib
import json
import sqlite3
from pathlib import Path

from cli.sample import DEFAULT_SECRET_KEY, ExpectedValue, make_sample
from reencrypt.grafana.payload import decrypt, decrypt_with_password, parse


def test_every_expected_secret_decrypts_under_its_key(tmp_path: Path) -> None:
    expected = make_sample(tmp_path / "grafana.db", rows=8)
    forms = dict[str | None, int]()
    with contextlib.closing(sqlite3.connect(tmp_path / "grafana.db")) as db:
        keys = {name: decrypt_with_password(DEFAULT_SECRET_KEY.encode(), data) for name, data in db.execute("SELECT name, encrypted_data FROM data_keys")}
        for value in expected:
            payload = parse(_stored(db, value))
            forms[payload.key_id] = forms.get(payload.key_id, 0) + 1
            assert decrypt(payload, keys[payload.key_id] if payload.key_id else DEFAULT_SECRET_KEY.encode()) == value.plaintext
    assert set(forms) == {None, *keys}
    assert max(forms.values()) - min(forms.values()) <= 1


def _stored(db: sqlite3.Connection, value: ExpectedValue) -> bytes:
    stored = db.execute(f'SELECT "{value.column}" FROM "{value.table}" WHERE id = ?', (value.primary_key,)).fetchone()[0]
    if isinstance(stored, bytes):
        return stored
    if value.path is not None:
        stored = json.loads(stored)
        for part in value.path:
            stored = stored[part]
    return base64.b64decode(stored + "=" * (-len(stored) % 4))
