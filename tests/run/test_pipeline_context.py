"""What a pipeline's earlier tasks must have written, for predictions that are means."""

from __future__ import annotations

from pathlib import Path

import pytest
from funlib.geometry import Coordinate

from blockwise_predict.config.model import load_config
from blockwise_predict.engine.mean import MemberLattices
from blockwise_predict.plan.make import make_plan
from blockwise_predict.run.pipelines.grid import task_grid, task_rois
from blockwise_predict.worker.members import make_members
from tests.support.networks import save_network
from tests.support.runs import tiny_config

OFFSETS = [[-1, 0, 0], [0, -1, 0], [0, 0, -1], [3, 0, 0], [0, 3, 0], [0, 0, 3]]
AFFINITIES = {"__type__": "AffinitiesTaskConfig", "neighborhood": OFFSETS}


@pytest.mark.parametrize("kind", ["ensemble", "augment", "blend"])
def test_the_context_of_a_task_covers_what_each_block_reads(kind: str, tmp_path: Path) -> None:
    sizes = {"block_shape": "16,16,16", "chunk_shape": "16,16,16", "roi": "[130:700,:,55:600]"}
    config = tiny_config(tmp_path, (80, 70, 64), **sizes)
    options = config.model_dump(exclude_defaults=True)
    if kind == "ensemble":
        (tmp_path / "other").mkdir()
        factors = [[2, 2, 2], [2, 2, 2]]
        weights, architecture = save_network(
            tmp_path / "other", downsample_factors=factors, input_shape=[64, 64, 64]
        )
        options["checkpoint"] = [config.checkpoint, str(weights)]
        options["architecture"] = [config.architecture, str(architecture)]
    elif kind == "augment":
        weights, architecture = save_network(tmp_path, task=AFFINITIES)
        options |= {"checkpoint": str(weights), "architecture": str(architecture)}
        options["augment"] = "all"
    else:
        options["blend"] = True
    made = make_plan(load_config(options))
    members = make_members(made.plan, made.opened, "float32")
    lattices = MemberLattices.of(members)
    task = task_rois(made.plan, task_grid(made.plan, "voxel"))
    for block in made.plan.blocks():
        allowed = task.read + Coordinate(block.begin)
        assert allowed.contains(lattices.read_roi(block))
