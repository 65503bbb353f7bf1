"""A bioimage.io package's processing before and after its network, in the notation of options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from blockwise_predict.errors import shown

# What bioimageio.core adds to a standard deviation.
_EPS = 1e-6
_DATA_DEPENDENT = {
    "zero_mean_unit_variance": "mean and standard deviation",
    "scale_range": "percentiles",
    "scale_mean_variance": "mean and standard deviation",
}
_PERCENTILES = {"min_percentile": "LOW", "max_percentile": "HIGH"}


class NotARuleError(Exception):
    """Why processing cannot be written as an option; the text continues `its package ...`."""


def scale_and_shift(steps: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """What preprocessing does: `input * scale + shift`.

    Raises NotARuleError for steps that are not linear or depend on the data.
    """
    scale, shift = 1.0, 0.0
    for step in steps:
        factor, term = _linear(step)
        scale, shift = factor * scale, factor * shift + term
    return scale, shift


def normalization_rule(scale: float, shift: float) -> str:
    """`--normalize` for a scale and a shift."""
    return "none" if (scale, shift) == (1.0, 0.0) else f"range:0,1,{shift!r},{scale + shift!r}"


def activation_rule(steps: Sequence[Mapping[str, Any]]) -> str:
    """`--activation` for postprocessing. Raises NotARuleError for anything but a sigmoid."""
    names = [_name(step) for step in steps if not _is_cast(step)]
    if names in ([], ["sigmoid"]):
        return names[0] if names else "none"
    raise NotARuleError(
        f"asks for {', '.join(names)} after the network, of which only a sigmoid is applied here"
    )


def _linear(step: Mapping[str, Any]) -> tuple[float, float]:
    """Factor and term of a step."""
    name = _name(step)
    kwargs = step.get("kwargs") or {}
    if _is_cast(step):
        return 1.0, 0.0
    if name == "scale_linear":
        return _number(kwargs, "gain", 1.0), _number(kwargs, "offset", 0.0)
    # Version 0.5 of the specification has a name of its own for fixed values, 0.4 a mode.
    fixed = name == "fixed_zero_mean_unit_variance" or (
        name == "zero_mean_unit_variance" and kwargs.get("mean") is not None
    )
    if fixed:
        deviation = _number(kwargs, "std", 1.0) + float(kwargs.get("eps", _EPS))
        return 1 / deviation, -_number(kwargs, "mean", 0.0) / deviation
    if name in _DATA_DEPENDENT:
        raise NotARuleError(
            f"asks for {name}, which depends on the {_DATA_DEPENDENT[name]} of the whole input: "
            "blocks have to agree on one rule, so pass numbers for your volume (--normalize "
            "zscore:MEAN,STD or range:LOW,HIGH), or have them computed once from a sample of it "
            f"(--normalize {_sampled_rule(name, kwargs)})"
        )
    raise NotARuleError(f"asks for {name} before the network, which is not done here")


def _sampled_rule(name: str, kwargs: Mapping[str, Any]) -> str:
    """The rule that computes from a sample of the volume what a step computes from its input."""
    if name != "scale_range":
        return "zscore:auto"
    given = ((kwargs.get(key), unset) for key, unset in _PERCENTILES.items())
    texts = [f"{value:g}" if isinstance(value, (int, float)) else unset for value, unset in given]
    return f"percentiles:{','.join(texts)}"


def _name(step: Mapping[str, Any]) -> str:
    return str(step.get("id", step.get("name")))[:60]


def _is_cast(step: Mapping[str, Any]) -> bool:
    kwargs = step.get("kwargs") or {}
    return _name(step) == "ensure_dtype" and kwargs.get("dtype") == "float32"


def _number(kwargs: Mapping[str, Any], key: str, default: float) -> float:
    """A number; also a list of one number, or of equal numbers for each channel."""
    value = kwargs.get(key, default)
    values = value if isinstance(value, list) else [value]
    if not values or any(not isinstance(item, (int, float)) for item in values):
        raise NotARuleError(f"has {key} {shown(value)} before the network")
    if len(set(values)) > 1:
        raise NotARuleError(f"has a {key} of its own for each channel: {shown(value)}")
    return float(values[0])
