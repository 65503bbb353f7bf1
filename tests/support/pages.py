"""Pages of HTML, as a parser sees them."""

from __future__ import annotations

import re
from html.parser import HTMLParser

VOID = {"meta", "br", "img", "link", "hr", "wbr"}


class Page(HTMLParser):
    """The elements of a page, which must be balanced."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, key, value or "") for key, value in attrs]
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        # Where lines may be broken, nothing is.
        if self.tags and self.tags[-1] == "wbr" and self.texts:
            self.texts[-1] += data
        else:
            self.texts.append(data)

    @property
    def text(self) -> str:
        """All text, with single spaces."""
        return re.sub(r"\s+", " ", " ".join(self.texts))

    def check_self_contained(self) -> None:
        """That it holds no script, and refers to nothing but itself."""
        assert "script" not in self.tags
        for tag, key, value in self.attributes:
            assert not key.startswith("on"), (tag, key)
            assert key != "style", (tag, key)
            if key in ("src", "href", "action", "data", "srcset"):
                assert value.startswith(("data:image/png;base64,", "#")), value

    def classes(self, name: str) -> int:
        """Number of elements of a class."""
        return sum(key == "class" and name in value.split() for _, key, value in self.attributes)
