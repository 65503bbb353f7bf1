"""Elements of SVG and HTML, with everything in them escaped."""

from __future__ import annotations

from collections.abc import Iterable

from markupsafe import Markup, escape

from blockwise_predict.report.readable import readable


def element(name: str, *children: Markup | str, **attributes: object) -> Markup:
    """An element. Text is escaped; `class_` stands for `class`, `stroke_width` for `stroke-width`;
    attributes that are None are left out."""
    parts = [
        f' {_ATTRIBUTES.get(key, key.replace("_", "-"))}="{escape(_text(value))}"'
        for key, value in attributes.items()
        if value is not None
    ]
    body = "".join(_body(child) for child in children)
    return Markup(f"<{name}{''.join(parts)}>{body}</{name}>")


_ATTRIBUTES = {
    "class_": "class",
    "view_box": "viewBox",
    "aspect": "preserveAspectRatio",
}


def _text(value: object) -> str:
    """A value of an attribute; numbers with no more digits than a picture needs."""
    if isinstance(value, float):
        return f"{value:.2f}".rstrip("0").rstrip(".")
    return readable(str(value))


def _body(child: Markup | str) -> str:
    return child if isinstance(child, Markup) else escape(readable(child))


def stretched(
    label: str, width: float, height: float, children: Iterable[Markup], class_: str
) -> Markup:
    """A plot that takes the size that its style gives it, whatever its own proportions."""
    return element(
        "svg",
        *children,
        view_box=f"0 0 {_text(width)} {_text(height)}",
        aspect="none",
        role="img",
        aria_label=label,
        class_=class_,
    )


def rectangle(
    left: float, top: float, size: tuple[float, float], class_: str, title: str | None = None
) -> Markup:
    """A rectangle, with a text that appears where one points at it."""
    inside = () if title is None else (element("title", title),)
    return element("rect", *inside, x=left, y=top, width=size[0], height=size[1], class_=class_)
