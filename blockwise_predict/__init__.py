"""blockwise-predict: run a trained U-Net over volumes too large for one machine.

The public API; see docs/api.md. Names are imported on first use, so that importing the
package is cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

# Two folders share their names with public functions. Importing a folder for the first time sets
# its name in this module; so they are imported here, and their names deleted below.
import blockwise_predict.plan
import blockwise_predict.run  # noqa: F401
from blockwise_predict.config.version import __version__
from blockwise_predict.errors import (
    ArrayError,
    CheckpointError,
    ConfigError,
    GeometryError,
    InputError,
    LockLostError,
    PredictError,
    RecordsError,
    RunFailedError,
    RunStateError,
)

if TYPE_CHECKING:
    from blockwise_predict.checkpoint import TrainedModel, as_module, open_checkpoint
    from blockwise_predict.io import InputArray, open_array
    from blockwise_predict.run.api import plan, run
    from blockwise_predict.run.in_memory import Prediction, predict, predict_outputs
    from blockwise_predict.run.output import Output, open_output
    from blockwise_predict.run.pipelines.daisy_task import daisy_task
    from blockwise_predict.run.planned import PlannedRun
    from blockwise_predict.run.reporter import Reporter
    from blockwise_predict.run.result import RunResult
    from blockwise_predict.run.stop import StopRequest
    from blockwise_predict.run.verification.findings import Report
    from blockwise_predict.run.verification.verify import verify

__all__ = [
    "ArrayError",
    "CheckpointError",
    "ConfigError",
    "GeometryError",
    "InputArray",
    "InputError",
    "LockLostError",
    "Output",
    "PlannedRun",
    "PredictError",
    "Prediction",
    "RecordsError",
    "Report",
    "Reporter",
    "RunFailedError",
    "RunResult",
    "RunStateError",
    "StopRequest",
    "TrainedModel",
    "__version__",
    "as_module",
    "daisy_task",
    "open_array",
    "open_checkpoint",
    "open_output",
    "plan",
    "predict",
    "predict_outputs",
    "run",
    "verify",
]
_MODULES = {
    "InputArray": "io",
    "Output": "run.output",
    "PlannedRun": "run.planned",
    "Prediction": "run.in_memory",
    "Report": "run.verification.findings",
    "Reporter": "run.reporter",
    "RunResult": "run.result",
    "StopRequest": "run.stop",
    "TrainedModel": "checkpoint",
    "as_module": "checkpoint",
    "daisy_task": "run.pipelines.daisy_task",
    "open_array": "io",
    "open_checkpoint": "checkpoint",
    "open_output": "run.output",
    "plan": "run.api",
    "predict": "run.in_memory",
    "predict_outputs": "run.in_memory",
    "run": "run.api",
    "verify": "run.verification.verify",
}
del globals()["plan"], globals()["run"], globals()["blockwise_predict"]


def __getattr__(name: str) -> Any:
    """Import a public name on first use."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
