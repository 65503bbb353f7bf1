"""Where an array lies in the world, and from which attribute that is known.

Order: the command line; funlib's attributes; OME-NGFF; the conventions of N5. The first that gives
a voxel size is used, likewise the first that gives an offset; a later one that disagrees is noted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction

from blockwise_predict.errors import ArrayError
from blockwise_predict.geometry.grid import Lengths, format_length, format_lengths
from blockwise_predict.io import funlib, n5, ngff
from blockwise_predict.io.formats import Node, groups_above
from blockwise_predict.io.statement import CHANNEL, SPACE, TIME, Axes, Statement
from blockwise_predict.io.units import LARGEST, SMALLEST

_DEFAULT_NAMES = ("z", "y", "x")
_SAY_AXES = 'Say it in the array\'s attributes, for example "axis_names": ["c^", "z", "y", "x"].'


@dataclass(frozen=True)
class Placement:
    """Where an array lies: spatial axes in C order, lengths in nm.

    `offset` is the begin corner of voxel 0. `notes` are lines for the user: values that were
    guessed, places that disagree.
    """

    axis_names: tuple[str, ...]
    voxel_size: Lengths
    offset: Lengths
    voxel_size_source: str
    offset_source: str
    notes: tuple[str, ...] = ()


def place_array(
    node: Node,
    shape: Sequence[int],
    *,
    voxel_size: Sequence[Fraction] | None = None,
    offset: Sequence[Fraction] | None = None,
) -> tuple[Placement, Axes]:
    """Placement of an array whose stored shape, in C order, is `shape`; and its stored axes.

    `voxel_size` and `offset` (nm) override what the attributes say. Raises ArrayError if there is
    no voxel size, or if it stays unclear which axis is the channel.
    """
    given = _given(voxel_size, offset)
    with _named(node):
        found = _statements(node, len(shape))
    _check_given(node, given, found)
    statements = given + found
    notes = [note for statement in statements for note in statement.notes]
    sized = [s for s in statements if s.voxel_size is not None]
    if not sized:
        raise ArrayError(_nothing_found(node, notes))
    axes = _axes(node, shape, statements, sized[0], notes)
    dims = len(axes.of_kind(SPACE))
    offsets = [s for s in statements if s.offset is not None]
    no_offset = Statement("", offset=(Fraction(0),) * dims, offset_source="none found, 0 assumed")
    begin_from = offsets[0] if offsets else no_offset
    with _named(node):
        size = _checked(sized[0].voxel_size, sized[0].voxel_size_source, axes)
        begin = _checked(begin_from.offset, begin_from.offset_source, axes)
    if any(length <= 0 for length in size):
        raise ArrayError(
            f"{node.location}: {sized[0].voxel_size_source} is {format_lengths(size)}; every axis "
            "must be positive. Correct it, or pass --voxel-size."
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
    return placement, axes


@contextmanager
def _named(node: Node) -> Iterator[None]:
    """Name the array in errors that name an attribute alone."""
    try:
        yield
    except ArrayError as error:
        text = str(error)
        raise ArrayError(text if node.location in text else f"{node.location}: {text}") from None


def _given(
    voxel_size: Sequence[Fraction] | None, offset: Sequence[Fraction] | None
) -> list[Statement]:
    if voxel_size is None and offset is None:
        return []
    size = tuple(voxel_size) if voxel_size is not None else None
    begin = tuple(offset) if offset is not None else None
    return [Statement("the command line", size, begin, "--voxel-size", "--offset")]


def _check_given(node: Node, given: list[Statement], found: list[Statement]) -> None:
    """Raise ArrayError if the command line gives more or fewer values than the attributes have."""
    lengths_found = [
        (source, len(values))
        for s in found
        for source, values in ((s.voxel_size_source, s.voxel_size), (s.offset_source, s.offset))
        if values is not None
    ]
    for own in given:
        for option, values in (("--voxel-size", own.voxel_size), ("--offset", own.offset)):
            for source, count in lengths_found:
                if values is not None and len(values) != count:
                    raise ArrayError(
                        f"{option} {','.join(map(format_length, values))} has {len(values)} values "
                        f"for {node.location}; {source} has {count}. Give one per spatial axis."
                    )


def _statements(node: Node, ndim: int) -> list[Statement]:
    groups = groups_above(node.location)
    if node.format == "n5":
        return n5.read_statements(node, groups, ndim)
    return [
        *funlib.read_statements(node, ndim),
        *ngff.read_statements(node, groups, ndim),
        *ngff.dimension_statements(node, ndim),
    ]


def _nothing_found(node: Node, notes: list[str]) -> str:
    looked_for = n5.LOOKED_FOR if node.format == "n5" else f"{funlib.LOOKED_FOR}; {ngff.LOOKED_FOR}"
    reasons = "".join(f" ({note})" for note in notes)
    return (
        f"{node.location} does not say its voxel size. Looked for: {looked_for}.{reasons} "
        "Pass --voxel-size (nm, in the order z, y, x), and --offset if it is not 0."
    )


def _axes(
    node: Node,
    shape: Sequence[int],
    statements: list[Statement],
    sized: Statement,
    notes: list[str],
) -> Axes:
    """The first statement's axes that fit the voxel size; else by the number of axes."""
    dims = len(sized.voxel_size or ())
    named = [s.axes for s in statements if s.axes is not None]
    fitting = [axes for axes in named if len(axes.of_kind(SPACE)) == dims]
    axes = fitting[0] if fitting else _axes_from_shape(node, shape, dims, notes)
    if len(axes.of_kind(CHANNEL)) > 1:
        raise ArrayError(
            f"{node.location} has more than one channel axis ({', '.join(axes.names)}); "
            "one or none can be read."
        )
    for index in axes.of_kind(TIME):
        if shape[index] != 1:
            raise ArrayError(
                f"{node.location} has {shape[index]} time points (axis {axes.names[index]!r}); "
                "only a single one can be read. Extract one time point first."
            )
    if dims not in (2, 3):
        raise ArrayError(f"{node.location} has {dims} spatial axes; 2 or 3 can be read.")
    return axes


def _axes_from_shape(node: Node, shape: Sequence[int], dims: int, notes: list[str]) -> Axes:
    names = _DEFAULT_NAMES[-dims:]
    if len(shape) == dims:
        return Axes(names, (SPACE,) * dims)
    text = "x".join(str(length) for length in shape)
    if len(shape) != dims + 1:
        raise ArrayError(
            f"{node.location} has shape {text}, but its voxel size has {dims} values: "
            f"which axes are spatial? {_SAY_AXES}"
        )
    shortest = [index for index, length in enumerate(shape) if length == min(shape)]
    if len(shortest) != 1:
        raise ArrayError(
            f"{node.location} has shape {text} and {dims} spatial axes: which axis is the "
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
