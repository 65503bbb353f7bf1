"""A pipeline as a user writes it: affinities, then fragments that depend on them.

python -c "from tests.support.pipelines import main; main()" CONFIG FRAGMENTS [--apart]
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from contextlib import closing
from functools import partial
from pathlib import Path

import click
import daisy
import numpy as np
import zarr
from scipy import ndimage
from skimage.segmentation import watershed

from blockwise_predict.config.model import load_config
from blockwise_predict.io import open_output
from blockwise_predict.records import RunDir
from blockwise_predict.records.ledger import PREDICTED
from blockwise_predict.run.pipelines.daisy_task import daisy_task
from blockwise_predict.run.planned import PlannedRun, plan_run
from tests.support.runs import VOXEL_SIZE

# Of fragments: blocks of so many voxels, with so many around them.
BLOCK, CONTEXT = (12, 20, 20), (2, 3, 3)


def fragments_task(planned: PlannedRun, fragments: Path, upstream: list[object]) -> object:
    """Fragments of the affinities that a plan predicts, in blocks of their own."""
    size = daisy.Coordinate(VOXEL_SIZE)
    roi = planned.plan.output.roi * size
    write = daisy.Roi((0, 0, 0), BLOCK) * size
    context = daisy.Coordinate(CONTEXT) * size
    shape = tuple(planned.plan.output.shape)
    if not (fragments / "zarr.json").exists():
        zarr.create_array(str(fragments), shape=shape, chunks=BLOCK, dtype="uint64")
    return daisy.Task(
        "fragments",
        total_roi=roi.grow(context, context),
        read_roi=write.grow(context, context),
        write_roi=write,
        process_function=partial(make_fragments, str(planned.run_dir), str(fragments)),
        read_write_conflict=False,
        fit="overhang",
        max_workers=1,
        tracking_path=str(fragments.parent / "tracking"),
        **({"upstream_tasks": upstream} if upstream else {}),
    )


def make_fragments(run_dir: str, fragments: str, block: daisy.Block) -> None:
    """A watershed of the affinities within a block; labels are the block's own."""
    records = RunDir(Path(run_dir))
    plan = records.plan()
    size, roi = daisy.Coordinate(VOXEL_SIZE), plan.output.roi
    read = (block.read_roi / size).intersect(roi)
    with closing(records.ledger(plan)) as ledger:
        needed = [n for n in range(plan.num_blocks) if plan.numbered_block(n).intersects(read)]
        undone = [n for n in needed if ledger.states[n] not in PREDICTED]
        done = ledger.count(*PREDICTED)
    note = {"begin": list(block.write_roi.begin), "undone": undone, "done": done}
    # In one write, since workers append side by side.
    with open(Path(fragments).parent / "fragments.jsonl", "ab", buffering=0) as log:
        log.write(json.dumps(note).encode() + b"\n")
    place = read - roi.begin
    affinities = open_output(plan.output.path).read(tuple(place.begin), tuple(place.end))
    inside = affinities.mean(axis=0) > np.median(affinities)
    distance = ndimage.distance_transform_edt(inside)
    seeds, _ = ndimage.label(distance == ndimage.maximum_filter(distance, 3))
    labels = watershed(-distance, seeds, mask=inside).astype(np.uint64)
    write = (block.write_roi / size).intersect(roi)
    kept = labels[(write - read.begin).to_slices()]
    first = block.block_id[1] << 32
    zarr.open_array(fragments)[(write - roi.begin).to_slices()] = np.where(kept, kept + first, 0)


def upstream_task(source: str, raw: Path, shape: tuple[int, ...]) -> object:
    """What fills an input array block by block, from a file."""
    size = daisy.Coordinate(VOXEL_SIZE)
    block = daisy.Roi((0, 0, 0), BLOCK) * size
    return daisy.Task(
        "raw",
        total_roi=daisy.Roi((0, 0, 0), shape) * size,
        read_roi=block,
        write_roi=block,
        process_function=partial(fill, source, str(raw)),
        read_write_conflict=False,
        fit="overhang",
        max_workers=1,
        tracking_path=False,
    )


def fill(target: str, raw: str, block: daisy.Block) -> None:
    """Write a block of the input, late."""
    time.sleep(0.05)
    array = zarr.open_array(target)
    place = (block.write_roi / daisy.Coordinate(VOXEL_SIZE)).to_slices()
    # Chunks are shared by blocks; there is one worker.
    array[place] = np.load(raw, mmap_mode="r")[place]


@click.command()
@click.argument("config", type=Path)
@click.argument("fragments", type=Path)
@click.option("--apart", is_flag=True, help="Do not tell daisy what the fragments depend on.")
@click.option("--raw", type=Path, help="First fill the input from this .npy file.")
def main(config: Path, fragments: Path, apart: bool, raw: Path | None) -> None:
    """Run the pipeline; prints how many blocks of each task daisy did and skipped, as JSON."""
    os.chdir(fragments.parent)
    planned = plan_run(load_config({}, config))
    before = []
    if raw is not None:
        before = [upstream_task(planned.plan.input.path, raw, planned.plan.input.shape)]
    predict = daisy_task(planned, upstream_tasks=before)
    fragments_ = fragments_task(planned, fragments, [] if apart else [predict])
    with contextlib.redirect_stdout(sys.stderr):
        states = daisy.run_blockwise([predict, fragments_], progress=False, return_states=True)
    counts = {
        name: [state.completed_count, state.skipped_count, state.failed_count]
        for name, state in states.items()
    }
    click.echo(json.dumps(counts))
