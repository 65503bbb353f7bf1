"""The costs of a plan with all its networks, for all its blocks or those that are selected."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from blockwise_predict.checkpoint import TrainedModel
from blockwise_predict.plan.estimate import Estimate, estimate
from blockwise_predict.plan.model import Plan
from blockwise_predict.plan.selected_cost import estimate_selected


def estimate_all(
    plan: Plan, models: Sequence[TrainedModel], computed: NDArray[np.bool_] | None = None
) -> Estimate:
    """The costs of a plan with all its networks, which are given in the plan's order.

    Only blocks that are `computed` count, if that is given, on the grid of blocks. The networks
    read the input once. Halo and reading are those of the first.
    """
    costs = [
        estimate(each, model) if computed is None else estimate_selected(each, model, computed)
        for each, model in zip(plan.each, models, strict=True)
    ]
    return replace(
        costs[0],
        passes=sum(cost.passes for cost in costs),
        flops=sum(cost.flops for cost in costs),
    )
