"""Every operation of a CNNectomeUNet's forward pass, and what the pass costs.

The names are those of the modules, so a trace can be laid beside the network itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod

from blockwise_predict.architectures.shapes import Shape, UNetShapes

# Input voxels along every axis, far beyond what fits anywhere: the context's share is below 1/1000.
ENDLESS = 10**6


@dataclass(frozen=True)
class LayerTrace:
    """One operation. Shapes are spatial, `flops` counts 2 per multiply-add.

    kind: 'conv', 'transposed_conv', 'norm', 'activation', 'pool', 'upsample', 'concat', 'pad' or
        'gate'.
    in_channels, in_shape: of what it works on; a concatenation's other part is held.
    held_elements: values per batch item that must be kept meanwhile, beside input and output: skip
        connections, and what the caller of a part still holds.
    """

    name: str
    kind: str
    in_channels: int
    out_channels: int
    in_shape: Shape
    out_shape: Shape
    kernel_size: Shape
    flops: int
    held_elements: int

    @property
    def live_elements(self) -> int:
        """Values in memory while it runs: input, output and held."""
        taken = self.in_channels * prod(self.in_shape)
        return taken + self.out_channels * prod(self.out_shape) + self.held_elements


@dataclass(frozen=True)
class _Map:
    """A feature map."""

    channels: int
    shape: Shape

    @property
    def elements(self) -> int:
        return self.channels * prod(self.shape)


def trace(shapes: UNetShapes, input_shape: Sequence[int]) -> list[LayerTrace]:
    """Every operation of a forward pass, in the order they run.

    Raises RuntimeError for an input shape that the network cannot take.
    """
    shapes.output_shape(input_shape)
    tracer = _Tracer(shapes)
    tracer.network(_Map(shapes.channels.fmaps_in, tuple(input_shape)))
    return tracer.layers


def flops(shapes: UNetShapes, input_shape: Sequence[int]) -> int:
    """Arithmetic of a forward pass, 2 per multiply-add of a convolution; the rest is small."""
    return sum(layer.flops for layer in trace(shapes, input_shape))


def flops_without_halo(shapes: UNetShapes) -> float:
    """Arithmetic per output voxel of a pass so large that its context does not count."""
    shape = shapes.valid_input_shape((ENDLESS,) * shapes.dims)
    return flops(shapes, shape) / prod(shapes.output_shape(shape))


def halo_overhead(shapes: UNetShapes, input_shape: Sequence[int]) -> float:
    """Arithmetic per output voxel of this pass, relative to `flops_without_halo`; 1 is none."""
    per_voxel = flops(shapes, input_shape) / prod(shapes.output_shape(input_shape))
    return per_voxel / flops_without_halo(shapes)


def peak_elements(shapes: UNetShapes, input_shape: Sequence[int]) -> int:
    """Values in memory at the fullest moment of a forward pass: input, output and held."""
    return max(layer.live_elements for layer in trace(shapes, input_shape))


@dataclass
class _Tracer:
    shapes: UNetShapes
    layers: list[LayerTrace] = field(default_factory=list)

    def add(
        self,
        name: str,
        kind: str,
        taken: _Map,
        given: _Map,
        held: int,
        kernel: Shape = (),
        products: int = 0,
    ) -> _Map:
        """Record an operation; `products` are the multiply-adds per output value."""
        flops = 2 * products * given.elements
        self.layers.append(
            LayerTrace(
                name,
                kind,
                taken.channels,
                given.channels,
                taken.shape,
                given.shape,
                kernel or (1,) * self.shapes.dims,
                flops,
                held,
            )
        )
        return given

    def network(self, taken: _Map) -> None:
        shapes, channels = self.shapes, self.shapes.channels
        prefix = "unet.0." if shapes.upsample_factors else "unet."
        result = self.level(prefix, 0, taken, 0)
        held = taken.elements
        for step, factor in enumerate(shapes.upsample_factors):
            up = self.upsample(
                f"unet.{2 * step + 1}.up", result, channels.fmaps_out, factor, True, held
            )
            kernels = shapes.kernel_size_up[-1]
            name = f"unet.{2 * step + 2}"
            result = self.conv_pass(name, up, channels.fmaps_out, kernels, False, held)
        if channels.head is not None:
            kernel = shapes.head_kernel_size
            head = self.conv("prediction_head", result, channels.head, kernel, False, held)
            self.add("eval_activation", "activation", head, head, held)

    def level(self, prefix: str, level: int, taken: _Map, held: int) -> _Map:
        shapes, channels = self.shapes, self.shapes.channels
        same = shapes.padding == "same"
        kernels = shapes.kernel_size_down[level]
        name = f"{prefix}l_conv.{level}"
        left = self.conv_pass(name, taken, channels.left(level), kernels, same, held)
        if level == 0:
            held = taken.elements  # the network's input: it is the caller's
        if level == len(shapes.downsample_factors):
            return left
        factor = shapes.downsample_factors[level]
        small = _Map(left.channels, tuple(s // f for s, f in zip(left.shape, factor, strict=True)))
        pooled = self.add(f"{prefix}l_down.{level}.down", "pool", left, small, held, factor)
        below = self.level(prefix, level + 1, pooled, held + left.elements)
        held_skip = held + left.elements + below.elements
        if shapes.use_attention:
            self.attention(f"{prefix}attention.0.{level}", level, below, left, held)
            held_skip += left.elements
        up = self.upsample(
            f"{prefix}r_up.0.{level}.up",
            below,
            channels.upsampled(level),
            factor,
            channels.constant_upsample,
            held_skip - below.elements,
        )
        cropped = _Map(
            up.channels,
            tuple(
                axis.cropped_size(level, size)
                for axis, size in zip(shapes.axes, up.shape, strict=True)
            ),
        )
        joined = _Map(left.channels + up.channels, cropped.shape)
        joined = self.add(f"{prefix}r_up.0.{level}", "concat", up, joined, held_skip)
        kernels = shapes.kernel_size_up[level]
        out = channels.right(level)
        name = f"{prefix}r_conv.0.{level}"
        return self.conv_pass(name, joined, out, kernels, same, held_skip)

    def conv_pass(
        self,
        name: str,
        taken: _Map,
        out: int,
        kernels: Sequence[Shape],
        same: bool,
        held: int,
        activation: bool = True,
    ) -> _Map:
        """Convolutions; the input of the first is held by the caller until the last is done."""
        layer, result, norm = 0, taken, self.shapes.channels.batch_norm
        for number, kernel in enumerate(kernels):
            kept = held + (taken.elements if number else 0)
            result = self.conv(f"{name}.conv_pass.{layer}", result, out, kernel, same, kept)
            kept = held + taken.elements
            if norm:
                self.add(f"{name}.conv_pass.{layer + 1}", "norm", result, result, kept)
            if activation:
                step = f"{name}.conv_pass.{layer + 1 + norm}"
                self.add(step, "activation", result, result, kept)
            layer += 1 + norm + activation
        return result

    def conv(self, name: str, taken: _Map, out: int, kernel: Shape, same: bool, held: int) -> _Map:
        pads = (k // 2 * 2 if same else 0 for k in kernel)
        sizes = zip(taken.shape, pads, kernel, strict=True)
        given = _Map(out, tuple(size + pad - k + 1 for size, pad, k in sizes))
        products = taken.channels * prod(kernel)
        return self.add(name, "conv", taken, given, held, kernel, products)

    def upsample(
        self, name: str, taken: _Map, out: int, factor: Shape, constant: bool, held: int
    ) -> _Map:
        """Upsampling, as constant values and a 1x1 convolution or transposed, and activation."""
        shape = tuple(size * f for size, f in zip(taken.shape, factor, strict=True))
        if constant:
            repeated = _Map(taken.channels, shape)
            self.add(f"{name}.0", "upsample", taken, repeated, held, factor)
            ones, kept = (1,) * self.shapes.dims, held + taken.elements
            result = self.conv(f"{name}.1", repeated, out, ones, False, kept)
        else:
            result = _Map(out, shape)
            # Kernel and stride are equal: each output voxel is reached by one input voxel.
            self.add(f"{name}.0", "transposed_conv", taken, result, held, factor, taken.channels)
        kept = held + taken.elements
        return self.add(f"{name}.{1 + constant}", "activation", result, result, kept)

    def attention(self, name: str, level: int, below: _Map, left: _Map, held: int) -> None:
        """The gate on a skip connection: `left` weighted by what `below` says."""
        shapes, channels = self.shapes, self.shapes.channels
        between = channels.upsampled(level) if level else channels.fmaps_out
        ones = [(1,) * shapes.dims] * 2
        factor = shapes.downsample_factors[level]
        wide = self.conv_pass(
            f"{name}.W_x.0", left, between, ones, False, held + below.elements, activation=False
        )
        small = _Map(between, tuple(s // f for s, f in zip(left.shape, factor, strict=True)))
        held += left.elements + below.elements
        self.add(f"{name}.W_x.1.down", "pool", wide, small, held, factor)
        held += small.elements
        gating = self.conv_pass(
            f"{name}.W_g", below, between, ones, False, held - below.elements, activation=False
        )
        self.add(name, "pad", gating, small, held)
        self.add(f"{name}.relu", "activation", small, small, held)
        held += small.elements
        gate = self.conv_pass(f"{name}.psi", small, 1, ones, False, held)
        full = _Map(1, left.shape)
        self.add(f"{name}.up", "upsample", gate, full, held, factor)
        self.add(name, "gate", full, left, held)
