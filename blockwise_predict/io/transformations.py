"""OME-NGFF's coordinate transformations: the scale and the translation of a level.

In 0.4 and 0.5 a level has a list of transformations, after which those of its multiscale apply. In
0.6 (RFC-5) it has one, which may be a sequence, from the array to the coordinate system that it
names as its `output`. That is the "intrinsic" system, which has the axes, and in which an image is
to be viewed and processed (https://ngff.openmicroscopy.org/0.6). Transformations of a multiscale
lead from there to further systems, so they are not applied.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from blockwise_predict.errors import ArrayError, shown
from blockwise_predict.geometry.grid import Lengths
from blockwise_predict.io.kvstore import Json
from blockwise_predict.io.units import exact_numbers

# Maximum number for one array. Two are usual for a level, and two for all levels.
MAX_TRANSFORMATIONS = 16
_SUPPORTED = ("identity", "scale", "translation")


@dataclass(frozen=True)
class Transformations:
    """The transformations of a level, in the order of application, and the `axes` that they lead
    to, as the metadata have them; or the `problem` why they cannot be used. `in_system` tells
    whether the axes are those of a coordinate system, as in 0.6."""

    axes: object
    steps: tuple[Json, ...] = ()
    in_system: bool = False
    problem: str = ""
    notes: tuple[str, ...] = ()

    @property
    def kinds(self) -> set[str]:
        """The types of the transformations."""
        return {str(step["type"]) for step in self.steps}


def read_transformations(multiscale: Json, dataset: Json, place: str) -> Transformations:
    """What the metadata of a multiscale say of one of its levels, which is at `place` in them.

    Raises ArrayError if there are more transformations than `MAX_TRANSFORMATIONS`.
    """
    own, above = _listed(dataset), _listed(multiscale)
    if isinstance(multiscale.get("coordinateSystems"), list):
        return _in_system(multiscale, own, above, place)
    return _checked(multiscale.get("axes"), own + above, place)


def _in_system(multiscale: Json, own: list[Json], above: list[Json], place: str) -> Transformations:
    """Of version 0.6: the axes are those of the coordinate system that a level leads to."""
    systems = {
        system["name"]: system.get("axes")
        for system in multiscale["coordinateSystems"]
        if isinstance(system, dict) and isinstance(system.get("name"), str)
    }
    name = _named(own[-1].get("output")) if own else None
    if name not in systems:
        problem = f"its transformation leads to {shown(name)}, which is no coordinate system of it"
        return Transformations(None, problem=problem)
    found = replace(_checked(systems[name], own, place), in_system=True)
    others = sorted({str(_named(step.get("output"))) for step in above})
    if found.problem or not others:
        return found
    note = (
        f"{place}: lengths are those of its coordinate system {shown(name)}, not of "
        f"{', '.join(map(shown, others))}"
    )
    return replace(found, notes=(note,))


def _named(reference: object) -> str | None:
    """The coordinate system that a reference names: `{"name": NAME}`, in drafts NAME alone."""
    name = reference.get("name") if isinstance(reference, dict) else reference
    return name if isinstance(name, str) else None


def _checked(axes: object, steps: list[Json], place: str) -> Transformations:
    flat = _flattened(steps, place)
    for step in flat:
        if step.get("type") not in _SUPPORTED:
            problem = (
                f"its transformation {shown(step.get('type'))} is not understood; only "
                f"{', '.join(_SUPPORTED)} and sequences of these are"
            )
            return Transformations(axes, problem=problem)
    return Transformations(axes, tuple(flat))


def _listed(level: Json) -> list[Json]:
    found = level.get("coordinateTransformations")
    return [t for t in found if isinstance(t, dict)] if isinstance(found, list) else []


def _flattened(steps: list[Json], place: str) -> list[Json]:
    """The transformations, with those of sequences in the place of these."""
    flat: list[Json] = []
    pending = steps[::-1]
    for _ in range(2 * MAX_TRANSFORMATIONS):
        if not pending:
            break
        step = pending.pop()
        if step.get("type") == "sequence":
            inner = step.get("transformations")
            listed = inner if isinstance(inner, list) else []
            pending += [part for part in listed if isinstance(part, dict)][::-1]
        else:
            flat.append(step)
    if pending or len(flat) > MAX_TRANSFORMATIONS:
        raise ArrayError(
            f"{place} has {len(flat) + len(pending)} transformations; at most "
            f"{MAX_TRANSFORMATIONS} are supported."
        )
    return flat


def compose(steps: Sequence[Json], place: str, ndim: int) -> tuple[Lengths, Lengths]:
    """Scale and translation of transformations that are applied in order.

    Raises ArrayError for values that are missing, or not one number for each axis.
    """
    scale, shift = (Fraction(1),) * ndim, (Fraction(0),) * ndim
    for transform in steps:
        if transform["type"] == "scale":
            factors = _vector(transform, "scale", place, ndim)
            scale = tuple(s * f for s, f in zip(scale, factors, strict=True))
            shift = tuple(s * f for s, f in zip(shift, factors, strict=True))
        elif transform["type"] == "translation":
            added = _vector(transform, "translation", place, ndim)
            shift = tuple(s + a for s, a in zip(shift, added, strict=True))
    return scale, shift


def _vector(transform: Json, key: str, place: str, ndim: int) -> Lengths:
    what = f"{key} in {place}"
    if key not in transform:
        raise ArrayError(f"{what}: the values are missing. Pass --voxel-size and --offset.")
    values = exact_numbers(transform[key], what)
    if len(values) != ndim:
        raise ArrayError(f"{what} has {len(values)} values; the array has {ndim} axes.")
    return values
