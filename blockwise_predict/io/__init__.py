"""Volumes: reading zarr 2, zarr 3 and N5 arrays wherever they are, and writing predictions.

Formats and metadata conventions are handled here. The rest of the package sees arrays
[C, *spatial] in C order, with exact voxel sizes and offsets in nm.
"""

from blockwise_predict.io.checked import BadInputError, CheckedInput, missing_sample
from blockwise_predict.io.create import check_output, create_output, delete_output
from blockwise_predict.io.delete import check_deletable
from blockwise_predict.io.describe import describe_array
from blockwise_predict.io.fingerprint import changed_places, sample_digests
from blockwise_predict.io.formats import Format, guess_format, names_array
from blockwise_predict.io.funlib_array import as_funlib
from blockwise_predict.io.in_memory import MemoryArray, open_in_memory
from blockwise_predict.io.interface import BlockSource, GappedArray, PlacedArray
from blockwise_predict.io.kvstore import reason_of
from blockwise_predict.io.level import ChosenLevel, TrainedSize
from blockwise_predict.io.level_choice import (
    describe_levels,
    levels_beside,
    open_array,
    open_source,
    path_of,
)
from blockwise_predict.io.omero import display_windows
from blockwise_predict.io.output import (
    OutputArray,
    Write,
    open_output,
    output_exists,
    read_attributes,
    update_attributes,
)
from blockwise_predict.io.placement import Placement
from blockwise_predict.io.planes import Planes, measure_planes
from blockwise_predict.io.resampled import ResampledArray, stored_array, stored_box
from blockwise_predict.io.reuse import DecodedChunks
from blockwise_predict.io.sampling import ChunkGrid
from blockwise_predict.io.source import InputArray, gaps_need_reading, open_input
from blockwise_predict.io.spec import OutputSpec
from blockwise_predict.io.statistics import Statistics, sample_statistics

__all__ = [
    "BadInputError",
    "BlockSource",
    "CheckedInput",
    "ChosenLevel",
    "ChunkGrid",
    "DecodedChunks",
    "Format",
    "GappedArray",
    "InputArray",
    "MemoryArray",
    "OutputArray",
    "OutputSpec",
    "PlacedArray",
    "Placement",
    "Planes",
    "ResampledArray",
    "Statistics",
    "TrainedSize",
    "Write",
    "as_funlib",
    "changed_places",
    "check_deletable",
    "check_output",
    "create_output",
    "delete_output",
    "describe_array",
    "describe_levels",
    "display_windows",
    "gaps_need_reading",
    "guess_format",
    "levels_beside",
    "measure_planes",
    "missing_sample",
    "names_array",
    "open_array",
    "open_in_memory",
    "open_input",
    "open_output",
    "open_source",
    "output_exists",
    "path_of",
    "read_attributes",
    "reason_of",
    "sample_digests",
    "sample_statistics",
    "stored_array",
    "stored_box",
    "update_attributes",
]
