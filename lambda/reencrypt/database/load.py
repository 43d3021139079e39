"""What else a server has to do: its connections, and the sessions at work on it right now.

Sources: https://dev.mysql.com/doc/refman/8.4/en/server-status-variables.html (Threads_connected, Threads_running);
https://www.postgresql.org/docs/current/monitoring-stats.html (pg_stat_activity: without pg_read_all_stats the state of another account's
sessions is NULL; the workers use Grafana's own account, whose sessions they see).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from reencrypt.database.dialects import Engine

Ask = Callable[[str, str, Sequence[object]], Sequence[Sequence[Any]]]


@dataclass(frozen=True)
class Connections:
    """`allowed` by the server for accounts such as ours, `used` of them now."""

    allowed: int
    used: int

    @property
    def free(self) -> int:
        """How many more could be opened."""
        return max(0, self.allowed - self.used)


def connections(engine: Engine, ask: Ask) -> Connections | None:
    """The server's connections; None for SQLite."""
    doing = "asking for the server's connections"
    if engine is Engine.MYSQL:
        status = {str(name).lower(): value for name, value in ask(doing, "SHOW GLOBAL STATUS LIKE 'Threads_connected'", ())}
        return Connections(int(ask(doing, "SELECT @@max_connections", ())[0][0]), int(status["threads_connected"]))
    if engine is Engine.POSTGRESQL:
        settings = "current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int"
        allowed, used = ask(doing, f"SELECT {settings}, (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend')", ())[0]  # noqa: S608
        return Connections(int(allowed), int(used))
    return None


def running(engine: Engine, ask: Ask) -> int:
    """Sessions at work besides the one that asks."""
    doing = "asking for the server's load"
    if engine is Engine.MYSQL:
        return max(0, int(ask(doing, "SHOW GLOBAL STATUS LIKE 'Threads_running'", ())[0][1]) - 1)
    if engine is Engine.POSTGRESQL:
        return int(ask(doing, "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND pid <> pg_backend_pid()", ())[0][0])
    return 0
