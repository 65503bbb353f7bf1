"""The plan: everything that a run will do, decided before anything is written.

`plan.make` makes it, `predict plan` prints it, `predict run` executes it, and every worker reads it
from the run directory. So a run's geometry is decided in one place.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from math import ceil, prod
from typing import Any, Self

import numpy as np
from funlib.geometry import Coordinate, Roi
from numpy.typing import NDArray
from pydantic import model_validator

from blockwise_predict.config.model import RunConfig
from blockwise_predict.engine.settings import PRECISION_BYTES
from blockwise_predict.engine.values import Normalization
from blockwise_predict.errors import shown
from blockwise_predict.geometry.grid import VoxelGrid
from blockwise_predict.geometry.lattice import Lattice
from blockwise_predict.geometry.symmetry import num_symmetries
from blockwise_predict.plan.parts import (
    EnsembleMember,
    InputPlan,
    Model,
    NetworkPlan,
    OutputPlan,
    Tiling,
)


class Plan(Model):
    """The plan of a run.

    `scale` is the number of output voxels per input voxel, `block_shape` is in output voxels.
    `tiling` is for the configured or likely precision; `exact_tiling` is for float32, if the
    precision is still open and float32 needs more memory. `network` and the tilings are those of
    the first checkpoint, `ensemble` has those of the others. `normalize` is the rule of
    `normalization`, with the numbers that were computed for it (None: of a version without them).
    `contrast` are those of the `warnings` for which a sample of the input was read (None: it was
    not, in a version that did not record them).
    """

    version: str
    config: RunConfig
    network: NetworkPlan
    input: InputPlan
    output: OutputPlan
    normalization: Normalization
    normalize: str | None = None
    border: str
    precision: str
    scale: tuple[int, ...]
    block_shape: tuple[int, ...]
    tiling: Tiling
    exact_tiling: Tiling | None
    ensemble: tuple[EnsembleMember, ...] = ()
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    contrast: tuple[str, ...] | None = None

    @model_validator(mode="before")
    @classmethod
    def _one_array_of_earlier_versions(cls, record: Any) -> Any:
        """Read a plan of version 0.1, whose output was always one array."""
        output = record.get("output") if isinstance(record, dict) else None
        if not isinstance(output, dict) or "arrays" in output:
            return record
        network = record.get("network")
        names = network.get("channel_names") if isinstance(network, dict) else None
        array = {key: output.get(key) for key in ("path", "dtype", "value_range")}
        kept = {key: value for key, value in output.items() if key not in ("dtype", "value_range")}
        array |= {"name": "", "channel_names": names}
        return {**record, "output": {**kept, "arrays": [array]}}

    @model_validator(mode="after")
    def _axes_agree(self) -> Self:
        """Check that everything per axis has the input's axes: a plan may come from a file."""
        per_axis = {
            "input.shape": self.input.shape,
            "input.chunk_shape": self.input.chunk_shape,
            "output.shape": self.output.shape,
            "output.chunk_shape": self.output.chunk_shape,
            "output.shard_shape": self.output.write_shape,
            "scale": self.scale,
            "block_shape": self.block_shape,
            "tiling.lattice": self.lattice.tile_shape,
        }
        if (source := self.input.resampled_from) is not None:
            per_axis["input.resampled_from.shape"] = source.shape
            per_axis["input.resampled_from.chunk_shape"] = source.chunk_shape
        for name, sizes in per_axis.items():
            if len(sizes) != len(self.input.axis_names) or any(size < 1 for size in sizes):
                raise ValueError(f"{name} {shown(sizes)} is not one positive size per axis")
        stored = [name for array in self.output.arrays for name in array.channel_names]
        if stored != list(self.network.channel_names):
            raise ValueError(f"output.arrays have the channels {shown(stored)}")
        # Grids raise if voxel size or offset have other axes, or are not lengths.
        grid = self.output_grid
        VoxelGrid(self.input.stored_voxel_size, self.input.grid.offset)
        if grid.dims != len(self.output.roi_begin) or grid.dims - grid.has_time not in (2, 3):
            raise ValueError(f"output.roi_begin {shown(self.output.roi_begin)} has other axes")
        return self

    @property
    def output_grid(self) -> VoxelGrid:
        """The output's voxel grid; voxel 0 begins where the input array begins."""
        return self.input.grid.divided(self.scale)

    @property
    def lattice(self) -> Lattice:
        """The lattice of passes; its points are the same for all precisions."""
        return self.tiling.lattice

    @property
    def copies(self) -> int:
        """Number of transformed copies of each tile that each network predicts."""
        return num_symmetries(self.config.augment, self.network.dims)

    @property
    def each(self) -> list[Plan]:
        """The same plan for each of the networks alone."""
        first = self.model_copy(update={"ensemble": ()})
        others = [first.model_copy(update=dict(member)) for member in self.ensemble]
        return [first, *others]

    def tiling_for(self, precision: str) -> Tiling:
        """The tiling for the precision that was chosen."""
        if self.exact_tiling is None or PRECISION_BYTES[precision] < PRECISION_BYTES["float32"]:
            return self.tiling
        return self.exact_tiling

    @property
    def blocks_per_axis(self) -> tuple[int, ...]:
        """Shape of the grid of blocks."""
        return tuple(ceil(n / b) for n, b in zip(self.output.shape, self.block_shape, strict=True))

    @property
    def num_blocks(self) -> int:
        """Number of blocks."""
        return prod(self.blocks_per_axis)

    @property
    def block_voxels(self) -> NDArray[np.int64]:
        """The number of voxels of each block, in the shape of the grid; the last ones along an axis
        are cropped at the ROI's end."""
        voxels = np.ones((), np.int64)
        for size, block, count in zip(
            self.output.shape, self.block_shape, self.blocks_per_axis, strict=True
        ):
            voxels = np.multiply.outer(voxels, np.minimum(block, size - block * np.arange(count)))
        return voxels

    def block_range(self, axis: int, place: int) -> tuple[int, int]:
        """The range of output voxels (half-open) of the blocks at a position along an axis."""
        begin = self.output.roi_begin[axis] + place * self.block_shape[axis]
        end = self.output.roi_begin[axis] + self.output.shape[axis]
        return begin, min(begin + self.block_shape[axis], end)

    def block(self, begin: Coordinate) -> Roi:
        """The block that begins at an output voxel, cropped at the ROI's end."""
        return Roi(begin, self.block_shape).intersect(self.output.roi)

    def blocks(self) -> Iterator[Roi]:
        """All blocks in C order, in output voxels from the input's origin."""
        for index in itertools.product(*(range(n) for n in self.blocks_per_axis)):
            shift = Coordinate(index) * Coordinate(self.block_shape)
            yield self.block(Coordinate(self.output.roi_begin) + shift)

    def block_number(self, begin: Coordinate) -> int:
        """The number (in C order) of the block that begins at an output voxel."""
        number = 0
        for position, count in zip(self.block_index(begin), self.blocks_per_axis, strict=True):
            number = number * count + position
        return number

    def block_index(self, begin: Coordinate) -> tuple[int, ...]:
        """The place in the grid of the block that begins at an output voxel."""
        index = (begin - self.output.roi.begin) / Coordinate(self.block_shape)
        return tuple(map(int, index))

    def numbered_block(self, number: int) -> Roi:
        """The block with a number, in output voxels from the input's origin."""
        index = []
        for count in reversed(self.blocks_per_axis):
            number, position = divmod(number, count)
            index.append(position)
        shift = Coordinate(index[::-1]) * Coordinate(self.block_shape)
        return self.block(self.output.roi.begin + shift)

    def where(self, number: int) -> str:
        """In words for the user, where a block is."""
        return self.output_grid.world_bounds(self.numbered_block(number))

    def identity(self) -> dict[str, Any]:
        """Everything that must be unchanged for a run to be resumed."""
        return {
            "weights (sha256)": self.network.weights_sha256,
            "architecture": self.network.architecture,
            "head": self.network.head,
            "activation": self.network.activation,
            "input": self.input.path,
            "input shape": list(self.input.shape),
            "input dtype": self.input.dtype,
            "input metadata (sha256)": self.input.metadata_sha256,
            "voxel size": list(self.input.voxel_size),
            "offset": list(self.input.offset),
            "resampled from": self.input.resampled_from
            and self.input.resampled_from.model_dump(mode="json"),
            "normalization": str(self.normalization),
            "border": self.border,
            "precision": self.precision,
            "output": self.output.path,
            "output format": self.output.format,
            "output dtype": self.output.by_array(lambda array: array.dtype),
            "output range": self.output.by_array(
                lambda array: array.value_range and list(array.value_range)
            ),
            "postprocess": self._postprocess_identity(),
            "channels": self._channels_identity(),
            "ROI": self.output_grid.world_bounds(self.output.roi),
            "chunk shape": list(self.output.chunk_shape),
            "shard shape": self.output.shard_shape and list(self.output.shard_shape),
            "block shape": list(self.block_shape),
            "tile shape": list(self.lattice.tile_shape),
            "augmentation": _unless(self.config.augment, "none"),
            "augmented channels": _unless(self.config.augment_channels, "auto"),
            **self._ensemble_identity(),
            "overlap": self.config.overlap if self.config.blend else None,
        }

    def _channels_identity(self) -> Any:
        """The channels of each array, if some were chosen or arranged."""
        if self.network.selected is None:
            return None
        listed = {array.name: list(array.channel_names) for array in self.output.arrays}
        return listed.get("", listed)

    def _postprocess_identity(self) -> Any:
        """What is made of the values of each array, if anything is: earlier runs do not name it."""
        if all(array.postprocess is None for array in self.output.arrays):
            return None
        return self.output.by_array(lambda array: array.postprocess)

    def _ensemble_identity(self) -> dict[str, Any]:
        """What must be unchanged of the further networks."""
        found: dict[str, Any] = {}
        for number, member in enumerate(self.ensemble, start=2):
            found |= {
                f"weights {number} (sha256)": member.network.weights_sha256,
                f"architecture {number}": member.network.architecture,
                f"head {number}": member.network.head,
                f"tile shape {number}": list(member.tiling.lattice.tile_shape),
            }
        return found


def _unless(value: str, default: str) -> str | None:
    """A value; None for the default, which runs of earlier versions do not name."""
    return None if value == default else value
