"""The options that choose which blocks of a run are computed; see `fields`."""

from __future__ import annotations

from blockwise_predict.config.fields import PredictionOptions
from blockwise_predict.config.option import Group, option
from blockwise_predict.config.values import PathText


class SelectionOptions(PredictionOptions):
    """What can be asked of a run, with the blocks that it leaves out."""

    mask: PathText | None = option(
        None,
        Group.INPUT,
        "Array of any resolution and offset whose voxels are not 0 where to predict: blocks that "
        "none of them touches are left out. It may change, or be left away, when the run is "
        "resumed: blocks are then taken up again.",
        metavar="ARRAY",
        example="masks.zarr/tissue",
    )
