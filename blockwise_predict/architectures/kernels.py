"""The kernels of a network: the defaults, and what acts of them on an input with time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from blockwise_predict.architectures.interface import Shape

Kernels = tuple[tuple[Shape, ...], ...]


class NetworkKernels(NamedTuple):
    """Kernels of the contracting and of the expanding path, by level.

    In a network with time, kernels of four components (t, z, y, x) act in time, and those of three
    on each frame. `frames` is the number of frames of its output: with one, time was dropped on the
    way. It is None for a network without time.
    """

    down: Sequence[Sequence[Sequence[int]]]
    up: Sequence[Sequence[Sequence[int]]]
    frames: int | None = None


def default_kernels(dims: int, levels: int) -> list[list[Shape]]:
    """Two convolutions with kernel 3 along every axis, for each level."""
    return [[(3,) * dims, (3,) * dims]] * levels


def nested(shapes: Iterable[Sequence[int]]) -> tuple[Shape, ...]:
    """Sequences of numbers as tuples."""
    return tuple(tuple(shape) for shape in shapes)


def network_kernels(config: Any) -> NetworkKernels:
    """The kernels of a network, as they act on an input of `config.input_shape`.

    `config` has the fields of CNNectomeUNetConfig. With four axes, the first is time. Kernels of
    four components act in time as long as there is more than one frame. When a convolution has left
    one frame, time is dropped, and only the (z, y, x) of later kernels acts. Raises RuntimeError if
    there is one frame only or nothing acts in time, if a kernel acts on more frames than are left,
    and for what is not implemented with time.
    """
    dims, steps = len(config.input_shape), len(config.downsample_factors)
    down = config.kernel_size_down or default_kernels(dims, steps + 1)
    up = config.kernel_size_up or default_kernels(dims, steps)
    if dims != 4:
        if acts_in_time((*down, *up)):
            raise RuntimeError(f"a kernel has four components, but input_shape has {dims} axes")
        return NetworkKernels(down, up)
    check_time(config.padding, config.use_attention, config.upsample_factors or ())
    if not acts_in_time((*down, *up)):
        raise RuntimeError("input_shape has a time axis, but no kernel has four components")
    frames = int(config.input_shape[0])
    if frames == 1:
        raise RuntimeError("input_shape has a time axis of one frame; leave it out")
    acting: list[list[Shape]] = []
    # In the order of execution: down to the deepest level, and up again.
    for level in (*down[: steps + 1], *up[:steps][::-1]):
        kernels, frames = _acting_on(frames, nested(level))
        acting.append(kernels)
    depth = len(down[: steps + 1])
    return NetworkKernels(acting[:depth], acting[depth:][::-1], frames)


def _acting_on(frames: int, kernels: Iterable[Shape]) -> tuple[list[Shape], int]:
    """What acts of consecutive kernels on `frames` frames, and the number of frames they leave."""
    acting: list[Shape] = []
    for kernel in kernels:
        if len(kernel) == 4 and frames > 1:
            if kernel[0] > frames:
                raise RuntimeError(
                    f"kernel {kernel} acts on {kernel[0]} frames, but {frames} are left of "
                    "input_shape's"
                )
            frames -= kernel[0] - 1
            acting.append(kernel)
        else:
            acting.append(kernel[-3:])
    return acting, frames


def acts_in_time(kernels: Iterable[Iterable[Sequence[int]]]) -> bool:
    """Whether any kernel of some levels has four components."""
    return any(len(kernel) == 4 for level in kernels for kernel in level)


def with_time(shapes: Iterable[Sequence[int]]) -> tuple[Shape, ...]:
    """Factors or kernels of (z, y, x) as (t, z, y, x), 1 in time."""
    return tuple((*(1,) * (4 - len(shape)), *shape) for shape in shapes)


def check_time(
    padding: str, use_attention: bool, upsample_factors: Sequence[Sequence[int]]
) -> None:
    """Raise RuntimeError for what is not implemented in networks with time."""
    found = {
        f"padding {padding!r}": padding != "valid",
        "attention": use_attention,
        "super-resolution": len(upsample_factors) > 0,
    }
    for kind in (kind for kind, present in found.items() if present):
        raise RuntimeError(f"{kind} is not implemented for networks with a time axis")


def check_dims(name: str, shapes: Iterable[Sequence[int]], dims: int) -> None:
    """Raise RuntimeError unless all factors or kernels called `name` have `dims` components."""
    for shape in shapes:
        if len(shape) != dims:
            raise RuntimeError(f"{name} has {shape}, but the network is {dims}-D")
