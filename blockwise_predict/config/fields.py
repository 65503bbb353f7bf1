"""Every option of a run, declared once: type, default, limits, and what it means to the user.

The options of the command `predict`, the keys of its YAML files and docs/reference.md are made from
these fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

from blockwise_predict.config.normalize import Normalize, rule_of_input
from blockwise_predict.config.option import Group, option
from blockwise_predict.config.per_output import OutputDtypes, OutputRanges, Postprocesses
from blockwise_predict.config.values import (
    Activation,
    BadInput,
    Border,
    Factory,
    Format,
    LengthsNm,
    Memory,
    PathText,
    PathTexts,
    Precision,
    RoiNm,
    Shape,
)


class PredictionOptions(BaseModel):
    """What can be asked of a run. Shapes in voxels, lengths in nm, axes ([t,] z, y, x)."""

    # Built when the first value is checked: `--help` and the shell's completion check none.
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    checkpoint: PathTexts = option(
        ...,
        Group.CHECKPOINT,
        "DaCapo run (BASE/RUN), iteration file, weights (.pt, .safetensors), program (.ts, .pt2, "
        ".onnx), cellmap-models or bioimage.io package, or hf://OWNER/REPO[@REVISION][/PATH]. "
        "Given more than once (a list in YAML): the mean of their predictions.",
        metavar="PATH",
        repeatable=True,
        example="dacapo/my_run",
    )
    iteration: int | None = option(
        None, Group.CHECKPOINT, "Iteration of a DaCapo run.", unset="the latest", ge=0, lt=1 << 63
    )
    architecture: PathTexts | None = option(
        None,
        Group.CHECKPOINT,
        "Architecture of bare weights: one for all, or one for each --checkpoint.",
        metavar="YAML",
        repeatable=True,
        example="configs/architecture.yaml",
    )
    activation: Activation | None = option(
        None, Group.CHECKPOINT, "Activation after a network without one.", unset="the package's"
    )
    unsafe_load_pickle: bool = option(
        False,
        Group.CHECKPOINT,
        "Open a checkpoint that runs code when it is opened. Only for files you made yourself.",
        exclude=True,
    )

    factory: Factory | None = option(
        None,
        Group.CHECKPOINT,
        "Function that builds the network from the checkpoint's path; this executes its code.",
        metavar="MODULE:NAME",
        example="my_networks.py:build",
        exclude=True,
    )

    input: PathText = option(
        ...,
        Group.INPUT,
        "Array to predict from: container and name; a path or an s3://, gs:// or http(s):// URL. "
        "Of an OME-NGFF group the level with the network's voxel size.",
        metavar="ARRAY",
        example="volume.zarr/raw",
    )
    voxel_size: LengthsNm | None = option(
        None,
        Group.INPUT,
        "Size of the input's voxels in nm; of frames also the interval, in the data's unit.",
        metavar="[T,]Z,Y,X",
        unset="from the input's attributes",
        example="4.24,4,4",
    )
    offset: LengthsNm | None = option(
        None,
        Group.INPUT,
        "Position in nm of the first voxel's lower corner; of frames also the first one's time.",
        metavar="[T,]Z,Y,X",
        unset="from the input's attributes",
    )
    model_voxel_size: LengthsNm | None = option(
        None,
        Group.INPUT,
        "Voxel size in nm that the network was trained at. The input's must be the same.",
        metavar="Z,Y,X",
        unset="the checkpoint's, if it states one",
        example="8,8,8",
    )
    allow_voxel_size_mismatch: bool = option(
        False,
        Group.INPUT,
        "Predict from voxels of another size than the network was trained at.",
    )
    resample: bool = option(
        False,
        Group.INPUT,
        "Resample an input of other voxels, as it is read, to the size that the network was "
        "trained at: with antialiasing to larger ones, linearly to smaller ones.",
    )
    border: Border = option(
        "reflect",
        Group.INPUT,
        "How the context is filled beyond the volume's border (constant: with 0); valid predicts "
        "only where the whole context exists.",
    )
    bad_input: BadInput = option(
        "fill-missing",
        Group.INPUT,
        "What to do with a block whose input has missing or damaged chunks. fill-missing: use the "
        "fill value for chunks that are not stored, as zarr and N5 mean it, and fail for damaged "
        "ones; fill: use it for damaged ones as well; fail: fail the block; skip: leave it out. "
        "Blocks that were filled or left out are reported and recorded.",
    )
    normalize: Normalize | None = option(
        None,
        Group.INPUT,
        "Values for the network: auto (uint8 / 255, uint16 / 65535, floats as they are), none, "
        "range:LOW,HIGH (to 0..1), percentiles:LOW,HIGH (of a sample of the ROI; to 0..1), omero "
        "(from the window in OME-NGFF metadata), zscore:MEAN,STD, or zscore:auto (of a sample). "
        "Two more numbers are other bounds than 0,1 (range:0,255,-1,1; the larger first inverts); "
        ":clip at the end clips to them.",
        metavar="RULE",
        unset="the checkpoint's rule, else auto",
        example="range:0,255,-1,1",
    )

    output: PathText = option(
        ...,
        Group.OUTPUT,
        "Array to write: container and name. For a network with several outputs a group, in which "
        "each has its array.",
        metavar="ARRAY",
        example="predictions.zarr/affs",
    )
    format: Format | None = option(
        None,
        Group.OUTPUT,
        "Storage format.",
        unset="by the output's name or container, else zarr3",
    )
    output_dtype: OutputDtypes = option(
        "float32",
        Group.OUTPUT,
        "Data type of the output: uint8, int8, uint16, int16, float16 or float32. With several "
        "outputs also by name: affs=uint8,lsds=float32.",
        metavar="DTYPE",
    )
    output_range: OutputRanges | None = option(
        None,
        Group.OUTPUT,
        "Values that an integer data type spans; those outside are clipped. Also by name.",
        metavar="LOW,HIGH",
        unset="0,1 after a sigmoid",
    )
    postprocess: Postprocesses | None = option(
        None,
        Group.OUTPUT,
        "Store a decision instead of values, as integers. threshold:VALUE: 1 where the network's "
        "value, after its activation, is at least VALUE, else 0, for each channel; argmax: the "
        "number of the channel with the largest value. Also by name: mito=threshold:0.5.",
        metavar="RULE",
        unset="none: values are stored",
        example="threshold:0.5",
    )
    chunk_shape: Shape | None = option(
        None,
        Group.OUTPUT,
        "Chunks of the output in voxels. Chunks larger than the ROI keep their size, so that the "
        "ROI can be extended later, and hold zeros beyond it.",
        metavar="Z,Y,X",
        unset="64,64,64 (of single frames), or the ROI where that is smaller",
    )
    pyramid: bool = option(
        False,
        Group.OUTPUT,
        "When every block is predicted, make downsampled levels, as predict pyramid does.",
    )
    roi: RoiNm | None = option(
        None,
        Group.OUTPUT,
        "Region to predict in nm, half-open: [z0:z1,y0:y1,x0:x1]; bounds may be left out. Of "
        "frames [t0:t1,z0:z1,y0:y1,x0:x1], time in the data's unit.",
        metavar="ROI",
        unset="the whole input",
        example="[20000:40000,:,10000:30000]",
    )

    block_shape: Shape | None = option(
        None,
        Group.COMPUTING,
        "Output voxels per block, the unit of retry and resume; a multiple of the chunks.",
        metavar="Z,Y,X",
        unset="from the network, the ROI and the memory",
    )
    tile_shape: Shape | None = option(
        None,
        Group.COMPUTING,
        "Input voxels of one forward pass.",
        metavar="Z,Y,X",
        unset="what a block needs and memory allows",
    )
    precision: Precision = option(
        "auto",
        Group.COMPUTING,
        "auto uses a precision that the device computes fast if its error (rms) on the run's first "
        "tile is below half an output step, or for floats below 0.2 % of the values' span; mixed "
        "is float32 at full resolution and bfloat16 below.",
    )
    memory: Memory | None = option(
        None,
        Group.COMPUTING,
        "Memory that one worker may use.",
        metavar="SIZE",
        unset="half of what is free",
        example="8GiB",
    )

    @model_validator(mode="before")
    @classmethod
    def _one_normalize(cls, options: Any) -> Any:
        """Of rules for several inputs, take that of this run's input."""
        rules = options.get("normalize") if isinstance(options, dict) else None
        if not isinstance(rules, Mapping) or "input" not in options:
            return options
        return {**options, "normalize": rule_of_input(rules, options["input"])}
