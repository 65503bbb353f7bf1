"""The arrays that a run writes: one for each output of the network."""

from __future__ import annotations

from blockwise_predict.checkpoint import NetworkOutput, TrainedModel
from blockwise_predict.config.model import RunConfig
from blockwise_predict.config.option import option_name
from blockwise_predict.config.values import Format
from blockwise_predict.errors import ConfigError, shown
from blockwise_predict.io import guess_format
from blockwise_predict.plan.decisions import check_decision
from blockwise_predict.plan.parts import ArrayPlan


def output_format(config: RunConfig) -> Format:
    """The format of the output: as configured, else that of its container, else zarr 3."""
    return config.format or guess_format(config.output) or "zarr3"


def plan_arrays(config: RunConfig, model: TrainedModel) -> tuple[ArrayPlan, ...]:
    """The array of each output of a network.

    Raises ConfigError for an option that names an output which the network does not have, and for
    an integer data type without a range, or a decision that would be the same for all voxels.
    """
    _check_names(config, model)
    return tuple(_array(config, model, output) for output in model.outputs)


def _check_names(config: RunConfig, model: TrainedModel) -> None:
    names = [output.name for output in model.outputs if output.name]
    for key, given in config.named_outputs.items():
        unknown = [name for name in given if name not in names]
        if unknown:
            known = (
                f"its outputs are {', '.join(names)}"
                if names
                else "it has one output, without a name: give one value"
            )
            raise ConfigError(
                f"{option_name(key)} {shown(unknown[0])[1:-1]}: {model.path} has no such output; "
                f"{known}."
            )


def _array(config: RunConfig, model: TrainedModel, output: NetworkOutput) -> ArrayPlan:
    name = output.name
    decision = config.postprocess_of(name)
    if decision is not None:
        check_decision(decision, model, output)
    return ArrayPlan(
        name=name,
        path=f"{config.output.rstrip('/')}/{name}" if name else config.output,
        channel_names=output.channel_names,
        dtype=config.dtype_of(name)
        if decision is None
        else decision.dtype(len(output.channel_names)),
        value_range=None if decision else _value_range(config, model, output),
        postprocess=None if decision is None else str(decision),
    )


def _value_range(
    config: RunConfig, model: TrainedModel, output: NetworkOutput
) -> tuple[float, float] | None:
    """The range of values that an integer output spans; None for floating-point outputs."""
    dtype, name = config.dtype_of(output.name), output.name
    if dtype.startswith("float"):
        return None
    value_range = config.range_of(name) or output.output_range
    if value_range is None:
        prefix, whose = (f"{name}=", f"output {name}") if name else ("", "output")
        raise ConfigError(
            f"--output-dtype {prefix}{dtype} needs --output-range {prefix}LOW,HIGH: nothing in "
            f"{model.path} bounds the network's {whose}."
        )
    return value_range
