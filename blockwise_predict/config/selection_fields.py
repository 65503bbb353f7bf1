"""The options that choose which blocks of a run are computed; see `fields`."""

from __future__ import annotations

from blockwise_predict.config.option import Group, option
from blockwise_predict.config.rois import RoisNm
from blockwise_predict.config.shard_fields import ShardOptions
from blockwise_predict.config.values import PathText


class SelectionOptions(ShardOptions):
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
    skip_empty: bool = option(
        False,
        Group.INPUT,
        "Leave out blocks whose input, context included, holds nothing but the array's fill value. "
        "The network's response to it, which need not be 0, is then not in the output.",
    )
    rois: RoisNm | None = option(
        None,
        Group.OUTPUT,
        "Several regions: a CSV file with the columns z0,z1,y0,y1,x0,x1, or a JSON list of "
        "[z0, z1, y0, y1, x0, x1] or ROIs as text, in nm (a list in YAML). Blocks that one of them "
        "touches are computed whole; the output spans --roi, or all of them.",
        metavar="FILE",
        example="regions.csv",
    )
