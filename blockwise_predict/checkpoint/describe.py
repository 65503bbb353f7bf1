"""The description of a checkpoint that `predict inspect` prints."""

from __future__ import annotations

from collections.abc import Iterator

from blockwise_predict.architectures import UNetShapes
from blockwise_predict.architectures.trace import halo_overhead, peak_elements
from blockwise_predict.checkpoint.activation import declaration_rows
from blockwise_predict.checkpoint.programs import OpaqueModel
from blockwise_predict.checkpoint.summary import (
    architecture_text,
    channels_text,
    factors_text,
    feature_maps_text,
    format_shape,
    geometry_rows,
    head_text,
    layers_text,
    values_text,
)
from blockwise_predict.checkpoint.trained import TrainedModel
from blockwise_predict.checkpoint.unet_model import UNetModel

# Tiles are listed at the shapes of training and evaluation, and at these multiples of the former.
_TILE_FACTORS = (2, 3, 4)
_BYTES_PER_VALUE = 4


def describe_checkpoint(model: TrainedModel) -> list[tuple[str, str]]:
    """Label and text of each property, in the order to be shown."""
    if isinstance(model, OpaqueModel):
        return [("checkpoint", model.path), *model.rows(), ("sha256", model.sha256)]
    assert isinstance(model, UNetModel)
    return _describe_unet(model)


def _describe_unet(model: UNetModel) -> list[tuple[str, str]]:
    shapes = model.shapes
    return [
        ("checkpoint", model.path),
        *([("run", f"{model.run}, iteration {model.iteration}")] if model.run else []),
        *model.record.items(),
        *declaration_rows(model),
        *_architecture(model),
        ("parameters", f"{model.num_parameters:,}"),
        *_outputs(model),
        *geometry_rows(shapes),
        (
            "valid input",
            f"{format_shape(shapes.min_input_shape)} + n * "
            f"{format_shape([axis.step for axis in shapes.axes])}",
        ),
        *([("time", _time_text(model))] if shapes.has_time else []),
        *([] if shapes.equivariant else [("fixed tiles", _not_equivariant(shapes))]),
        *_tiles(model),
        ("halo", "arithmetic per output voxel, relative to an endless tile"),
        ("sha256", model.sha256),
    ]


def _architecture(model: UNetModel) -> Iterator[tuple[str, str]]:
    config = model.architecture
    yield "architecture", architecture_text(config)
    yield "feature maps", feature_maps_text(config)
    yield "downsampling", factors_text(config.downsample_factors)
    if config.upsample_factors:
        yield "super-resolution", factors_text(config.upsample_factors)
    yield "layers", layers_text(config)


def _time_text(model: UNetModel) -> str:
    length = model.architecture.input_shape[0]
    if model.shapes.time_dropped:
        return f"{length} frames give one; then the network is 3-D"
    frames = length - model.shapes.context[0]
    return f"{length} frames, as in training, give {frames}; more give more"


def _outputs(model: UNetModel) -> Iterator[tuple[str, str]]:
    if not model.named_outputs:
        yield "head", head_text(model.head, len(model.architecture.downsample_factors[0]))
        yield "channels", channels_text(model.channel_names)
        yield "values", values_text(model.output_range)
    for output in model.named_outputs:
        values = f"{values_text(output.output_range)}, {output.activation or 'no activation'}"
        yield f"output {output.name}", f"{channels_text(output.channel_names)}; {values}"


def _not_equivariant(shapes: UNetShapes) -> str:
    reasons = []
    if shapes.padding == "same":
        reasons.append(
            f"same padding's zeros reach {format_shape(shapes.receptive_margin)} output voxels "
            "into the tile"
        )
    if shapes.use_attention:
        reasons.append("attention depends on a voxel's position in the tile")
    return "; ".join(reasons)


def _tiles(model: UNetModel) -> Iterator[tuple[str, str]]:
    shapes, config = model.shapes, model.architecture
    training = tuple(config.input_shape)
    increase = config.eval_shape_increase or (0,) * shapes.dims
    evaluation = tuple(a + b for a, b in zip(training, increase, strict=True))
    wanted = [training, evaluation]
    wanted += [tuple(factor * size for size in training) for factor in _TILE_FACTORS]
    for tile in sorted({shapes.valid_input_shape(shape, "nearest") for shape in wanted}):
        output = shapes.output_shape(tile)
        halo = halo_overhead(shapes, tile)
        memory = peak_elements(shapes, tile) * _BYTES_PER_VALUE / 2**30
        yield (
            f"tile {format_shape(tile)}",
            f"output {format_shape(output)}, halo {halo:.3g}x, {memory:.2g} GiB in float32",
        )
