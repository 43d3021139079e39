"""A witness of a data key: a value that it protects. A data key that opens its witness is the right one; 16 bytes alone prove nothing under CFB."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from reencrypt.database.database import Database
from reencrypt.errors import PayloadError, Reason
from reencrypt.grafana import payload as payloads
from reencrypt.grafana import plausibility, secret_values
from reencrypt.grafana.cipher import DeriveKey
from reencrypt.grafana.payload import Payload
from reencrypt.grafana.secret_columns import SecretColumn
from reencrypt.operations.keys import name_of
from reencrypt.operations.rewrite import Rewrite


@dataclass(frozen=True)
class Witness:
    """The payload and the column that it stands in."""

    column: SecretColumn
    payload: Payload

    def opened(self, data_key: bytes, derive: DeriveKey) -> bytes:
        """The plaintext under `data_key`. Raises PayloadError, IMPLAUSIBLE_PLAINTEXT where it is not what belongs into the column."""
        plaintext = payloads.decrypt(self.payload, data_key, derive)
        if not plausibility.is_plausible(self.column.plaintext, plaintext):
            raise PayloadError(Reason.IMPLAUSIBLE_PLAINTEXT)
        return plaintext


def find(database: Database, name: str, place: Mapping[str, Any] | None) -> Witness | None:
    """The value at `place`, if it still is under the data key `name`; None where Grafana has written or deleted it since, or there is none."""
    if place is None:
        return None
    group = next((group for group in database.groups([place["table"]]) if group.id == place["group"]), None)
    row = None if group is None else database.row(group, tuple(place["primary_key"].values()))
    if group is None or row is None:
        return None
    rewrite = Rewrite(group, row)
    for index, column in enumerate(group.columns):
        if column.column != place["column"]:
            continue
        for value in secret_values.read(column, rewrite.stored(index), rewrite.scope(index)):
            if value.payload is not None and list(value.path or ()) == list(place["path"] or ()) and name_of(column.system, value.payload) == name:
                return Witness(column, value.payload)
    return None
