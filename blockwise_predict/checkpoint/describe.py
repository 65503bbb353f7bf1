"""What `predict inspect` says about a checkpoint."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from blockwise_predict.architectures import UNetShapes
from blockwise_predict.architectures.trace import halo_overhead, peak_elements
from blockwise_predict.checkpoint.trained import TrainedModel

# Beside the shapes of training and evaluation: these multiples of the former.
_TILE_FACTORS = (2, 3, 4)
_BYTES_PER_VALUE = 4


def describe_checkpoint(model: TrainedModel) -> list[tuple[str, str]]:
    """Label and value of each thing worth knowing, in order."""
    shapes = model.shapes
    return [
        ("checkpoint", model.path),
        *([("run", f"{model.run}, iteration {model.iteration}")] if model.run else []),
        *_architecture(model),
        ("parameters", f"{model.num_parameters:,}"),
        ("head", _head(model)),
        ("channels", f"{len(model.channel_names)}: {', '.join(model.channel_names)}"),
        ("values", _values(model)),
        ("context", _context(shapes)),
        ("period", f"{_text(shapes.period)} input voxels"),
        ("scale", f"{_text(shapes.scale)} output voxels per input voxel"),
        ("valid input", f"{_text(shapes.min_input_shape)} + n * {_text(shapes.period)}"),
        *([] if shapes.equivariant else [("fixed tiles", _not_equivariant(shapes))]),
        *_tiles(model),
        ("halo", "arithmetic per output voxel, as a multiple of what an endless tile needs"),
        ("sha256", model.sha256),
    ]


def _architecture(model: TrainedModel) -> Iterator[tuple[str, str]]:
    config, shapes = model.architecture, model.shapes
    levels = len(config.downsample_factors) + 1
    fmaps = [config.num_fmaps * config.fmap_inc_factor**level for level in range(levels)]
    factors = " ".join(_text(factor) for factor in config.downsample_factors)
    yield "architecture", f"CNNectomeUNet {config.name!r}, {shapes.dims}-D, {levels} levels"
    yield "feature maps", f"{config.fmaps_in} -> {_text(fmaps)} -> {config.fmaps_out}"
    yield "downsampling", factors
    if config.upsample_factors:
        yield "super-resolution", " ".join(_text(factor) for factor in config.upsample_factors)
    traits = {
        f"{config.padding} padding": True,
        "constant upsampling": config.constant_upsample,
        "transposed convolutions": not config.constant_upsample,
        "attention": config.use_attention,
        "batch norm": config.batch_norm,
    }
    yield "layers", ", ".join(trait for trait, present in traits.items() if present)


def _head(model: TrainedModel) -> str:
    head = model.head
    if head is None:
        return "none"
    kernel = _text((head.kernel_size,) * model.shapes.dims)
    return f"{head.task}, convolution of {kernel}, {head.activation or 'no activation'}"


def _values(model: TrainedModel) -> str:
    if model.output_range is None:
        return "unbounded"
    return f"{model.output_range[0]:g} to {model.output_range[1]:g}"


def _context(shapes: UNetShapes) -> str:
    low = [context // 2 for context in shapes.context]
    high = [context - less for context, less in zip(shapes.context, low, strict=True)]
    if low == high:
        return f"{_text(low)} output voxels on each side"
    return f"{_text(low)} output voxels before, {_text(high)} after"


def _not_equivariant(shapes: UNetShapes) -> str:
    reasons = []
    if shapes.padding == "same":
        reasons.append(
            f"same padding's zeros reach {_text(shapes.receptive_margin)} output voxels inwards"
        )
    if shapes.use_attention:
        reasons.append("attention depends on where in the tile a voxel lies")
    return "; ".join(reasons)


def _tiles(model: TrainedModel) -> Iterator[tuple[str, str]]:
    shapes, config = model.shapes, model.architecture
    training = tuple(config.input_shape)
    increase = config.eval_shape_increase or (0,) * shapes.dims
    evaluation = tuple(a + b for a, b in zip(training, increase, strict=True))
    wishes = [training, evaluation]
    wishes += [tuple(factor * size for size in training) for factor in _TILE_FACTORS]
    for tile in sorted({shapes.valid_input_shape(wish, "nearest") for wish in wishes}):
        output = shapes.output_shape(tile)
        halo = halo_overhead(shapes, tile)
        memory = peak_elements(shapes, tile) * _BYTES_PER_VALUE / 2**30
        yield (
            f"tile {_text(tile)}",
            f"output {_text(output)}, halo {halo:.3g}x, {memory:.2g} GiB in float32",
        )


def _text(sizes: Sequence[int]) -> str:
    return ",".join(map(str, sizes))
