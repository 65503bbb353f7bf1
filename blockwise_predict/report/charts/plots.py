"""Plots over an axis: the course of a quantity, parts of a sum, histograms, a worker's times."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from blockwise_predict.report.charts.svg import element, rectangle, stretched

WIDTH, HEIGHT = 1000.0, 100.0


def area_plot(values: Sequence[float], label: str, titles: Sequence[str]) -> Markup:
    """A quantity in steps of equal length, from 0 to its maximum; `titles` name the steps."""
    top = max(values, default=0) or 1.0
    step = WIDTH / max(1, len(values))
    points = ["M0 100"]
    for number, value in enumerate(values):
        height = HEIGHT * (1 - value / top)
        points.append(f"L{number * step:.2f} {height:.2f}H{(number + 1) * step:.2f}")
    points.append(f"L{WIDTH:g} 100Z")
    lines = [element("path", d=f"M0 {y}H{WIDTH:g}", class_="grid") for y in (0, 25, 50, 75, 100)]
    hover = [
        rectangle(number * step, 0, (step, HEIGHT), "hover", title)
        for number, title in enumerate(titles)
    ]
    area = element("path", d="".join(points), class_="area")
    return stretched(label, WIDTH, HEIGHT, [*lines, area, *hover], "plot")


def stacked_bar(parts: Sequence[tuple[str, float, str]], whole: float, label: str) -> Markup:
    """A bar of `parts` (class, size, title), of which `whole` would fill the width."""
    found, left = [], 0.0
    for class_, size, title in parts:
        width = WIDTH * size / whole if whole else 0.0
        if width > 0:
            found.append(rectangle(left, 0, (width, 10), class_, title))
        left += width
    return stretched(label, WIDTH, 10, found, "bar")


def span_bar(spans: Sequence[tuple[float, float, str, str]], label: str) -> Markup:
    """Spans (begin, end, class, title) of an axis from 0 to 1; later ones lie above earlier ones.

    The shortest spans stay visible.
    """
    rectangles = [
        rectangle(begin * WIDTH, 0, (max(1.0, (end - begin) * WIDTH), 10), class_, title)
        for begin, end, class_, title in spans
    ]
    return stretched(label, WIDTH, 10, rectangles, "bar")


def histogram(counts: Sequence[float], label: str, titles: Sequence[str]) -> Markup:
    """Counts in bins of equal width, on a scale of square roots, so that rare values show."""
    top = max(counts, default=0) ** 0.5 or 1.0
    step = WIDTH / max(1, len(counts))
    bars = []
    for number, (count, title) in enumerate(zip(counts, titles, strict=True)):
        height = HEIGHT * count**0.5 / top
        if height:
            bars.append(
                rectangle(number * step, HEIGHT - height, (step, height), "histogram", title)
            )
    return stretched(label, WIDTH, HEIGHT, bars, "plot small")
