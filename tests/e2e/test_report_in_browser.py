"""report.html in a real browser: Debian's chromium, headless, with no network to fall back on."""

from __future__ import annotations

import os
import re
import shutil
import struct
import subprocess
import zlib
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from reencrypt.operations.html_report import render
from tests.support import reports

Chromium = Callable[..., str]

_OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--hide-scrollbars", "--host-resolver-rules=MAP * ~NOTFOUND",
)  # fmt: skip


@pytest.fixture
def chromium(tmp_path: Path) -> Chromium:
    """Runs chromium with further options on a page and returns what it prints."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        message = "chromium is missing: apt-get install chromium"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    program = found

    def run(page: Path, *options: str) -> str:
        command = [program, *_OPTIONS, f"--user-data-dir={tmp_path / 'profile'}", *options, page.as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    return run


def _page(folder: Path, report: dict[str, Any]) -> Path:
    page = folder / "report.html"
    page.write_text(render(report), encoding="utf-8")
    return page


def _text(html: str) -> str:
    html = re.sub(r"<style.*?</style>", "", html, flags=re.DOTALL)
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]*>", " ", html)))


@pytest.mark.parametrize("report", [reports.sample(), reports.sample("plan"), reports.clean(), reports.failed(), reports.minimal()])
def test_the_browsers_first_heading_is_the_headline(chromium: Chromium, tmp_path: Path, report: dict[str, Any]) -> None:
    dom = chromium(_page(tmp_path, report), "--dump-dom")
    first = re.search(r"<(h[1-6])[^>]*>(.*?)</\1>", dom, re.DOTALL)
    assert first is not None
    assert first[1] == "h1"
    assert unescape(first[2]) == report.get("headline", "failed: 0 values, 0 unreadable")


def test_the_browser_shows_the_facts_of_a_run(chromium: Chromium, tmp_path: Path) -> None:
    text = _text(chromium(_page(tmp_path, reports.sample("plan")), "--dump-dom"))
    for fact in (
        "2026-11-24 22:10:05 UTC", "MySQL 8.0.36", reports.PROVIDER, "41 s", "about USD 0.0021", "would be re-encrypted",
        "user_external_session . access_token", "not in this database", "unknown-data-key", "extra_config[0].alertmanager_config",
        '"mode": "re-encrypt"',
    ):  # fmt: skip
        assert fact in text, fact


def test_hostile_names_make_no_element_in_the_browser(chromium: Chromium, tmp_path: Path) -> None:
    hostile = '"><img src=x onerror="document.body.textContent=1"><script>document.title="owned"</script></style>\u202e'
    place = {"table": hostile, "column": hostile, "primary_key": {hostile: hostile}, "path": [hostile], "reason": hostile}
    report = reports.sample() | {"unreadable": [place]}
    dom = chromium(_page(tmp_path, report), "--dump-dom")
    assert "<script" not in dom
    assert "<img" not in dom
    assert "<title>succeeded-with-unreadable · re-encrypt" in dom
    assert hostile.replace("\u202e", "\\u202e") in unescape(dom)


@pytest.mark.parametrize(("scheme", "options"), [("light", ()), ("dark", ("--force-dark-mode",))])
def test_the_browser_paints_both_colour_schemes(chromium: Chromium, tmp_path: Path, scheme: str, options: tuple[str, ...]) -> None:
    picture = tmp_path / "page.png"
    chromium(_page(tmp_path, reports.sample()), f"--screenshot={picture}", "--window-size=1000,800", *options)
    width, height, pixels = _png(picture.read_bytes())
    assert (width, height) == (1000, 800)
    assert len(set(pixels)) > 50  # text, bars and rules, not one blank colour
    ground = max(set(pixels[-3000:]), key=pixels[-3000:].count)
    assert (min(ground) > 200) == (scheme == "light")


def test_the_browser_prints_it_as_pdf(chromium: Chromium, tmp_path: Path) -> None:
    pdf = tmp_path / "report.pdf"
    chromium(_page(tmp_path, reports.sample()), f"--print-to-pdf={pdf}", "--no-pdf-header-footer")
    assert pdf.read_bytes().startswith(b"%PDF-")
    assert pdf.stat().st_size > 20_000


def _png(data: bytes) -> tuple[int, int, list[tuple[int, ...]]]:
    """Width, height and a sample of the pixels of an 8-bit RGB or RGBA picture (PNG specification, sections 9 and 11)."""
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    at, packed, header = 8, b"", b""
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        body = data[at + 8 : at + 8 + length]
        header = body if kind == b"IHDR" else header
        packed += body if kind == b"IDAT" else b""
        at += length + 12
    width, height, depth, colour = struct.unpack(">IIBB", header[:10])
    assert (depth, colour) in {(8, 2), (8, 6)}
    step = 3 if colour == 2 else 4
    raw, stride, above, pixels = zlib.decompress(packed), width * step, bytes(width * step), list[tuple[int, ...]]()
    for row in range(height):
        start = row * (stride + 1)
        above = _unfiltered(raw[start], bytearray(raw[start + 1 : start + 1 + stride]), above, step)
        pixels.extend(tuple(above[column : column + 3]) for column in range(0, stride, step * 7))
    return width, height, pixels


def _unfiltered(kind: int, line: bytearray, above: bytes, step: int) -> bytes:
    if kind == 0:
        return bytes(line)
    for at in range(len(line)):
        left, up, corner = (line[at - step], above[at], above[at - step]) if at >= step else (0, above[at], 0)
        guess = left + up - corner
        nearest = min((abs(guess - left), 0, left), (abs(guess - up), 1, up), (abs(guess - corner), 2, corner))[2]
        line[at] = (line[at] + (0, left, up, (left + up) // 2, nearest)[kind]) & 255
    return bytes(line)
