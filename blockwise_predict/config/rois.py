"""Several ROIs of one run: from a CSV or JSON file, or a list."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

from funlib.geometry import Roi
from pydantic import PlainSerializer, PlainValidator

from blockwise_predict.config.untrusted import MalformedError, parse_json, read_bounded
from blockwise_predict.errors import GeometryError, shown
from blockwise_predict.geometry.grid import RequestedRoi

# They are part of the run's records and of the output's attributes.
MAX_ROIS = 10_000
MAX_BYTES = 4 << 20

_EXAMPLE = "[1000:2000,0:5000,:]"


def _rois(value: object) -> tuple[RequestedRoi, ...]:
    """ROIs from a list of them, or from the file that a text names."""
    items = _read(Path(value).expanduser()) if isinstance(value, (str, Path)) else value
    if not isinstance(items, (list, tuple)) or not 0 < len(items) <= MAX_ROIS:
        raise ValueError(f"write the path of a .csv or .json file, or a list of 1 to {MAX_ROIS}")
    try:
        return tuple(_roi(item) for item in items)
    except GeometryError as error:
        # The message ends a sentence here.
        raise ValueError(str(error).removesuffix(".")) from None


def _roi(item: object) -> RequestedRoi:
    if isinstance(item, RequestedRoi):
        return item
    if isinstance(item, Roi):
        item = [bound for pair in zip(item.begin, item.end, strict=True) for bound in pair]
    if isinstance(item, (list, tuple)):
        if len(item) not in (4, 6, 8):
            raise ValueError(f"{shown(item)} is not z0, z1, y0, y1, x0, x1")
        item = _text(zip(item[::2], item[1::2], strict=True))
    if not isinstance(item, str):
        raise ValueError(f"{shown(item)} is not a ROI; write for example {_EXAMPLE}")
    return RequestedRoi.parse(item)


def _text(bounds: Iterable[tuple[object, object]]) -> str:
    return f"[{','.join(f'{begin}:{end}' for begin, end in bounds)}]"


def _read(file: Path) -> object:
    if file.suffix not in (".csv", ".json"):
        raise ValueError("the file's name must end in .csv or .json")
    try:
        content = read_bounded(file, MAX_BYTES).decode("utf-8-sig")
        return _from_csv(content) if file.suffix == ".csv" else parse_json(content)
    except OSError as error:
        raise ValueError(f"the file cannot be read ({error.strerror})") from None
    except (MalformedError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"the file is not valid: {error}") from None


def _from_csv(content: str) -> list[str]:
    rows = csv.DictReader(content.splitlines(), skipinitialspace=True, strict=True)
    columns = [name.strip() for name in rows.fieldnames or ()]
    rows.fieldnames = columns
    axes = [axis for axis in "tzyx" if f"{axis}0" in columns or f"{axis}1" in columns]
    needed = [f"{axis}{end}" for axis in axes or "zyx" for end in "01"]
    if missing := [name for name in needed if name not in columns]:
        raise ValueError(
            f"the file's first line, {shown(','.join(columns))}, lacks {', '.join(missing)}: it "
            "must name the columns, z0,z1,y0,y1,x0,x1 in nm"
        )
    return [
        _text(((row[f"{axis}0"] or "").strip(), (row[f"{axis}1"] or "").strip()) for axis in axes)
        for row in rows
    ]


RoisNm = Annotated[
    tuple[RequestedRoi, ...],
    PlainValidator(_rois),
    PlainSerializer(lambda rois: [str(roi) for roi in rois]),
]
