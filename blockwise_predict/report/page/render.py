"""Fills the page. Names and texts come from files that strangers may have written: everything is
escaped, and the page's policy allows no script, no style but its own, and no connection."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup, escape

from blockwise_predict.report.readable import readable

_FOLDER = Path(__file__).parent


def render(values: dict[str, Any]) -> str:
    """The text of the page with these values."""
    style = (_FOLDER / "report.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    # A file of this package, which is no text of strangers.
    own = {"style": Markup(style), "style_hash": f"sha256-{digest}"}
    return _template().render(**own, **values)


@cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["breakable"] = _breakable
    return environment.get_template("report.html")


def _shown(value: Any) -> Any:
    """A value as it is shown: texts of strangers without characters that move or hide others."""
    return readable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _breakable(text: str) -> Markup:
    """A text that lines may be broken in after a comma or a slash."""
    # Not as Markup, which would escape what is put into it.
    whole = str(escape(readable(text)))
    return Markup(re.sub(r"([,/])(?=\S)", r"\1<wbr>", whole))
