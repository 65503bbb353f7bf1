"""What a worker opens again, and what it holds against the plan."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from blockwise_predict.checkpoint.packages import open as opening
from blockwise_predict.config.model import load_config
from blockwise_predict.errors import RunStateError
from blockwise_predict.plan.ensemble import reopen_models
from blockwise_predict.plan.make import make_plan
from tests.support.runs import tiny_config, write_volume
from tests.support.shared import ROOT


def test_a_setting_without_trace_in_the_weights_must_be_that_of_the_plan(tmp_path: Path) -> None:
    config = tiny_config(tmp_path, (20, 20, 20))
    plan = make_plan(config).plan
    reopen_models(config, [plan.network])
    plan.network.architecture["activation"] = "ELU"
    with pytest.raises(RunStateError, match="activation was 'ELU', is now None"):
        reopen_models(config, [plan.network])


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_test_tensors_are_computed_for_the_plan_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = np.zeros((20, 20, 20), np.uint8)
    computed = []
    monkeypatch.setattr(opening, "check_test_tensors", lambda *_: computed.append(1) or 0.0)
    config = load_config(
        {
            "checkpoint": str(ROOT / "tests" / "data" / "bioimage" / "v0_5"),
            "input": write_volume(tmp_path / "raw.zarr", raw, voxel_size=(8, 4, 4)),
            "output": f"{tmp_path}/out.zarr/out",
            "device": "cpu",
        }
    )
    plan = make_plan(config).plan
    assert plan.network.record["test tensors"].startswith("reproduced")
    reopen_models(config, [plan.network])
    assert computed == [1]
