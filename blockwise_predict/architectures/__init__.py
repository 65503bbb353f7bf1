"""DaCapo's CNNectomeUNet and its shape arithmetic."""

from blockwise_predict.architectures.cnnectome_unet import CNNectomeUNet
from blockwise_predict.architectures.config import CNNectomeUNetConfig
from blockwise_predict.architectures.frames import Conv4d
from blockwise_predict.architectures.heads import OutputActivations, SeparateHeads
from blockwise_predict.architectures.interface import NetworkShapes
from blockwise_predict.architectures.layers import (
    AttentionBlockModule,
    ConvPass,
    Downsample,
    Upsample,
)
from blockwise_predict.architectures.operations import LayerTrace
from blockwise_predict.architectures.shapes import UNetShapes
from blockwise_predict.architectures.unet import CNNectomeUNetModule

__all__ = [
    "AttentionBlockModule",
    "CNNectomeUNet",
    "CNNectomeUNetConfig",
    "CNNectomeUNetModule",
    "Conv4d",
    "ConvPass",
    "Downsample",
    "LayerTrace",
    "NetworkShapes",
    "OutputActivations",
    "SeparateHeads",
    "UNetShapes",
    "Upsample",
]
