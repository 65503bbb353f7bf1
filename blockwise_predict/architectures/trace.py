"""Every operation of a CNNectomeUNet's forward pass, and the cost of the pass.

Operations are named after their modules, so a trace can be compared with the network itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod

from blockwise_predict.architectures.interface import Shape
from blockwise_predict.architectures.operations import FeatureMap, LayerTrace
from blockwise_predict.architectures.shapes import UNetShapes

# Input voxels along every axis, so many that the context accounts for less than 1/1000.
ENDLESS = 10**6


def trace(shapes: UNetShapes, input_shape: Sequence[int]) -> list[LayerTrace]:
    """Every operation of a forward pass, in the order of execution.

    Raises RuntimeError for an invalid input shape.
    """
    shapes.output_shape(input_shape)
    tracer = _Tracer(shapes)
    tracer.network(FeatureMap(shapes.channels.fmaps_in, tuple(input_shape)))
    return tracer.layers


def flops(shapes: UNetShapes, input_shape: Sequence[int]) -> int:
    """Arithmetic of a forward pass's convolutions, 2 per multiply-add; the rest is negligible."""
    return sum(layer.flops for layer in trace(shapes, input_shape))


def flops_without_halo(shapes: UNetShapes) -> float:
    """Arithmetic per output voxel of a pass so large that its context is negligible."""
    shape = shapes.valid_input_shape((ENDLESS,) * shapes.dims)
    return flops(shapes, shape) / prod(shapes.output_shape(shape))


def halo_overhead(shapes: UNetShapes, input_shape: Sequence[int]) -> float:
    """Arithmetic per output voxel relative to `flops_without_halo`; 1 means no overhead."""
    per_voxel = flops(shapes, input_shape) / prod(shapes.output_shape(input_shape))
    return per_voxel / flops_without_halo(shapes)


def peak_elements(shapes: UNetShapes, input_shape: Sequence[int]) -> int:
    """Largest number of values in memory during a forward pass."""
    return max(layer.live_elements for layer in trace(shapes, input_shape))


@dataclass
class _Tracer:
    """Follows a forward pass, module by module, and records its operations in `layers`.

    `held` is always the number of values that the caller keeps in memory meanwhile.
    """

    shapes: UNetShapes
    layers: list[LayerTrace] = field(default_factory=list)

    def record(
        self,
        name: str,
        kind: str,
        source: FeatureMap,
        result: FeatureMap,
        *,
        held: int,
        kernel: Shape = (),
        products: int = 0,
    ) -> FeatureMap:
        """Record an operation; `products` is its multiply-adds per output value."""
        self.layers.append(
            LayerTrace(
                name=name,
                kind=kind,
                in_channels=source.channels,
                out_channels=result.channels,
                in_shape=source.shape,
                out_shape=result.shape,
                kernel_size=kernel or (1,) * self.shapes.dims,
                flops=2 * products * result.elements,
                held_elements=held,
            )
        )
        return result

    def network(self, source: FeatureMap) -> None:
        """U-Net, super-resolution and head."""
        shapes, channels = self.shapes, self.shapes.channels
        prefix = "unet.0." if shapes.upsample_factors else "unet."
        result = self.level(prefix, 0, source, held=0)
        held = source.elements
        out = channels.fmaps_out
        for step, factor in enumerate(shapes.upsample_factors):
            name = f"unet.{2 * step + 1}.up"
            up = self.upsample(name, result, out, factor, constant=True, pointwise=True, held=held)
            name = f"unet.{2 * step + 2}"
            kernels = shapes.super_resolution_kernels
            result = self.conv_pass(name, up, out, kernels, same=False, held=held)
        if channels.head is not None:
            kernel = shapes.head_kernel_size
            head = self.conv(
                "prediction_head", result, channels.head, kernel, same=False, held=held
            )
            self.record("eval_activation", "activation", head, head, held=held)

    def level(self, prefix: str, level: int, source: FeatureMap, *, held: int) -> FeatureMap:
        """A level and all levels below it."""
        shapes, channels = self.shapes, self.shapes.channels
        same = shapes.padding == "same"
        skip = self.conv_pass(
            f"{prefix}l_conv.{level}",
            source,
            channels.down(level),
            shapes.kernel_size_down[level],
            same=same,
            held=held,
        )
        if level == 0:
            held = source.elements  # the network's input, which its caller keeps
        if level == len(shapes.downsample_factors):
            return skip
        factor = shapes.downsample_factors[level]
        small = FeatureMap(skip.channels, _divided(skip.shape, factor))
        pooled = self.record(
            f"{prefix}l_down.{level}.down", "pool", skip, small, held=held, kernel=factor
        )
        below = self.level(prefix, level + 1, pooled, held=held + skip.elements)
        # The deepest level is shared; above it, each head has its own map.
        is_shared = level + 1 == len(shapes.downsample_factors)
        held += 0 if is_shared else (channels.heads - 1) * below.elements
        for head in range(channels.heads):
            result = self.up_path(prefix, level, head, below, skip, held=held)
            held += result.elements
        return result

    def up_path(
        self, prefix: str, level: int, head: int, below: FeatureMap, skip: FeatureMap, *, held: int
    ) -> FeatureMap:
        """The expanding path of a level for one head."""
        shapes, channels = self.shapes, self.shapes.channels
        factor = shapes.downsample_factors[level]
        held_at_merge = held + skip.elements
        if shapes.use_attention:
            self.attention(f"{prefix}attention.{head}.{level}", level, below, skip, held=held)
            held_at_merge += skip.elements  # the gated copy
        up = self.upsample(
            f"{prefix}r_up.{head}.{level}.up",
            below,
            channels.upsampled(level),
            factor,
            constant=channels.constant_upsample,
            pointwise=channels.upsample_convolution,
            held=held_at_merge,
        )
        held_at_merge += below.elements
        cropped = tuple(
            axis.cropped_size(level, size) for axis, size in zip(shapes.axes, up.shape, strict=True)
        )
        merged = FeatureMap(skip.channels + up.channels, cropped)
        self.record(f"{prefix}r_up.{head}.{level}", "concat", up, merged, held=held_at_merge)
        return self.conv_pass(
            f"{prefix}r_conv.{head}.{level}",
            merged,
            channels.up(level),
            shapes.kernel_size_up[level],
            same=shapes.padding == "same",
            held=held_at_merge,
        )

    def conv_pass(
        self,
        name: str,
        source: FeatureMap,
        out: int,
        kernels: Sequence[Shape],
        *,
        same: bool,
        held: int,
        activation: bool = True,
    ) -> FeatureMap:
        """Convolutions; the caller keeps the input of the first until the last is done."""
        layer, result, norm = 0, source, self.shapes.channels.batch_norm
        for number, kernel in enumerate(kernels):
            kept = held + (source.elements if number else 0)
            conv = f"{name}.conv_pass.{layer}"
            result = self.conv(conv, result, out, kernel, same=same, held=kept)
            kept = held + source.elements
            if norm:
                name_of_norm = f"{name}.conv_pass.{layer + 1}"
                self.record(name_of_norm, "norm", result, result, held=kept)
            if activation:
                name_of_activation = f"{name}.conv_pass.{layer + 1 + norm}"
                self.record(name_of_activation, "activation", result, result, held=kept)
            layer += 1 + norm + activation
        return result

    def conv(
        self, name: str, source: FeatureMap, out: int, kernel: Shape, *, same: bool, held: int
    ) -> FeatureMap:
        """One convolution."""
        pads = (k // 2 * 2 if same else 0 for k in kernel)
        sizes = zip(source.shape, pads, kernel, strict=True)
        result = FeatureMap(out, tuple(size + pad - k + 1 for size, pad, k in sizes))
        products = source.channels * prod(kernel)
        return self.record(
            name, "conv", source, result, held=held, kernel=kernel, products=products
        )

    def upsample(
        self,
        name: str,
        source: FeatureMap,
        out: int,
        factor: Shape,
        *,
        constant: bool,
        pointwise: bool,
        held: int,
    ) -> FeatureMap:
        """Upsampling and activation: nearest, also with a 1x1 convolution, or transposed."""
        shape = tuple(size * f for size, f in zip(source.shape, factor, strict=True))
        activation = self.shapes.channels.activation_on_upsample
        kept = held + source.elements
        if constant:
            result = repeated = FeatureMap(source.channels, shape)
            # A single layer is not wrapped in a Sequential.
            first = f"{name}.0" if pointwise or activation else name
            self.record(first, "upsample", source, repeated, held=held, kernel=factor)
            if pointwise:
                ones = (1,) * self.shapes.dims
                result = self.conv(f"{name}.1", repeated, out, ones, same=False, held=kept)
        else:
            result = FeatureMap(out, shape)
            # Kernel and stride are equal: each output voxel depends on one input voxel.
            self.record(
                f"{name}.0" if activation else name,
                "transposed_conv",
                source,
                result,
                held=held,
                kernel=factor,
                products=source.channels,
            )
        if activation:
            self.record(f"{name}.{1 + constant}", "activation", result, result, held=kept)
        return result

    def attention(
        self, name: str, level: int, below: FeatureMap, skip: FeatureMap, *, held: int
    ) -> None:
        """The attention gate of a skip connection, controlled by the level below."""
        shapes, channels = self.shapes, self.shapes.channels
        inner = channels.upsampled(level) if level else channels.fmaps_out
        ones = [(1,) * shapes.dims] * 2
        factor = shapes.downsample_factors[level]
        wide = self.conv_pass(
            f"{name}.W_x.0",
            skip,
            inner,
            ones,
            same=False,
            held=held + below.elements,
            activation=False,
        )
        small = FeatureMap(inner, _divided(skip.shape, factor))
        held += skip.elements
        self.record(
            f"{name}.W_x.1.down", "pool", wide, small, held=held + below.elements, kernel=factor
        )
        held += small.elements
        gating = self.conv_pass(
            f"{name}.W_g", below, inner, ones, same=False, held=held, activation=False
        )
        held += below.elements
        self.record(name, "pad", gating, small, held=held)
        self.record(f"{name}.relu", "activation", small, small, held=held)
        held += small.elements
        gate = self.conv_pass(f"{name}.psi", small, 1, ones, same=False, held=held)
        full = FeatureMap(1, skip.shape)
        self.record(f"{name}.up", "upsample", gate, full, held=held, kernel=factor)
        self.record(name, "gate", full, skip, held=held)


def _divided(shape: Shape, factor: Shape) -> Shape:
    return tuple(size // f for size, f in zip(shape, factor, strict=True))
