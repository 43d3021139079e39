"""How many rows one write transaction holds: as many as the server writes within a target time, so that nobody waits long for their locks."""

from __future__ import annotations

from dataclasses import dataclass

from reencrypt.database.dialects import Engine

MOST_ROWS = 200
_LEAST_ROWS = 10
# Grafana tries a locked SQLite database again five times, 10 ms apart (grafana-server's own retries): 50 ms is what it can wait.
_TARGET_SECONDS = {Engine.SQLITE: 0.02, Engine.MYSQL: 0.1, Engine.POSTGRESQL: 0.1}


@dataclass
class Pace:
    """`rows` is the size of the next batch."""

    target_seconds: float
    rows: int = MOST_ROWS

    @classmethod
    def of(cls, engine: Engine) -> Pace:
        """The pace to begin with on `engine`."""
        return cls(_TARGET_SECONDS[engine])

    def took(self, seconds: float, rows: int) -> None:
        """Learns from a batch of `rows` that held its locks for `seconds`: half as many after one that took too long, slowly more again."""
        if seconds > self.target_seconds:
            self.rows = max(_LEAST_ROWS, min(self.rows, rows) // 2)
        elif seconds < self.target_seconds / 2 and rows >= self.rows:
            self.rows = min(MOST_ROWS, self.rows + self.rows // 4 + 1)

    def collided(self) -> None:
        """Learns from a batch that met another session's lock, and held those of its other rows while it waited: fewer rows, fewer meetings."""
        self.rows = max(_LEAST_ROWS, self.rows // 2)
