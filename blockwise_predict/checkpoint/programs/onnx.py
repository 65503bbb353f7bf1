"""ONNX files, run by onnxruntime, which computes its own operators and executes nothing else."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
from torch import nn

from blockwise_predict.checkpoint.probing.probe import Hints
from blockwise_predict.checkpoint.probing.sizes import Candidate
from blockwise_predict.checkpoint.programs.loaded import USUAL_CHANNELS, Loaded
from blockwise_predict.checkpoint.programs.module import JoinedOutputs
from blockwise_predict.errors import CheckpointError, shortened

_KIND = "ONNX"
# Of onnxruntime's messages, only fatal ones: it logs each shape that does not fit.
_FATAL = 4
_PROVIDERS = ("CUDAExecutionProvider", "CPUExecutionProvider")
_FLOAT32 = "tensor(float)"


def is_onnx(file: Path) -> bool:
    """Whether a file is called an ONNX file; its content has no mark of its own."""
    return file.suffix == ".onnx"


def load_onnx(file: Path) -> Loaded:
    """The program of an ONNX file, weights included.

    Raises CheckpointError if onnxruntime is not installed or cannot read the file, or if the
    network does not take one float32 tensor of a 2-D or 3-D image.
    """
    try:
        import onnxruntime
    except ImportError:
        raise CheckpointError(
            f"{file}: ONNX files need onnxruntime. Install blockwise-predict[onnx]."
        ) from None
    try:
        data = file.read_bytes()
        settings = onnxruntime.SessionOptions()
        settings.log_severity_level = _FATAL
        settings.intra_op_num_threads = torch.get_num_threads()
        available = onnxruntime.get_available_providers()
        providers = [name for name in _PROVIDERS if name in available]
        # From memory: a file could name further files that hold its weights.
        session = onnxruntime.InferenceSession(data, settings, providers=providers)
    except Exception as error:  # noqa: BLE001 - of classes that onnxruntime does not name
        reason = shortened(str(error).strip()).rstrip(".")
        raise CheckpointError(
            f"{file} cannot be read as ONNX: {reason}. Weights must be in the same file."
        ) from None
    return Loaded(
        kind=_KIND,
        module=JoinedOutputs(OnnxNetwork(session)),
        sha256=hashlib.sha256(data).hexdigest(),
        hints=_hints(file, session.get_inputs()),
    )


class OnnxNetwork(nn.Module):
    """A session of onnxruntime as a torch module."""

    def __init__(self, session: Any) -> None:
        super().__init__()
        self._session = session
        self._input = session.get_inputs()[0].name
        self._outputs = [output.name for output in session.get_outputs()]

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """The outputs by their names, on the input's device."""
        given = {self._input: x.detach().float().contiguous().cpu().numpy()}
        results = self._session.run(self._outputs, given)
        return {
            name: torch.from_numpy(result).to(x.device)
            for name, result in zip(self._outputs, results, strict=True)
        }

    def __deepcopy__(self, memo: object) -> OnnxNetwork:
        # A session cannot be copied, and has nothing that changes.
        return self


def _hints(file: Path, inputs: list[Any]) -> Hints:
    shapes = [f"{one.name} {one.type} {one.shape}" for one in inputs]
    if len(inputs) != 1 or inputs[0].type != _FLOAT32 or len(inputs[0].shape) not in (4, 5):
        raise CheckpointError(
            f"{file} takes {'; '.join(shapes)}. A network must take one tensor of float32, "
            "(batch, channels, spatial axes), 2-D or 3-D."
        )
    _, channels, *spatial = inputs[0].shape
    dims = len(spatial)
    known = [channels] if isinstance(channels, int) else USUAL_CHANNELS
    fixed = [isinstance(size, int) for size in spatial]
    shape = tuple(spatial) if all(fixed) else None
    candidates = [Candidate(dims, number) for number in known]
    return Hints(candidates, shape, fixed, symbolic=False)
