"""Delete what Grafana keeps in its remote cache under given data keys: it reads such texts anew.

A cached value that is encrypted is one payload (Grafana pkg/infra/remotecache/remotecache.go, encryptedCacheStorage; pkg/services/auth's cache of
login information), so it begins with the name of its key.
"""

from __future__ import annotations

from collections.abc import Iterable

from reencrypt.database.dialects import Dialect, Engine
from reencrypt.grafana import payload as payloads

_HEAD = {
    Engine.SQLITE: "substr({bytes}, 1, {size})",
    Engine.MYSQL: "SUBSTRING({bytes}, 1, {size})",
    Engine.POSTGRESQL: "substring({bytes} FROM 1 FOR {size})",
}


def delete_under(dialect: Dialect, table: str, column: str, is_blob: bool, key_ids: Iterable[str]) -> list[tuple[str, list[object]]]:
    """A statement for each key that deletes the rows whose value is a payload under it."""
    statements: list[tuple[str, list[object]]] = []
    for key_id in key_ids:
        head = payloads.envelope(key_id, b"")
        start = _HEAD[dialect.engine].format(bytes=dialect.as_bytes(column, is_blob), size=len(head))
        statements.append((f"DELETE FROM {dialect.quoted(table)} WHERE {start} = {dialect.mark}", [head]))  # noqa: S608
    return statements
