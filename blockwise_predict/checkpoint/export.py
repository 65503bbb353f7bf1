"""Export of a checkpoint to files that can be used without this package."""

from __future__ import annotations

from pathlib import Path

from blockwise_predict.checkpoint.export_program import export_program
from blockwise_predict.checkpoint.export_weights import export_weights
from blockwise_predict.checkpoint.new_file import check_target
from blockwise_predict.checkpoint.summary import channels_text
from blockwise_predict.checkpoint.trained import TrainedModel
from blockwise_predict.errors import ConfigError

PROGRAM, WEIGHTS = ".pt2", ".safetensors"


def exported_files(target: Path, *, overwrite: bool) -> tuple[Path, ...]:
    """The files that an export to `target` writes.

    Raises ConfigError for an unknown suffix, and if one of them has no folder, or exists and must
    not be replaced.
    """
    if target.suffix not in (PROGRAM, WEIGHTS):
        raise ConfigError(
            f"{target}: the suffix decides what is written. Use {PROGRAM} (torch.export) or "
            f"{WEIGHTS} (weights, with the architecture in a .yaml beside them)."
        )
    files = (target,) if target.suffix == PROGRAM else (target, target.with_suffix(".yaml"))
    for file in files:
        check_target(file, overwrite=overwrite)
    return files


def export_checkpoint(model: TrainedModel, files: tuple[Path, ...]) -> list[tuple[str, str]]:
    """Write the files of `exported_files`; label and text of what there is to say about them.

    Raises CheckpointError for a network that cannot be exported in that form.
    """
    target, *documents = files
    if not documents:
        sizes = export_program(model, target)
        return [
            ("program", str(target)),
            ("input", f"float32 [batch, {model.in_channels}, *size], normalised as in training"),
            ("size", str(sizes)),
            ("channels", channels_text(model.channel_names)),
            *_missing_activation(model),
            ("use", f"torch.export.load({str(target)!r}).module()"),
        ]
    (document,) = documents
    export_weights(model, target, document)
    declared = f" --activation {model.activation}" if model.activation else ""
    return [
        ("weights", str(target)),
        ("architecture", str(document)),
        ("sha256", model.sha256),
        ("use", f"predict run --checkpoint {target} --architecture {document}{declared} ..."),
    ]


def _missing_activation(model: TrainedModel) -> list[tuple[str, str]]:
    """That a program ends without an activation, if the files do not state whether it has one."""
    if "activation" not in model.undeclared:
        return []
    return [("activation", "none: the files state none. Export with --activation to include one")]
