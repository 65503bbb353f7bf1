"""Writes tests/data/cellmap with cellmap-models' own exporter; see the README beside it."""

import sys

import torch
from cellmap_models.model_export import ModelMetadata, config, export_metadata, export_torch_model
from torch import nn

from blockwise_predict.architectures import CNNectomeUNet, CNNectomeUNetConfig


class Model(nn.Module):
    """As DaCapo's Model: every layer is registered twice."""

    def __init__(self, architecture, prediction_head, eval_activation):
        super().__init__()
        self.architecture = architecture
        self.prediction_head = prediction_head
        self.chain = nn.Sequential(architecture, prediction_head)
        self.eval_activation = eval_activation

    def forward(self, x):
        result = self.chain(x)
        if not self.training and self.eval_activation is not None:
            result = self.eval_activation(result)
        return result


torch.manual_seed(0)
unet = CNNectomeUNet(
    CNNectomeUNetConfig("mito", [20] * 3, 4, 1, 2, 2, [[2, 2, 2]], batch_norm=False)
)
model = Model(unet, nn.Conv3d(4, 2, 1), nn.Sigmoid() if sys.argv[2] == "sigmoid" else None)
for name, parameter in model.named_parameters():
    if name.endswith("bias"):
        nn.init.uniform_(parameter, 0.0, 0.3)
    else:
        nn.init.kaiming_normal_(parameter)
config.EXPORT_FOLDER = sys.argv[1]
export_metadata(
    ModelMetadata(
        model_name=sys.argv[2],
        model_type="CNNectomeUNet",
        framework="dacapo/torch",
        spatial_dims=3,
        in_channels=1,
        out_channels=2,
        iteration=1000,
        input_voxel_size=[8, 8, 8],
        output_voxel_size=[8, 8, 8],
        channels_names=["mito", "er"],
        input_shape=[20, 20, 20],
        output_shape=[4, 4, 4],
        inference_input_shape=[60, 60, 60],
        inference_output_shape=[44, 44, 44],
        author="an author",
        description="A tiny network with random weights",
    )
)
export_torch_model(model, (1, 1, 20, 20, 20), f"{sys.argv[1]}/{sys.argv[2]}")
