"""A network in words: the texts that `predict inspect` and a TrainedModel's repr share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from blockwise_predict.architectures import CNNectomeUNetConfig, NetworkShapes
from blockwise_predict.checkpoint.head import Head


def format_shape(sizes: Sequence[int]) -> str:
    """Sizes as the command line takes them: `64,64,64`."""
    return ",".join(map(str, sizes))


def architecture_text(config: CNNectomeUNetConfig) -> str:
    """Kind, name, number of axes and number of levels."""
    dims, levels = len(config.input_shape), len(config.downsample_factors) + 1
    return f"CNNectomeUNet {config.name!r}, {dims}-D, {levels} levels"


def feature_maps_text(config: CNNectomeUNetConfig) -> str:
    """Input channels, feature maps of each level, and output channels of the U-Net."""
    levels = range(len(config.downsample_factors) + 1)
    fmaps = [config.num_fmaps * config.fmap_inc_factor**level for level in levels]
    return f"{config.fmaps_in} -> {format_shape(fmaps)} -> {config.fmaps_out}"


def factors_text(factors: Sequence[Sequence[int]]) -> str:
    """Downsampling or upsampling factors of consecutive steps."""
    return " ".join(map(format_shape, factors))


def layers_text(config: CNNectomeUNetConfig) -> str:
    """The kinds of layers that a network has."""
    traits = {
        f"{config.padding} padding": True,
        "constant upsampling": config.constant_upsample,
        "transposed convolutions": not config.constant_upsample,
        "attention": config.use_attention,
        "batch norm": config.batch_norm,
        f"activation {config.activation}": config.activation != "ReLU",
        "no convolution on upsampling": not config.upsample_convolution,
        "no activation on upsampling": not config.activation_on_upsample,
        f"{config.num_heads} expanding paths": config.num_heads > 1,
    }
    return ", ".join(trait for trait, present in traits.items() if present)


def head_text(head: Head | None, dims: int) -> str:
    """Task, kernel and activation of a prediction head."""
    if head is None:
        return "none"
    kernel = format_shape((head.kernel_size,) * dims)
    return f"{head.task}, convolution of {kernel}, {head.activation or 'no activation'}"


def channels_text(names: Sequence[str]) -> str:
    """Number and names of the output channels."""
    return f"{len(names)}: {', '.join(names)}"


def values_text(output_range: tuple[float, float] | None) -> str:
    """The range that the activation guarantees."""
    return "unbounded" if output_range is None else f"{output_range[0]:g} to {output_range[1]:g}"


def geometry_rows(shapes: NetworkShapes) -> Iterator[tuple[str, str]]:
    """Label and text of context, period and scale."""
    low = [context // 2 for context in shapes.context]
    high = [context - less for context, less in zip(shapes.context, low, strict=True)]
    if low == high:
        yield "context", f"{format_shape(low)} output voxels on each side"
    else:
        yield "context", f"{format_shape(low)} output voxels before, {format_shape(high)} after"
    yield "period", f"{format_shape(shapes.period)} input voxels"
    yield "scale", f"{format_shape(shapes.scale)} output voxels per input voxel"


def align_rows(rows: Sequence[tuple[str, str]]) -> str:
    """Labels and texts as indented lines in two columns."""
    width = max(len(label) for label, _ in rows)
    return "\n".join(f"  {label:{width}}  {text}" for label, text in rows)
