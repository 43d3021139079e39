"""The database that a run finds: secrets of every age, as Grafana's releases of the last years left them."""

from __future__ import annotations

import base64
import itertools
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta

import sqlalchemy as sa

from bench.live_grafana import LiveGrafana, Operation
from bench.simulation.secrets_service import CFB_PREFIX, SECRET_KEY_PROVIDER, Derive, SecretsService, Steps, pbkdf2, seal

OLD_KEY, DAILY_KEY = "aeh3k2m9x7q1tb", "bf5d8w2n4c6v0e"  # data_keys.name, in the shape of Grafana 12


class PastSecrets(SecretsService):
    """Encrypts in turn as each release did: directly under secret_key (without and with the algorithm's name), under an inactive key, under an active one.

    Makes the two rows of data_keys, both of `secretKey.v1`.
    """

    def __init__(self, engine: sa.Engine, secret_key: bytes, now: Callable[[], datetime], *, derive: Derive = pbkdf2) -> None:
        super().__init__(engine, secret_key, SECRET_KEY_PROVIDER, {}, now, derive=derive)
        old = self.insert_key(OLD_KEY, SECRET_KEY_PROVIDER, active=False, age=timedelta(days=90))
        daily = self.insert_key(DAILY_KEY, SECRET_KEY_PROVIDER, active=True, age=timedelta(hours=2))
        self._forms: Iterator[Callable[[bytes], bytes]] = itertools.cycle([
            lambda plaintext: _envelope(DAILY_KEY, seal(plaintext, daily, derive)),
            lambda plaintext: seal(plaintext, secret_key, derive, prefix=b""),
            lambda plaintext: _envelope(OLD_KEY, seal(plaintext, old, derive)),
            lambda plaintext: seal(plaintext, secret_key, derive, prefix=CFB_PREFIX),
        ])  # fmt: skip

    def encrypt(self, plaintext: bytes) -> Steps:
        return next(self._forms)(plaintext)
        yield


def fill(past: LiveGrafana, *, rows: int = 1, tables: Iterable[str] = ()) -> None:
    """Makes `rows` rows (of alerting one) in each table, only of `tables` if any are named. `data_source` brings `secrets` along."""
    makers: dict[str, Callable[[], Operation]] = {
        "data_source": past.create_data_source, "user_auth": past.first_login, "user_external_session": past.log_in, "plugin_setting": past.create_plugin,
        "sso_setting": past.create_sso, "dashboard_snapshot": past.create_snapshot, "signing_key": past.create_signing_key,
        "alert_configuration": past.create_alerting,
    }  # fmt: skip
    wanted = set(tables) or makers.keys()
    for table, maker in makers.items():
        for _ in range((1 if table == "alert_configuration" else rows) if table in wanted else 0):
            for _ in maker():
                pass


def _envelope(key_id: str, inner: bytes) -> bytes:
    return b"#" + base64.b64encode(key_id.encode()).rstrip(b"=") + b"#" + inner
