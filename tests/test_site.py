"""The site that `make docs` builds: strictly, and of nothing that comes from another server."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.support.shared import ROOT

# What a browser loads by itself, or a stylesheet or a page makes it load.
LOADS = {
    **dict.fromkeys(("script", "img", "source", "video", "iframe"), ("src", "srcset", "poster")),
    **{"link": ("href",), "object": ("data",), "use": ("href",)},
}
LEADS_AWAY = re.compile(r"^\s*(?:[a-z]+:)?//")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    return folder


class Resources(HTMLParser):
    """What a page loads, and the text of its paragraphs."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.feed(page.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.loaded += [str(value) for name, value in attrs if name in LOADS.get(tag, ())]


def test_every_page_loads_only_what_is_beside_it(site: Path) -> None:
    pages = [*site.rglob("*.html")]
    assert len(pages) > 20
    for page in pages:
        for target in Resources(page).loaded:
            assert not LEADS_AWAY.match(target), (page.name, target)
            if page.name != "404.html" and not target.startswith("data:"):
                assert (page.parent / target.partition("?")[0]).exists(), (page.name, target)


def test_no_stylesheet_loads_anything_from_elsewhere(site: Path) -> None:
    sheets = [*site.rglob("*.css")]
    assert sheets
    for sheet in sheets:
        for target in re.findall(r"(?:url\(|@import )[\"']?([^\"')\s]+)", sheet.read_text()):
            assert not LEADS_AWAY.match(target), (sheet.name, target)


def test_no_list_is_run_into_the_paragraph_above_it(site: Path) -> None:
    # Markdown of GitHub begins a list there, that of the site does not.
    for page in site.rglob("*.html"):
        for text in re.findall(r"<p>(.*?)</p>", page.read_text(), re.DOTALL):
            assert not re.search(r"^(?:[-*]|\d+\.) ", text, re.MULTILINE), (page.name, text)


def test_what_one_sees_on_github_is_there_too(site: Path) -> None:
    """Links of pages to files of the repository lead to pages with their text."""
    assert "--partition" in (site / "repository" / "workers" / "index.html").read_text()
    assert "fleet" in (site / "repository" / "configs" / "slurm.yaml.html").read_text()
