"""Writes tests/data/bioimage with bioimageio.spec; see the README beside it."""

import sys
from pathlib import Path

import numpy as np
import torch
from bioimageio.spec import save_bioimageio_package_as_folder
from bioimageio.spec.model import v0_4, v0_5
from torch import nn

from blockwise_predict.architectures import CNNectomeUNet, CNNectomeUNetConfig

target, work = Path(sys.argv[1]), Path(sys.argv[2])
work.mkdir(parents=True, exist_ok=True)
torch.manual_seed(0)
unet = CNNectomeUNet(
    CNNectomeUNetConfig("mito", [20] * 3, 2, 1, 2, 2, [[2, 2, 2]], batch_norm=False)
).eval()
for name, parameter in unet.named_parameters():
    if name.endswith("bias"):
        nn.init.uniform_(parameter, 0.0, 0.3)
    else:
        nn.init.kaiming_normal_(parameter)
raw = np.random.default_rng(0).integers(0, 256, (1, 1, 20, 20, 20), np.uint8)
scaled = torch.from_numpy(raw.astype(np.float32)) * 2 / 255 - 1
torch.jit.trace(unet, scaled).save(work / "weights.pt")
with torch.inference_mode():
    output = torch.sigmoid(unet(scaled)).numpy()
np.save(work / "input.npy", raw)
np.save(work / "output.npy", output)
(work / "README.md").write_text("# A tiny network with random weights\n## Validation\nNone.\n")
(work / "cover.png").write_bytes(b"")
common = {
    "name": "tiny network",
    "description": "A tiny network with random weights",
    "license": "MIT",
    "documentation": work / "README.md",
    "git_repo": "https://github.com/bioimage-io/spec-bioimage-io",
}
new = v0_5.ModelDescr(
    **(common | {"documentation": {"source": work / "README.md"}}),
    authors=[v0_5.Author(name="An Author")],
    cite=[v0_5.CiteEntry(text="none", doi="10.1234/none")],
    inputs=[
        v0_5.InputTensorDescr(
            id="raw",
            axes=[
                v0_5.BatchAxis(),
                v0_5.ChannelAxis(channel_names=["raw"]),
                *(
                    v0_5.SpaceInputAxis(
                        id=a, size=v0_5.ParameterizedSize(min=20, step=2), scale=s, unit="nanometer"
                    )
                    for a, s in zip("zyx", (8, 4, 4), strict=True)
                ),
            ],
            test_tensor={"source": work / "input.npy"},
            data=v0_5.IntervalOrRatioDataDescr(type="float32"),
            preprocessing=[
                v0_5.EnsureDtypeDescr(kwargs={"dtype": "float32"}),
                v0_5.ScaleLinearDescr(kwargs={"gain": 2 / 255, "offset": -1.0}),
            ],
        )
    ],
    outputs=[
        v0_5.OutputTensorDescr(
            id="probabilities",
            axes=[
                v0_5.BatchAxis(),
                v0_5.ChannelAxis(channel_names=["mito", "er"]),
                *(
                    v0_5.SpaceOutputAxis(
                        id=a,
                        size=v0_5.SizeReference(tensor_id="raw", axis_id=a, offset=-16),
                        scale=s,
                        unit="nanometer",
                    )
                    for a, s in zip("zyx", (8, 4, 4), strict=True)
                ),
            ],
            test_tensor={"source": work / "output.npy"},
            postprocessing=[v0_5.SigmoidDescr()],
        )
    ],
    weights={"torchscript": {"source": work / "weights.pt", "pytorch_version": "2.13.0"}},
)
save_bioimageio_package_as_folder(new, output_path=target / "v0_5")
old = v0_4.ModelDescr(
    timestamp="2024-01-01T00:00:00+00:00",
    **common,
    authors=[v0_4.Author(name="An Author")],
    cite=[v0_4.CiteEntry(text="none", doi="10.1234/none")],
    inputs=[
        v0_4.InputTensorDescr(
            name="raw",
            data_type="uint8",
            axes="bczyx",
            shape={"min": [1, 1, 20, 20, 20], "step": [0, 0, 2, 2, 2]},
            preprocessing=[
                {
                    "name": "zero_mean_unit_variance",
                    "kwargs": {"mode": "fixed", "axes": "zyx", "mean": 127.5, "std": 127.5},
                }
            ],
        )
    ],
    outputs=[
        v0_4.OutputTensorDescr(
            name="probabilities",
            data_type="float32",
            axes="bczyx",
            shape={"reference_tensor": "raw", "scale": [1.0] * 5, "offset": [0, 0.5, -8, -8, -8]},
            postprocessing=[{"name": "sigmoid"}],
        )
    ],
    test_inputs=[work / "input.npy"],
    test_outputs=[work / "output.npy"],
    weights={"torchscript": {"source": work / "weights.pt", "pytorch_version": "2.13.0"}},
)
save_bioimageio_package_as_folder(old, output_path=target / "v0_4")
