"""Where an array lies in the world, and which attribute says so.

Order: the user; funlib's attributes; OME-NGFF; the conventions of N5. The first that gives a voxel
size is used, likewise the first that gives an offset; later ones that disagree are noted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction

from blockwise_predict.errors import ArrayError
from blockwise_predict.geometry.grid import (
    Lengths,
    VoxelGrid,
    format_length,
    format_lengths,
)
from blockwise_predict.io import funlib, n5, ngff, precomputed
from blockwise_predict.io.formats import Node, groups_above
from blockwise_predict.io.frames import Frames, place_frames
from blockwise_predict.io.given import Given, check_given
from blockwise_predict.io.statement import CHANNEL, SPACE, TIME, Axes, Statement
from blockwise_predict.io.units import LARGEST, SMALLEST

_LOOKED_FOR = {"n5": n5.LOOKED_FOR, "precomputed": precomputed.LOOKED_FOR}
ASSUMED_VOXELS = "none found, 1 nm assumed"
"""`voxel_size_source` of an array in memory that says nothing of its place."""

_DEFAULT_NAMES = ("z", "y", "x")
_SAY_AXES = (
    'Name them by axis_names, for example ["c^", "z", "y", "x"]: an attribute of arrays in storage.'
)


@dataclass(frozen=True)
class Placement:
    """Where an array lies: spatial axes in C order, lengths in nm.

    `offset` is the begin corner of voxel 0. If the array has frames, `time_unit` is not None, and
    the first of all values are for time: the interval of frames and when frame 0 begins, in that
    unit (empty: not known). `notes` are lines for the user: values that were
    guessed, sources that disagree.
    """

    axis_names: tuple[str, ...]
    voxel_size: Lengths
    offset: Lengths
    voxel_size_source: str
    offset_source: str
    notes: tuple[str, ...] = ()
    time_unit: str | None = None

    @property
    def grid(self) -> VoxelGrid:
        """The voxel grid."""
        return VoxelGrid(self.voxel_size, self.offset, self.time_unit)

    @property
    def spatial_voxel_size(self) -> Lengths:
        """The voxel size without time."""
        return self.voxel_size[self.grid.has_time :]

    def with_frames(self, frames: Frames, name: str) -> Placement:
        """The same with an axis of time called `name`, before those of space."""
        source = self.voxel_size_source
        if frames.source != source:
            source = f"{source}; frames: {frames.source}"
        return replace(
            self,
            axis_names=(name, *self.axis_names),
            voxel_size=(frames.interval, *self.voxel_size),
            offset=(frames.begin, *self.offset),
            voxel_size_source=source,
            notes=(*self.notes, *frames.notes),
            time_unit=frames.unit,
        )


def place_array(
    node: Node, shape: Sequence[int], given: Given, *, keep_frame: bool = False
) -> tuple[Placement, Axes]:
    """Placement of an array whose stored shape, in C order, is `shape`; and its stored axes.

    A time axis of a single frame has no part in the placement, unless `keep_frame` is set.
    Raises ArrayError if there is no voxel size, or if it stays unclear which axis is the channel.
    """
    with _named(node.location):
        found = _statements(node, len(shape))
    return place(
        node.location,
        shape,
        given,
        found=found,
        looked_for=_LOOKED_FOR.get(node.format, f"{funlib.LOOKED_FOR}; {ngff.LOOKED_FOR}"),
        keep_frame=keep_frame,
    )


def place(
    location: str,
    shape: Sequence[int],
    given: Given,
    *,
    found: list[Statement],
    looked_for: str,
    keep_frame: bool = False,
) -> tuple[Placement, Axes]:
    """`place_array` by statements already `found`; errors name the sources `looked_for`."""
    own = given.statements(found)
    check_given(location, given.names, own, found)
    statements = own + found
    notes = [note for statement in statements for note in statement.notes]
    sized = [s for s in statements if s.voxel_size is not None]
    if not sized:
        reasons = "".join(f" ({note})" for note in notes)
        raise ArrayError(
            f"{location} does not say its voxel size. Looked for: {looked_for}.{reasons} "
            f"Pass {given.names[0]} (nm, in the order z, y, x), and {given.names[1]} if it is not "
            "0."
        )
    axes = _axes(location, shape, statements=statements, sized=sized[0], notes=notes)
    dims = len(axes.of_kind(SPACE))
    offsets = [s for s in statements if s.offset is not None]
    no_offset = Statement("", offset=(Fraction(0),) * dims, offset_source="none found, 0 assumed")
    begin_from = offsets[0] if offsets else no_offset
    with _named(location):
        size = _checked(sized[0].voxel_size, sized[0].voxel_size_source, axes)
        begin = _checked(begin_from.offset, begin_from.offset_source, axes)
    if any(length <= 0 for length in size):
        raise ArrayError(
            f"{location}: {sized[0].voxel_size_source} is {format_lengths(size)}; every axis "
            f"must be positive. Correct it, or pass {given.names[0]}."
        )
    notes += _conflicts(sized, offsets)
    names = tuple(axes.names[index] for index in axes.of_kind(SPACE))
    placement = Placement(
        axis_names=names,
        voxel_size=size,
        offset=begin,
        voxel_size_source=sized[0].voxel_size_source,
        offset_source=begin_from.offset_source,
        notes=tuple(dict.fromkeys(notes + _order_note(names))),
    )
    time = axes.of_kind(TIME)
    if not time or (shape[time[0]] == 1 and not keep_frame):
        return placement, axes
    with _named(location):
        return placement.with_frames(place_frames(statements), axes.names[time[0]]), axes


@contextmanager
def _named(location: str) -> Iterator[None]:
    """Name the array in errors that only name an attribute."""
    try:
        yield
    except ArrayError as error:
        text = str(error)
        raise ArrayError(text if location in text else f"{location}: {text}") from None


def _statements(node: Node, ndim: int) -> list[Statement]:
    if node.format == "precomputed":
        return precomputed.read_statements(node.location, node.metadata, ndim)
    groups = groups_above(node.location)
    if node.format == "n5":
        return n5.read_statements(node, groups, ndim)
    return [
        *funlib.read_statements(node, ndim),
        *ngff.read_statements(node, groups, ndim),
        *ngff.dimension_statements(node, ndim),
    ]


def _axes(
    location: str,
    shape: Sequence[int],
    *,
    statements: list[Statement],
    sized: Statement,
    notes: list[str],
) -> Axes:
    """The first statement's axes that fit the voxel size; else by the number of axes."""
    dims = len(sized.voxel_size or ())
    named = [s.axes for s in statements if s.axes is not None]
    fitting = [axes for axes in named if len(axes.of_kind(SPACE)) == dims]
    axes = fitting[0] if fitting else _axes_from_shape(location, shape, dims, notes)
    if len(axes.of_kind(CHANNEL)) > 1:
        raise ArrayError(
            f"{location} has more than one channel axis ({', '.join(axes.names)}); "
            "one or none can be read."
        )
    times = axes.of_kind(TIME)
    if len(times) > 1 and any(shape[index] != 1 for index in times):
        raise ArrayError(
            f"{location} has more than one time axis ({', '.join(axes.names)}); "
            "one or none can be read."
        )
    if dims not in (2, 3):
        raise ArrayError(f"{location} has {dims} spatial axes; 2 or 3 can be read.")
    return axes


def _axes_from_shape(location: str, shape: Sequence[int], dims: int, notes: list[str]) -> Axes:
    names = _DEFAULT_NAMES[-dims:]
    if len(shape) == dims:
        return Axes(names, (SPACE,) * dims)
    text = "x".join(str(length) for length in shape)
    if len(shape) != dims + 1:
        raise ArrayError(
            f"{location} has shape {text}, but its voxel size has {dims} values: "
            f"which axes are spatial? {_SAY_AXES}"
        )
    shortest = [index for index, length in enumerate(shape) if length == min(shape)]
    if len(shortest) != 1:
        raise ArrayError(
            f"{location} has shape {text} and {dims} spatial axes: which axis is the "
            f"channel? {_SAY_AXES}"
        )
    channel = shortest[0]
    notes.append(
        f"axis {channel} of the shape {text} is taken as channels, being the shortest; no "
        "attribute names the axes"
    )
    kinds = [SPACE] * dims
    kinds.insert(channel, CHANNEL)
    all_names = list(names)
    all_names.insert(channel, "c")
    return Axes(tuple(all_names), tuple(kinds))


def _checked(values: Lengths | None, source: str, axes: Axes) -> Lengths:
    spatial = axes.of_kind(SPACE)
    if values is None or len(values) != len(spatial):
        names = ", ".join(axes.names[index] for index in spatial)
        raise ArrayError(
            f"{source} has {len(values or ())} values; the array has {len(spatial)} spatial axes "
            f"({names}). Give one for each."
        )
    for value in values:
        if value and not SMALLEST <= abs(value) <= LARGEST:
            raise ArrayError(
                f"{source}: {format_length(value)} nm is not between {SMALLEST:g} and "
                f"{LARGEST:g} nm. Correct it, or pass --voxel-size and --offset."
            )
    return values


def _conflicts(sized: list[Statement], offsets: list[Statement]) -> list[str]:
    sizes = [(s.voxel_size_source, s.voxel_size) for s in sized]
    begins = [(s.offset_source, s.offset) for s in offsets]
    return _differing("voxel size", sizes) + _differing("offset", begins)


def _differing(what: str, found: list[tuple[str, Lengths | None]]) -> list[str]:
    notes = []
    for source, value in found[1:]:
        if value != found[0][1]:
            notes.append(
                f"{what}: {source} says {format_lengths(value or ())}; "
                f"{format_lengths(found[0][1] or ())} of {found[0][0]} is used"
            )
    return notes


def _order_note(names: tuple[str, ...]) -> list[str]:
    if names == tuple(sorted(names)) and set(names) <= {"x", "y", "z"}:
        return [f"the axes are stored in the order {', '.join(names)} and are used in this order"]
    return []
