"""Writes the files of this folder with the libraries whose networks they are; see README.md.

Usage: python make.py DACAPO, with bioimageio.core 0.11 and cellmap-models installed, where DACAPO
is the folder of dacapo-ml 0.3.5's package `dacapo`.
"""

from __future__ import annotations

import importlib.util
import sys
import tempfile
import types
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bioimageio.spec import ValidationContext, save_bioimageio_package
from bioimageio.spec.model import v0_5
from cellmap_models.pytorch.cosem.load_model import Architecture
from torch import nn

HERE = Path(__file__).parent
TRIPLE = [[3, 3], [3, 1], [1, 3]]
UNET = {
    "__type__": "CNNectomeUNetConfig",
    "name": "small",
    "_input_shape": [32, 32],
    "fmaps_out": 3,
    "fmaps_in": 1,
    "num_fmaps": 2,
    "fmap_inc_factor": 2,
    "downsample_factors": [[2, 2]],
    "kernel_size_down": [[[3, 3], [3, 3]], TRIPLE],
    "kernel_size_up": [[[3, 3], [3, 3]]],
    "_eval_shape_increase": None,
    "upsample_factors": [[2, 2]],
    "constant_upsample": True,
    "padding": "valid",
    "use_attention": False,
    "batch_norm": False,
}
# DaCapo's names of affinities are not valid in bioimageio.spec 0.5, so its export refuses them.
TASK = {"__type__": "DistanceTaskConfig", "name": "distances", "channels": ["ecs", "pm"]}


def liven(network: nn.Module) -> nn.Module:
    """Weights with which no feature map is zero everywhere."""
    torch.manual_seed(0)
    for name, parameter in network.named_parameters():
        if name.endswith("bias"):
            nn.init.uniform_(parameter, 0.0, 0.3)
        else:
            nn.init.kaiming_normal_(parameter)
    return network.eval()


def seeded_input(*shape: int) -> torch.Tensor:
    """The input, which the tests draw again."""
    return torch.from_numpy(np.random.default_rng(0).random(shape, np.float32))


def dacapo_layers(package: Path) -> Any:
    """DaCapo's module with its U-Net's layers, without what else DaCapo needs."""
    for name, attributes in {
        "funlib": {},
        "funlib.geometry": {"Coordinate": tuple},
        "layers": {"__path__": []},
        "layers.architecture": {"Architecture": nn.Module},
    }.items():
        sys.modules[name] = types.ModuleType(name)
        vars(sys.modules[name]).update(attributes)
    file = package / "experiments" / "architectures" / "cnnectome_unet.py"
    spec = importlib.util.spec_from_file_location("layers.cnnectome_unet", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class NewerModel(nn.Module):
    """The model of DaCapo after 0.3.5: the architecture's module is registered in a chain only.

    Its super-resolution convolutions have the deepest kernels of the contracting path.
    """

    def __init__(self, layers: Any, activation: nn.Module) -> None:
        super().__init__()
        self.eval_activation = activation
        settings = {
            key: UNET[key]
            for key in ("num_fmaps", "fmap_inc_factor", "kernel_size_down", "kernel_size_up")
        }
        unet = layers.CNNectomeUNetModule(
            in_channels=1,
            num_fmaps_out=3,
            downsample_factors=[(2, 2)],
            constant_upsample=True,
            activation_on_upsample=True,
            upsample_channel_contraction=[False],
            batch_norm=False,
            **settings,
        )
        up = layers.Upsample((2, 2), "nearest", 3, 3, activation="ReLU")
        convolutions = layers.ConvPass(3, 3, TRIPLE, activation="ReLU", batch_norm=False)
        self.prediction_head = nn.Conv2d(3, 2, 1)
        self.chain = nn.Sequential(nn.Sequential(unet, up, convolutions), self.prediction_head)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.eval_activation(self.chain(x))


def save(name: str, network: nn.Module, x: torch.Tensor) -> None:
    """State dictionary, shape of the input and output of a network."""
    arrays = {f"param/{key}": value.numpy() for key, value in network.state_dict().items()}
    with torch.inference_mode():
        output = network(x).numpy()
    np.savez_compressed(HERE / f"{name}.npz", output=output, shape=np.array(x.shape), **arrays)


def cosem(factor: float) -> nn.Module:
    """A COSEM network with few feature maps and one level less."""
    threes = [(3,) * 3] * 2
    settings = {
        "downsample_factors": [(2,) * 3, (3,) * 3],
        "feature_widths_down": [2, 4, 8],
        "feature_widths_up": [4, 4, 8],
        "kernel_sizes_down": [threes] * 3,
        "kernel_sizes_up": [threes] * 2,
        "upsample_factor": (factor,) * 3,
        "final_kernel_size": threes,
        "final_feature_width": 4,
        "classes_out": 2,
    }
    return liven(Architecture(types.SimpleNamespace(**settings)))


def export(model: nn.Module, x: torch.Tensor) -> None:
    """A package as DaCapo's save_bioimage_io_model writes it."""
    with torch.inference_mode():
        y = model(x)
    context = tuple(2 * i - o for i, o in zip(x.shape[2:], y.shape[2:], strict=True))
    space_in = [
        v0_5.SpaceInputAxis(
            id=v0_5.AxisId(f"d{i}"), size=v0_5.ParameterizedSize(min=size, step=size), scale=8
        )
        for i, size in enumerate(x.shape[2:])
    ]
    space_out = [
        v0_5.SpaceOutputAxis(
            id=v0_5.AxisId(f"d{i}"),
            size=v0_5.SizeReference(
                tensor_id=v0_5.TensorId("raw"), axis_id=v0_5.AxisId(f"d{i}"), offset=-lost
            ),
            scale=4,
        )
        for i, lost in enumerate(context)
    ]
    channels = [v0_5.Identifier(name) for name in TASK["channels"]]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        (path / "README.md").write_text("# A model trained with DaCapo\n")
        np.save(path / "input_test_image.npy", x.numpy())
        np.save(path / "output_test_image.npy", y.numpy())
        torch.save(model.state_dict(), path / "model.pth")
        with ValidationContext(perform_io_checks=False):
            description = v0_5.ModelDescr(
                name="small",
                description="A model trained with DaCapo",
                authors=[v0_5.Author(name="Test")],
                cite=[v0_5.CiteEntry(text="paper", doi=v0_5.Doi("10.1234something"))],
                license=v0_5.LicenseId("MIT"),
                documentation=v0_5.FileDescr(source=path / "README.md"),
                inputs=[
                    v0_5.InputTensorDescr(
                        id=v0_5.TensorId("raw"),
                        axes=[
                            v0_5.BatchAxis(),
                            v0_5.ChannelAxis(channel_names=[v0_5.Identifier("in_c0")]),
                            *space_in,
                        ],
                        test_tensor=v0_5.FileDescr(source=path / "input_test_image.npy"),
                        data=v0_5.IntervalOrRatioDataDescr(type="float32"),
                    )
                ],
                outputs=[
                    v0_5.OutputTensorDescr(
                        id=v0_5.TensorId("affinities"),
                        axes=[
                            v0_5.BatchAxis(),
                            v0_5.ChannelAxis(channel_names=channels),
                            *space_out,
                        ],
                        test_tensor=v0_5.FileDescr(source=path / "output_test_image.npy"),
                    )
                ],
                weights=v0_5.WeightsDescr(
                    pytorch_state_dict=v0_5.PytorchStateDictWeightsDescr(
                        source=path / "model.pth",
                        architecture=v0_5.ArchitectureFromLibraryDescr(
                            callable=v0_5.Identifier("from_yaml"),
                            kwargs={
                                "config_yaml": {
                                    "name": "small",
                                    "architecture_config": UNET,
                                    "task_config": TASK,
                                    "trainer_config": None,
                                    "datasplit_config": None,
                                    "num_iterations": 1000,
                                }
                            },
                            import_from="dacapo.experiments.run_config",
                        ),
                        pytorch_version=v0_5.Version(torch.__version__),
                    ),
                ),
            )
            save_bioimageio_package(description, output_path=HERE / "dacapo_export.zip")


def main(package: Path) -> None:
    layers = dacapo_layers(package)
    save("dacapo_newer", liven(NewerModel(layers, nn.Sigmoid())), seeded_input(1, 1, 32, 32))
    export(liven(NewerModel(layers, nn.Identity())), seeded_input(1, 1, 32, 32))
    for name, factor in (("cosem", 2.0), ("cosem_setup45", 1.0)):
        network = cosem(factor)
        save(name, network, seeded_input(1, 1, *network.min_input_shape))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
