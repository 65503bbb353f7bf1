"""The operations that a CNNectomeUNet with given settings computes, in order."""

from __future__ import annotations

from collections.abc import Sequence

from blockwise_predict.checkpoint.recognition.family import HEAD, Family
from blockwise_predict.checkpoint.recognition.program import INPUT, Operation, Recorder


def expected_operations(family: Family) -> list[Operation]:
    """The operations of a family's network, as `Program` lists them."""
    return _Writer(family).write()


class _Writer:
    def __init__(self, family: Family) -> None:
        self._family, self._settings = family, family.settings
        self._recorder = Recorder()
        supers = self._settings["upsample_factors"] or []
        self._prefix = "unet.0." if supers else "unet."
        self._supers = supers

    def write(self) -> list[Operation]:
        """See `expected_operations`."""
        settings = self._settings
        last = self._level(0, INPUT)
        kernels = settings.get("super_resolution_kernels") or settings["kernel_size_up"][-1]
        for number, factor in enumerate(self._supers):
            # The module of a step is followed by that of its convolutions.
            place = 2 * number + 1
            last = self._add("upsample", last, numbers=tuple(map(float, factor)))
            if settings.get("upsample_convolution", True):
                last = self._add("conv", last, f"unet.{place}.up.1", ("valid",))
                last = self._add("relu", last)
            last = self._conv_pass(f"unet.{place + 1}", kernels, last, "valid")
        if self._family.head is not None:
            last = self._add("conv", last, HEAD, ("valid",))
        if self._family.activation is not None:
            self._add(self._family.activation, last)
        return self._recorder.operations

    def _level(self, level: int, entering: int) -> int:
        """A level and all below it; returns the position of its result."""
        settings, prefix = self._settings, self._prefix
        padding = settings["padding"]
        left = self._conv_pass(
            f"{prefix}l_conv.{level}", settings["kernel_size_down"][level], entering, padding
        )
        if level == len(settings["downsample_factors"]):
            return left
        factor = tuple(map(float, settings["downsample_factors"][level]))
        deeper = self._level(level + 1, self._add("max_pool", left, numbers=factor))
        risen = self._upsample(f"{prefix}r_up.0.{level}.up", factor, deeper)
        merged = self._recorder.add("concatenate", (left, risen))
        kernels = settings["kernel_size_up"][level]
        return self._conv_pass(f"{prefix}r_conv.0.{level}", kernels, merged, padding)

    def _upsample(self, layer: str, factor: tuple[float, ...], entering: int) -> int:
        settings = self._settings
        is_activated = settings.get("activation_on_upsample", True)
        if not settings["constant_upsample"]:
            # The only layer of its module, unless an activation follows.
            layer = f"{layer}.0" if is_activated else layer
            last = self._add("conv_transpose", entering, layer, factor)
        else:
            last = self._add("upsample", entering, numbers=factor)
            if settings.get("upsample_convolution", True):
                last = self._add("conv", last, f"{layer}.1", ("valid",))
        return self._add("relu", last) if is_activated else last

    def _conv_pass(self, layer: str, kernels: Sequence[object], entering: int, padding: str) -> int:
        last, batch_norm = entering, self._settings["batch_norm"]
        step = 3 if batch_norm else 2
        for number in range(len(kernels)):
            place = f"{layer}.conv_pass."
            last = self._add("conv", last, f"{place}{number * step}", (padding,))
            if batch_norm:
                last = self._add("batch_norm", last, f"{place}{number * step + 1}")
            last = self._add("relu", last)
        return last

    def _add(
        self, kind: str, entering: int, layer: str = "", numbers: tuple[float | str, ...] = ()
    ) -> int:
        return self._recorder.add(kind, (entering,), layer=layer, numbers=numbers)
