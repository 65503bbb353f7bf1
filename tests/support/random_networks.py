"""Random small networks, for hypothesis to draw."""

from __future__ import annotations

import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from torch import nn

from blockwise_predict.architectures import CNNectomeUNet, CNNectomeUNetConfig, UNetShapes

KERNELS = {"valid": (1, 2, 3, 4, 5), "same": (1, 3, 5)}


@st.composite
def configurations(draw: st.DrawFn) -> CNNectomeUNetConfig:
    """Small networks of every kind."""
    dims = draw(st.sampled_from((2, 3)))
    levels = draw(st.integers(2, 3))
    padding = draw(st.sampled_from(("valid", "same")))
    per_axis = [st.integers(1, 3)] * dims
    kernels = st.lists(st.tuples(*[st.sampled_from(KERNELS[padding])] * dims), min_size=1)
    constant_upsample = draw(st.booleans())
    # Without a convolution, nearest-neighbour upsampling has neither activation nor contraction.
    bare_upsample = constant_upsample and draw(st.booleans())
    contraction = st.lists(st.booleans(), min_size=levels - 1, max_size=levels - 1)
    return CNNectomeUNetConfig(
        name="random",
        input_shape=(1,) * dims,
        fmaps_in=draw(st.integers(1, 2)),
        fmaps_out=draw(st.integers(1, 3)),
        num_fmaps=draw(st.integers(1, 3)),
        fmap_inc_factor=draw(st.integers(1, 3)),
        downsample_factors=[draw(st.tuples(*per_axis)) for _ in range(levels - 1)],
        kernel_size_down=draw(st.none() | st.just([draw(kernels)[:2] for _ in range(levels)])),
        kernel_size_up=draw(st.none() | st.just([draw(kernels)[:2] for _ in range(levels - 1)])),
        upsample_factors=draw(st.lists(st.tuples(*per_axis), max_size=2)),
        constant_upsample=constant_upsample,
        padding=padding,
        use_attention=draw(st.booleans()),
        batch_norm=draw(st.booleans()),
        super_resolution_kernels=draw(st.none() | kernels),
        activation=draw(st.sampled_from(("ReLU", "ELU"))),
        activation_on_upsample=not bare_upsample and draw(st.booleans()),
        upsample_channel_contraction=(
            [False] * (levels - 1) if bare_upsample else draw(st.none() | contraction)
        ),
        upsample_convolution=not bare_upsample,
    )


class WithHead(nn.Module):
    """The whole model: architecture and prediction head, on the meta device."""

    def __init__(self, config: CNNectomeUNetConfig, kernel_size: int, channels: int) -> None:
        super().__init__()
        architecture = CNNectomeUNet(config)
        conv = {2: nn.Conv2d, 3: nn.Conv3d}[architecture.dims]
        self.unet = architecture.unet
        self.prediction_head = conv(config.fmaps_out, channels, kernel_size)
        self.eval_activation = nn.Sigmoid()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.eval_activation(self.prediction_head(self.unet(x)))


def build(config: CNNectomeUNetConfig, kernel_size: int) -> tuple[nn.Module, UNetShapes]:
    with torch.device("meta"):
        model = WithHead(config, kernel_size, 5).eval()
    kernel = (kernel_size,) * len(config.input_shape)
    return model, UNetShapes.from_config(config, kernel, head_channels=5)


def affordable(shape: tuple[int, ...]) -> bool:
    return max(shape) < 4000


SETTINGS = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
