"""What the three engines do differently: comparing bytes, measuring them, and the limits of a statement.

Compare bytes: MySQL's default collations ignore case, accents and trailing spaces, so two base64 texts can "be equal"; SQLite tells text
from blob. So columns are read as bytes, compared as bytes, and written back as what they were. Only SQL that MySQL 8, Aurora and MariaDB
all understand.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Engine(StrEnum):
    """The database engines, in SQLAlchemy's spelling."""

    SQLITE = "sqlite"
    MYSQL = "mysql"
    POSTGRESQL = "postgresql"


@dataclass(frozen=True)
class Dialect:
    """SQL fragments of one engine; `{c}` stands for a quoted column, `?` for the driver's parameter mark."""

    engine: Engine
    quote: str
    mark: str
    text_bytes: str
    blob_bytes: str
    other_bytes: str
    size: str
    storage_class: str
    write_text: str
    write_blob: str

    def quoted(self, name: str) -> str:
        """`name` as an identifier: Grafana's tables use reserved words (`key`, `group`, `value`, …)."""
        escaped = name.replace(self.quote, self.quote * 2)
        return f"{self.quote}{escaped.replace('%', '%%') if self.mark == '%s' else escaped}{self.quote}"

    def as_bytes(self, column: str, is_blob: bool) -> str:
        """The expression for the stored bytes of `column`."""
        return (self.blob_bytes if is_blob else self.text_bytes).format(c=self.quoted(column))

    def shown_as_bytes(self, column: str) -> str:
        """The expression for the text of `column`, which is neither text nor bytes itself."""
        return self.other_bytes.format(c=self.quoted(column))

    def size_of(self, column: str) -> str:
        """The expression for the size of `column` in bytes; NULL for NULL."""
        return self.size.format(c=self.quoted(column))


DIALECTS = {
    Engine.SQLITE: Dialect(
        Engine.SQLITE, quote='"', mark="?", text_bytes="CAST({c} AS BLOB)", blob_bytes="CAST({c} AS BLOB)",
        other_bytes="CAST({c} AS BLOB)", size="length(CAST({c} AS BLOB))",
        storage_class="typeof({c})", write_text="CAST(? AS TEXT)", write_blob="?",
    ),
    Engine.MYSQL: Dialect(
        Engine.MYSQL, quote="`", mark="%s", text_bytes="CAST({c} AS BINARY)", blob_bytes="{c}",
        other_bytes="CAST(CONVERT({c} USING utf8mb4) AS BINARY)", size="LENGTH({c})",
        storage_class="'column'", write_text="%s", write_blob="%s",
    ),
    Engine.POSTGRESQL: Dialect(
        Engine.POSTGRESQL, quote='"', mark="%s", text_bytes="convert_to({c}, 'UTF8')", blob_bytes="{c}",
        other_bytes="convert_to(to_json({c})::text, 'UTF8')", size="octet_length({c})",
        storage_class="'column'", write_text="%s", write_blob="%s",
    ),
}  # fmt: skip
