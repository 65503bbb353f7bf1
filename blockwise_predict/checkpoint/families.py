"""Families of networks, recognised by the names and shapes of their tensors."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blockwise_predict.architectures import CNNectomeUNetConfig, UNetShapes
from blockwise_predict.checkpoint.from_tensors import Shapes, TensorSettings, settings_of
from blockwise_predict.checkpoint.head import Head, Names
from blockwise_predict.checkpoint.outputs import NetworkOutput
from blockwise_predict.checkpoint.tasks import TaskHead

ACTIVATION, NORMALIZATION = "activation", "normalization"

# The input of training: fly_organelles' run.py, and DaCapo's counterpart of COSEM's networks.
_FLY_ORGANELLES_INPUT = 178
_COSEM_INPUT = 216
# Channels and super-resolution of the published setups (cellmap_models.pytorch.cosem).
_COSEM_SETUPS: dict[str, tuple[int, Names]] = {
    "setup04": (
        2,
        (
            *("ecs", "pm", "mito", "mito_mem", "ves", "ves_mem", "endo", "endo_mem"),
            *("er", "er_mem", "eres", "nuc", "mt", "mt_out"),
        ),
    ),
    "setup26.1": (2, ("mito", "mito_mem", "mito_ribo")),
    "setup28": (2, ("er", "er_mem")),
    "setup36": (2, ("nuc", "nucleo")),
    "setup45": (1, ("ecs", "pm")),
}


@dataclass(frozen=True)
class Family:
    """A network whose configuration follows from its tensors and the family they belong to.

    reason: what it was recognised by, and what was taken from the family.
    undeclared: what the file does not say and the family leaves to the user.
    named_outputs: those of a network with several. task_heads: the heads of its tasks, if it is
        described by tasks.
    """

    name: str
    reason: str
    config: CNNectomeUNetConfig
    head: Head | None
    channel_names: Names
    undeclared: tuple[str, ...]
    named_outputs: tuple[NetworkOutput, ...] = ()
    task_heads: tuple[TaskHead, ...] = ()

    @property
    def text(self) -> str:
        """Name and reason, for `predict inspect`."""
        return f"{self.name}: {self.reason}"


def recognise(
    shapes: Shapes, folders: Sequence[str] = (), known: Mapping[str, Any] | None = None
) -> Family | None:
    """The family of the tensors with these names and shapes, if they determine the network.

    folders: names of the file and of the folders it is in: COSEM's networks of one shape differ in
        what the setup is called.
    known: keys of CNNectomeUNetConfig found elsewhere, such as the `downsample_factors` in the
        graph of a TorchScript file, which tensors do not tell.
    """
    tensors = settings_of(shapes)
    if tensors is None:
        return None
    family = _fly_organelles(tensors, shapes) or _cosem(tensors, shapes, folders)
    if family is None and known is not None:
        family = _described(tensors, shapes, known)
    return family


def key_style(names: Iterable[str]) -> str:
    """Which program names its tensors like this."""
    listed = [name for name in names if not name.startswith("prediction_head.")]
    for prefix, program in (
        ("unet_backbone.", "fly_organelles"),
        ("backbone.", "COSEM in cellmap-models"),
        ("architecture.", "DaCapo up to 0.3.5"),
        ("chain.0.", "DaCapo after 0.3.5"),
    ):
        if any(name.startswith(prefix) for name in listed):
            return f"{program} (tensors {prefix}*)"
    return "CNNectomeUNet or funlib.learn.torch's UNet (tensors l_conv.*)"


def unrecognised(shapes: Shapes) -> str:
    """Why an architecture must be described, for a file that `recognise` does not know."""
    tensors = settings_of(shapes)
    if tensors is None:
        return "its architecture is unknown"
    if _has_cosem_layers(tensors):
        return (
            "its tensors fit both COSEM's networks and DaCapo's counterpart of them. COSEM's are "
            "recognised in a folder with the name of the setup, for example setup04/975000: "
            f"{', '.join(_COSEM_SETUPS)}"
        )
    missing = [key for key in tensors.undetermined if key not in ("padding", "activation")]
    return (
        f"its tensors are those of a CNNectomeUNet ({key_style(shapes)}), which do not determine "
        f"its {' and '.join(missing) or 'padding and activation'}"
    )


def _fly_organelles(tensors: TensorSettings, shapes: Shapes) -> Family | None:
    """StandardUnet of fly_organelles, whose layers leave no doubt about its factors."""
    settings, standard = tensors.settings, [(3, 3, 3)]
    if not (
        any("unet_backbone." in name for name in shapes)
        and settings["kernel_size_down"] == [standard * 3] * 4
        and settings["kernel_size_up"] == [standard * 2] * 3
        and settings["constant_upsample"]
        and not settings.get("upsample_convolution", True)
        and tensors.head is not None
    ):
        return None
    config = _config(
        "fly_organelles", tensors, [(2, 2, 2)] * 3, _FLY_ORGANELLES_INPUT, upsample_factors=None
    )
    head = tensor_head(tensors, "fly_organelles")
    return Family(
        "fly_organelles",
        "tensors unet_backbone.* and final_conv.*, none for upsampling: funlib.learn.torch's UNet; "
        "four levels of StandardUnet's kernels, so its factors 2,2,2 2,2,2 2,2,2 and ReLU",
        config,
        head,
        numbered_channels(head.channels),
        (ACTIVATION, NORMALIZATION),
    )


def _cosem(tensors: TensorSettings, shapes: Shapes, folders: Sequence[str]) -> Family | None:
    """A published network of COSEM, in a file or folder with the name of its setup."""
    named = {_setup_of(folder) for folder in folders} - {None}
    if len(named) != 1 or not _has_cosem_layers(tensors):
        return None
    setup = named.pop() or ""
    factor, names = _COSEM_SETUPS[setup]
    if tensors.head is None or tensors.head[0] != len(names):
        return None
    factors = [(2, 2, 2), (3, 3, 3), (3, 3, 3)]
    config = _config(setup, tensors, factors, _COSEM_INPUT, upsample_factors=[(factor,) * 3])
    config.activation_on_upsample = False
    return Family(
        "COSEM",
        f"the layers of {setup} in cellmap-models, in a folder of that name; {key_style(shapes)}; "
        "no activation on upsampling",
        config,
        tensor_head(tensors, "distance"),
        names,
        (NORMALIZATION,),
    )


def _has_cosem_layers(tensors: TensorSettings) -> bool:
    settings = tensors.settings
    pair = [(3, 3, 3)] * 2
    return (
        (settings["num_fmaps"], settings["fmap_inc_factor"]) == (12, 6)
        and (settings["fmaps_in"], settings["fmaps_out"]) == (1, 72)
        and settings["kernel_size_down"] == [pair] * 4
        and settings["kernel_size_up"] == [pair] * 3
        and settings["constant_upsample"]
        and "upsample_factors" in tensors.undetermined
        and not settings.keys()
        & {"upsample_convolution", "upsample_channel_contraction", "super_resolution_kernels"}
        and not (settings["use_attention"] or settings["batch_norm"])
    )


def _setup_of(folder: str) -> str | None:
    """The setup in the name of a file or folder, such as `setup26.1` or `cosem-setup26_1.pth`."""
    for setup in _COSEM_SETUPS:
        pattern = re.escape(setup).replace(r"\.", "[._]")
        if re.search(rf"{pattern}(?!\d)", folder):
            return setup
    return None


def _described(tensors: TensorSettings, shapes: Shapes, known: Mapping[str, Any]) -> Family | None:
    """A CNNectomeUNet of which everything that tensors do not tell is known."""
    needed = [key for key in tensors.undetermined if key not in ("padding", "activation")]
    if any(key not in known for key in needed):
        return None
    settings = {**tensors.settings, **known}
    settings.setdefault("input_shape", (1,) * tensors.dims)
    config = CNNectomeUNetConfig(name="network", **settings)
    if "input_shape" not in known:
        config.input_shape = UNetShapes.from_config(config).min_input_shape
    head = None if tensors.head is None else tensor_head(tensors, "unknown")
    return Family(
        "CNNectomeUNet",
        f"{key_style(shapes)}; {', '.join(sorted(known))} from outside the tensors",
        config,
        head,
        numbered_channels(config.fmaps_out if head is None else head.channels),
        (ACTIVATION, NORMALIZATION),
    )


def _config(
    name: str,
    tensors: TensorSettings,
    factors: Sequence[tuple[int, ...]],
    edge: int,
    upsample_factors: Sequence[tuple[int, ...]] | None,
) -> CNNectomeUNetConfig:
    config = CNNectomeUNetConfig(
        name=name,
        input_shape=(edge,) * tensors.dims,
        downsample_factors=factors,
        upsample_factors=upsample_factors,
        **tensors.settings,
    )
    config.input_shape = UNetShapes.from_config(config).valid_input_shape(config.input_shape)
    return config


def tensor_head(tensors: TensorSettings, task: str) -> Head:
    """The prediction head in the tensors, without an activation, which they do not tell."""
    assert tensors.head is not None
    channels, _, *kernel = tensors.head
    return Head(task, kernel[0], channels, None)


def numbered_channels(count: int) -> Names:
    """Names of channels that nobody has named."""
    return tuple(f"channel_{number}" for number in range(count))


def names_above(file: Path) -> list[str]:
    """The names of a file and of the two folders above it."""
    path = file.absolute()
    return [path.name, *(folder.name for folder in list(path.parents)[:2])]
