"""Photographs the report of a sample run, as a browser shows its upper part, into one PNG.

    PYTHONPATH=.:lambda .venv/bin/python -m tools.report_picture     writes docs/pictures/report.png; needs chromium

The picture carries the SHA-256 of the page that it shows, so that a test can tell whether it is current without a browser: two versions of
one never paint the same pixels. Source of the format: PNG specification, sections 5.3 (chunks) and 11.3.4.3 (tEXt).
"""

from __future__ import annotations

import hashlib
import shutil
import struct
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from reencrypt.operations.html_report import render
from tests.support import reports

PICTURE = Path(__file__).resolve().parent.parent / "docs" / "pictures" / "report.png"
_KEYWORD = b"SHA-256 of the page"
_WIDTH, _HEIGHT = 1000, 1130
_OPTIONS = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars", "--host-resolver-rules=MAP * ~NOTFOUND")


def page() -> str:
    """The report of the picture: a re-encryption of a well-used Grafana, with some unreadable values."""
    return render(reports.sample())


def fingerprint(html: str) -> str:
    return hashlib.sha256(html.encode()).hexdigest()


def fingerprint_in(picture: bytes) -> str | None:
    """The fingerprint of the page that `picture` shows; None where it carries none."""
    for kind, body in _chunks(picture):
        keyword, _, text = body.partition(b"\0")
        if kind == b"tEXt" and keyword == _KEYWORD:
            return text.decode()
    return None


def marked(picture: bytes, html: str) -> bytes:
    """`picture` with the fingerprint of `html` in it."""
    chunks = [*_chunks(picture)]
    chunks.insert(1, (b"tEXt", _KEYWORD + b"\0" + fingerprint(html).encode()))
    packed = (struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks)
    return picture[:8] + b"".join(packed)


def size_of(picture: bytes) -> tuple[int, int]:
    """Width and height, in pixels."""
    _, header = next(_chunks(picture))
    width, height = struct.unpack(">II", header[:8])
    return width, height


def _chunks(picture: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 8
    while at < len(picture):
        length, kind = struct.unpack(">I4s", picture[at : at + 8])
        yield kind, picture[at + 8 : at + 8 + length]
        at += 12 + length


def photograph(html: str) -> bytes:
    """The upper part of the page as a PNG. Exits with a message where there is no chromium."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        sys.exit("chromium is missing: apt-get install chromium")
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "report.html", Path(folder) / "report.png"
        source.write_text(html, encoding="utf-8")
        options = [*_OPTIONS, f"--user-data-dir={folder}/profile", f"--screenshot={target}", f"--window-size={_WIDTH},{_HEIGHT}"]
        subprocess.run([program, *options, source.as_uri()], check=True, capture_output=True, timeout=120)  # noqa: S603 - fixed arguments, no shell
        return target.read_bytes()


if __name__ == "__main__":
    shown = page()
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_bytes(marked(photograph(shown), shown))
    print(PICTURE)
