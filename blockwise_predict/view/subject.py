"""What `predict view` shows of an output: its arrays, its input, its mask, and its run."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from blockwise_predict.errors import ArrayError, PredictError
from blockwise_predict.geometry.grid import Lengths
from blockwise_predict.io import output_exists, read_attributes
from blockwise_predict.io.given import Given, given_lengths
from blockwise_predict.io.images import Image, open_image
from blockwise_predict.io.kvstore import Json, join, normalize
from blockwise_predict.plan.model import Plan
from blockwise_predict.plan.parts import ArrayPlan
from blockwise_predict.records.find import find_run
from blockwise_predict.records.provenance import ATTRIBUTE
from blockwise_predict.records.rundir import RunDir
from blockwise_predict.view.names import name_of
from blockwise_predict.view.windows import Window, limits_window

# Decoded chunks of each array in storage that are kept, since what is sent may be parts of them.
CACHE_BYTES = 256 << 20


@dataclass(frozen=True)
class Recorded:
    """A run, by its records."""

    run_dir: RunDir
    plan: Plan


@dataclass(frozen=True)
class Predicted:
    """An array of an output.

    `window` are the stored values that stand for the ends of the values' range; `labels` tells that
    they are numbers of classes.
    """

    name: str
    image: Image
    window: Window
    labels: bool = False


@dataclass(frozen=True)
class Subject:
    """What is shown. `notes` are for the user: what cannot be shown, and why.

    `arrays` are those of an output, none for raw data.
    """

    path: str
    arrays: tuple[Predicted, ...]
    raw: Image | None
    mask: Image | None = None
    run: Recorded | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Input:
    """The input and the mask of a run, and what its user said of the input's place."""

    path: str | None
    mask: str | None
    voxel_size: Lengths | None
    offset: Lengths | None


def open_subject(path: str, run_dir: str | None = None, *, trust_run_dir: bool = False) -> Subject:
    """Open an output of `predict run`, with what its records name, or any other array.

    Raises ArrayError if there is no array, and RunStateError for a `run_dir` that is not its run's.
    """
    is_array = output_exists(path)
    made = read_attributes(path).get(ATTRIBUTE) if is_array else None
    record: Json | None = made if isinstance(made, dict) else None
    notes: list[str] = []
    run = None
    if run_dir is not None or record is not None or not is_array:
        try:
            run = Recorded(*find_run(path, run_dir, trust_run_dir=trust_run_dir))
        except PredictError as error:
            if run_dir is not None:
                raise
            if record is not None:
                notes.append(f"the states of blocks are not shown: {error}")
    if run is not None:
        arrays = _of_plan(path, run.plan, record) if is_array else _of_group(path, run.plan)
        config = run.plan.config
        source = _Input(run.plan.input.path, config.mask, config.voxel_size, config.offset)
    elif record is not None:
        arrays, source = (_of_record(path, record),), _recorded_input(record)
    else:
        return Subject(path, (), open_image(path, cache_bytes=CACHE_BYTES))
    return Subject(
        path=path,
        arrays=arrays,
        raw=_opened("input", source.path, notes, source.voxel_size, source.offset),
        mask=_opened("mask", source.mask, notes),
        run=run,
        notes=tuple(notes),
    )


def _of_group(path: str, plan: Plan) -> tuple[Predicted, ...]:
    """The arrays of a run; they may have been moved, together, since it began."""
    return tuple(
        _predicted(join(normalize(path), array.name), array) for array in plan.output.arrays
    )


def _of_plan(path: str, plan: Plan, record: Json | None) -> tuple[Predicted, ...]:
    """One array of a run: the one that it is by its own record, or else by where it is."""
    arrays = plan.output.arrays
    name = record.get("output_name") if record is not None else None
    named = [array for array in arrays if array.name == name]
    placed = [array for array in arrays if normalize(path).endswith(f"/{array.name}")]
    return (_predicted(path, (*named, *placed, *arrays)[0]),)


def _predicted(path: str, array: ArrayPlan) -> Predicted:
    image = open_image(path, cache_bytes=CACHE_BYTES)
    window = array.window or limits_window(image)
    return Predicted(array.name or name_of(path), image, window, labels=bool(array.classes))


def _of_record(path: str, made: Json) -> Predicted:
    image = open_image(path, cache_bytes=CACHE_BYTES)
    window = (0.0, 1.0) if made.get("postprocess") else limits_window(image)
    return Predicted(name_of(path), image, window, labels=isinstance(made.get("classes"), list))


def _recorded_input(made: Json) -> _Input:
    """The input and the mask, from an array's attributes."""
    source, config = made.get("input"), made.get("config")
    given = config if isinstance(config, dict) else {}
    try:
        place = given_lengths(given.get("voxel_size"), given.get("offset"))
    except ArrayError:
        place = Given()
    path = source.get("path") if isinstance(source, dict) else None
    return _Input(_text(path), _text(given.get("mask")), place.voxel_size, place.offset)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and "\0" not in value else None


def _opened(
    what: str,
    path: str | None,
    notes: list[str],
    voxel_size: tuple[Fraction, ...] | None = None,
    offset: tuple[Fraction, ...] | None = None,
) -> Image | None:
    """An image that records name; None, and a note, if it cannot be opened."""
    if path is None:
        return None
    try:
        return open_image(path, voxel_size=voxel_size, offset=offset, cache_bytes=CACHE_BYTES)
    except ArrayError as error:
        notes.append(f"the {what} is not shown: {error}")
        return None
