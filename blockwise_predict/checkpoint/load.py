"""Opening a checkpoint."""

from __future__ import annotations

from pathlib import Path

from blockwise_predict.checkpoint.documents import parse_architecture, read_document, split_document
from blockwise_predict.checkpoint.head import parse_task
from blockwise_predict.checkpoint.keys import normalise_keys
from blockwise_predict.checkpoint.locate import locate
from blockwise_predict.checkpoint.trained import TrainedModel
from blockwise_predict.checkpoint.unpickle import read_weights


def load_checkpoint(
    path: str | Path,
    *,
    iteration: int | None = None,
    architecture: str | Path | None = None,
    unsafe: bool = False,
) -> TrainedModel:
    """Open a checkpoint as data, and check that its weights fit its architecture.

    path: a DaCapo run folder (`BASE/RUN`, whose YAML is `BASE/configs/runs/RUN.yaml`), one of its
        iteration files, or bare weights: `.safetensors`, or a torch file that holds a state
        dictionary or `{"model": state dictionary, ...}`, of DaCapo's model, a CNNectomeUNet or a
        CNNectomeUNetModule.
    iteration: of a run folder, the latest by default.
    architecture: a YAML file that says what bare weights are, in one of three forms: a DaCapo
        run's YAML; a mapping with `architecture` and perhaps `task`, the two with the keys of
        DaCapo's architecture and task configurations; or the architecture's keys alone. Without
        a task there is no head, and the channels are called channel_0 and so on.
    unsafe: unpickle what a plain state dictionary does not need, which runs its code.

    Raises CheckpointError for what is missing, unsafe, damaged, or does not fit.
    """
    place = locate(Path(path), iteration, None if architecture is None else Path(architecture))
    settings, task = split_document(read_document(place.document))
    config = parse_architecture(settings, place.document)
    head, names = None, tuple(f"channel_{number}" for number in range(config.fmaps_out))
    if task is not None:
        head, names = parse_task(task, len(config.input_shape), place.document)
    state = read_weights(place.weights, unsafe=unsafe)
    model = TrainedModel(
        path=str(place.weights),
        run=place.run,
        iteration=place.iteration,
        architecture=config,
        head=head,
        channel_names=names,
        weights=normalise_keys(state, place.weights),
        options={
            "checkpoint": str(path),
            "iteration": iteration,
            "architecture": None if architecture is None else str(architecture),
            "unsafe_load_pickle": unsafe,
        },
    )
    model.build()
    return model
