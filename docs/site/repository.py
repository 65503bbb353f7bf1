"""Hooks of MkDocs: files of the repository that pages link to become pages themselves.

On GitHub, links such as `../configs/slurm.yaml` lead to the file. The site has no such folder, so
it gets a page with the file's text at `repository/configs/slurm.yaml`, and the link leads there.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
FOLDER = "repository"
# Pages of the navigation that no page has to link to.
ALWAYS = ("CHANGELOG.md", "workers/README.md")
LINK = re.compile(r"(?<=\]\()(?!https?:)([^)#\s]+)(?=[)#])")
NAME = re.compile(r"\[([\w/.-]+\.md)\]\((?=\1[)#])")
LANGUAGES = {".py": "python", ".yaml": "yaml", ".sbatch": "bash", ".bsub": "bash", ".sh": "bash"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page for each file of the repository that a page, or such a file, links to."""
    waiting = [ROOT / name for name in ALWAYS]
    for file in files.documentation_pages():
        waiting += _linked(Path(str(file.abs_src_path)))
    while waiting:
        path = waiting.pop()
        uri = _uri(path)
        if uri in files.src_uris:
            continue
        files.append(File.generated(config, uri, content=_text(path)))
        if path.suffix == ".md":
            waiting += _linked(path)
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Turn links to files of the repository into links to their pages, and names of files that are
    links to pages into those pages' titles."""
    here = posixpath.dirname(page.file.src_uri)
    origin = _origin(page.file.src_uri).parent

    def link(match: re.Match[str]) -> str:
        path = (origin / match[1]).resolve()
        if not path.is_file() or not path.is_relative_to(ROOT):
            return match[1]
        return posixpath.relpath(_uri(path), here or ".")

    def title(match: re.Match[str]) -> str:
        path = origin / match[1]
        return f"[{_title(path)}](" if path.is_file() else match[0]

    return LINK.sub(link, NAME.sub(title, markdown))


def _title(page: Path) -> str:
    return page.read_text().partition("\n")[0].removeprefix("# ")


def _linked(page: Path) -> list[Path]:
    """Files outside of docs/ to which a page links."""
    paths = [(page.parent / name).resolve() for name in LINK.findall(page.read_text())]
    return [
        path
        for path in paths
        if path.is_file() and path.is_relative_to(ROOT) and _uri(path).startswith(f"{FOLDER}/")
    ]


def _uri(path: Path) -> str:
    """Where the page of a file of the repository is on the site."""
    if path.is_relative_to(ROOT / "docs") and path.suffix != ".py":
        return path.relative_to(ROOT / "docs").as_posix()
    name = path.relative_to(ROOT).as_posix()
    return f"{FOLDER}/{name}" if path.suffix == ".md" else f"{FOLDER}/{name}.md"


def _origin(uri: str) -> Path:
    """The file of which a page was made."""
    if not uri.startswith(f"{FOLDER}/"):
        return ROOT / "docs" / uri
    path = ROOT / uri.removeprefix(f"{FOLDER}/")
    return path if path.is_file() else path.with_suffix("")


def _text(path: Path) -> str:
    if path.suffix == ".md":
        return path.read_text()
    language = LANGUAGES.get(path.suffix, "text")
    return (
        f"---\nsearch:\n  exclude: true\n---\n# {path.relative_to(ROOT)}\n\n"
        f"`````{language}\n{path.read_text()}\n`````\n"
    )
