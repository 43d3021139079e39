"""An HTML page as a test reads it: its elements, and its text."""

from __future__ import annotations

import re
from html.parser import HTMLParser

_VOID = {"meta", "wbr", "br", "rect", "line"}


class Page(HTMLParser):
    """The text by element, and every element and attribute that occurs; fails for tags that do not nest."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in _VOID or (tag == "rect" and not (self.get_starttag_text() or "").endswith("/>")):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append((self.open[-1] if self.open else "", data))

    def text(self, tag: str | None = None) -> str:
        shown = [data for within, data in self.texts if within != "style" and tag in (None, within)]
        return re.sub(r"\s+", " ", "".join(shown)).replace("\u202f", " ")

    def tags(self) -> set[str]:
        return {tag for tag, _ in self.elements}
