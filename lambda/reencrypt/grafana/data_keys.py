"""Grafana's data keys: the rows of `data_keys` and `secret_data_key`, their labels, and the rows that this product adds.

Source: Grafana pkg/services/secrets/types.go, manager/manager.go, database/database.go; pkg/registry/apis/secret/encryption/manager (12.4).
"""

from __future__ import annotations

import base64
import json
import secrets
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from reencrypt.grafana.secret_columns import System

SECRET_KEY_PROVIDER = "secretKey.v1"  # noqa: S105  (the name of the provider that wraps by secret_key itself)
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
    """A row of either table. `name` is the key id that payloads carry; `encrypted_data` is the provider's output, verbatim.

    In `secret_data_key` the columns are called `uid` and `namespace` (here `scope`), and a key protects values of its namespace only.
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


def label(system: System, provider: str, scope: str, now: datetime) -> str:
    """What Grafana looks the current key up by: one for each day and provider (and, in the secrets manager, one for each namespace beside it)."""
    return f"{now:%Y-%m-%d}@{provider}" if system is System.MANAGER else f"{now:%Y-%m-%d}/{scope}@{provider}"


def new_data_key(provider: str, wrapped: bytes, now: datetime, system: System = System.GRAFANA, scope: str = SCOPE) -> DataKey:
    """A row for a key that this product made: an id that Grafana accepts and people recognise, today's label.

    Grafana's daily lookup takes any active row of the label, so it writes with this key too. `data_keys` rows are dated back (see BACKDATED); the
    secrets manager caches a key of any age.
    """
    name = _OUR_PREFIX + "".join(secrets.choice(_ID_ALPHABET) for _ in range(13))
    created = now if system is System.MANAGER else now - BACKDATED
    return DataKey(name, True, scope, provider, wrapped, label(system, provider, scope, now), created)


def as_text(key: DataKey) -> bytes:
    """`key` as a line of JSON, for the undo journal."""
    return json.dumps({
        "name": key.name, "active": key.active, "scope": key.scope, "provider": key.provider, "label": key.label,
        "encrypted_data": base64.b64encode(key.encrypted_data).decode(), "created": key.created and key.created.isoformat(),
    }).encode()  # fmt: skip


def from_text(text: bytes) -> DataKey:
    """The key of which `as_text` made `text`."""
    values = json.loads(text)
    created = values.pop("created")
    encrypted_data = base64.b64decode(values.pop("encrypted_data"), validate=True)
    return DataKey(**values, encrypted_data=encrypted_data, created=None if created is None else datetime.fromisoformat(created))


def normalise_provider(name: str) -> str:
    """Grafana's spelling of a provider id: 8.3 wrote `secretKey` for `secretKey.v1`; nothing else is normalised."""
    return SECRET_KEY_PROVIDER if name == "secretKey" else name
