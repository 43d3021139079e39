"""Grafana's data keys: the rows of `data_keys`, their labels, and the rows that this product adds.

Source: Grafana pkg/services/secrets/types.go, manager/manager.go, database/database.go (12.4).
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from datetime import datetime, timedelta

DATA_KEY_BYTES = 16
SCOPE = "root"
MAXIMUM_PROVIDER_LENGTH = 50

# Grafana caches a key for writing only once its `created` lies 10 minutes back, and unwraps a younger one at every write (on KMS: one
# kms:Decrypt per write). Ours are dated back by more, which is also more than two clocks differ.
BACKDATED = timedelta(minutes=30)

_OUR_PREFIX = "reencrypt"
_ID_ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789"


@dataclass(frozen=True)
class DataKey:
    """A row of `data_keys`. `name` is the key id that payloads carry; `encrypted_data` is the provider's output, verbatim.

    `created` is UTC. `label` is None in a database of Grafana 8.3 to 8.5, whose table has no such column.
    """

    name: str
    active: bool
    scope: str
    provider: str
    encrypted_data: bytes = field(repr=False)
    label: str | None
    created: datetime | None = None

    @property
    def made_by_grafana(self) -> bool:
        """Whether Grafana created this row, and not this product: proof that it had the provider configured."""
        return not self.name.startswith(_OUR_PREFIX)


def new_data_key(provider: str, wrapped: bytes, now: datetime) -> DataKey:
    """A row for a key that this product made: an id that Grafana accepts and people recognise, today's label, dated back.

    Grafana's daily lookup takes any active row of the label `YYYY-MM-DD/root@<provider>`, so it writes with this key too.
    """
    name = _OUR_PREFIX + "".join(secrets.choice(_ID_ALPHABET) for _ in range(13))
    return DataKey(name, True, SCOPE, provider, wrapped, f"{now:%Y-%m-%d}/{SCOPE}@{provider}", now - BACKDATED)


def normalise_provider(name: str) -> str:
    """Grafana's spelling of a provider id: 8.3 wrote `secretKey` for `secretKey.v1`; nothing else is normalised."""
    return "secretKey.v1" if name == "secretKey" else name
