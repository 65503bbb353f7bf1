"""What the user asked for: one frozen, strict `RunConfig`, from options and an optional YAML file.

Only the form of a value is checked here; whether it fits the checkpoint and the volume is found out
when the plan is made. All mistakes are reported at once, each with its key and where it was given.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self, get_args

import yaml
from pydantic import TypeAdapter, ValidationError, model_validator

from blockwise_predict.config.consent import CONSENT, refuse_consent_of_file
from blockwise_predict.config.fleet_fields import RunOptions
from blockwise_predict.config.option import Group, Option, option_name
from blockwise_predict.config.postprocess import Postprocess, parse_postprocess
from blockwise_predict.config.resources import resource_folder
from blockwise_predict.config.untrusted import MalformedError, read_yaml, text_keys
from blockwise_predict.config.values import Cluster, FleetKind, NamedFleet, fleet_kind
from blockwise_predict.errors import ConfigError, shown

# Of mistakes that are listed at once.
MAX_LISTED = 20


class RunConfig(RunOptions):
    """One prediction run, as asked for: its options, checked against each other."""

    @property
    def planned_workers(self) -> int:
        """Number of workers to plan for: at least one, also where they are started by hand."""
        return max(1, self.workers)

    @property
    def consent_options(self) -> list[str]:
        """The options by which this command line's consent is passed on to its workers."""
        given = {key: value for key in CONSENT if (value := getattr(self, key))}
        return [
            option_name(key) if value is True else f"{option_name(key)}={value}"
            for key, value in given.items()
        ]

    @property
    def programs(self) -> dict[str, str]:
        """Keys whose values are, or can name, programs to execute; and those values, shell-quoted.

        Options of sbatch and bsub count, since some run commands or set the jobs' environment.
        """
        programs = {}
        if self.fleet not in get_args(NamedFleet):
            programs["fleet"] = self.fleet
        if self.submit_options:
            programs["submit_options"] = shlex.join(self.submit_options)
        if self.notify is not None:
            programs["notify"] = self.notify
        return programs

    @property
    def fleet_kind(self) -> FleetKind:
        """What starts the workers."""
        return fleet_kind(self.fleet)

    @property
    def is_on_cluster(self) -> bool:
        """Whether the workers are jobs of a cluster's queue."""
        return self.fleet_kind in get_args(Cluster)

    @property
    def is_elsewhere(self) -> bool:
        """Whether the workers run on other machines."""
        return self.fleet_kind != "local"

    def absolute(self) -> Self:
        """The same with absolute paths, so that it is valid in any working directory."""
        keys = ("input", "mask", "output", "run_dir")
        paths = {key: getattr(self, key) for key in keys}
        several = {key: getattr(self, key) for key in ("checkpoint", "architecture")}
        if self.is_on_cluster and self.fleet != self.fleet_kind:
            paths["fleet"] = self.fleet
        if self.factory is not None and ".py:" in self.factory:
            paths["factory"] = self.factory
        return self.model_copy(
            update={
                **{key: _absolute(path) for key, path in paths.items() if path is not None},
                **{
                    key: value
                    and (
                        _absolute(value) if isinstance(value, str) else tuple(map(_absolute, value))
                    )
                    for key, value in several.items()
                },
            }
        )

    def dtype_of(self, output: str) -> str:
        """The data type of a network's output, by its name."""
        if isinstance(self.output_dtype, str):
            return self.output_dtype
        default: str = RunOptions.model_fields["output_dtype"].default
        return self.output_dtype.get(output, default)

    def range_of(self, output: str) -> tuple[float, float] | None:
        """The range of a network's output, by its name, if it is given."""
        if isinstance(self.output_range, dict):
            return self.output_range.get(output)
        return self.output_range

    @property
    def named_outputs(self) -> dict[str, list[str]]:
        """The names of outputs that each option has a value for."""
        keys = ("output_dtype", "output_range", "postprocess")
        given = {key: getattr(self, key) for key in keys}
        return {key: [*value] for key, value in given.items() if isinstance(value, dict)}

    def postprocess_of(self, output: str) -> Postprocess | None:
        """What is made of the values of a network's output, by its name, if that is anything."""
        text = self.postprocess
        if isinstance(text, dict):
            text = text.get(output)
        return None if text is None else parse_postprocess(text)

    @model_validator(mode="after")
    def _decisions_have_their_own_type(self) -> Self:
        """What is postprocessed has no data type or range besides."""
        default = RunOptions.model_fields["output_dtype"].default
        for key, unset in (("output_dtype", default), ("output_range", None)):
            given = getattr(self, key)
            if isinstance(self.postprocess, str) and given != unset:
                raise ValueError(
                    f"{key}: postprocess {self.postprocess} stores integers of its own; leave "
                    f"{key} out"
                )
            if isinstance(self.postprocess, dict) and isinstance(given, dict):
                both = [name for name in given if name in self.postprocess]
                if both:
                    raise ValueError(
                        f"{key} of {both[0]}: postprocess {self.postprocess[both[0]]} stores "
                        "integers of its own; leave one of them out"
                    )
        return self

    @model_validator(mode="after")
    def _range_needs_an_integer(self) -> Self:
        """A named range is for an integer output, a single one for all that are integers."""
        if isinstance(self.output_range, dict):
            floats = {f" of {name}": self.dtype_of(name) for name in self.output_range}
            floats = {whose: dtype for whose, dtype in floats.items() if dtype.startswith("float")}
        else:
            dtypes = [self.output_dtype] if isinstance(self.output_dtype, str) else []
            dtypes += self.output_dtype.values() if isinstance(self.output_dtype, dict) else []
            no_integer = all(dtype.startswith("float") for dtype in dtypes)
            floats = {"": dtypes[0]} if no_integer and self.output_range is not None else {}
        for whose, dtype in floats.items():
            raise ValueError(
                f"output_range is only for integer outputs, but output_dtype{whose} is {dtype}"
            )
        return self

    @model_validator(mode="after")
    def _job_options_need_a_cluster(self) -> Self:
        given = [key for key in JOB_OPTIONS if getattr(self, key) not in (None, ())]
        if given and not self.is_on_cluster:
            raise ValueError(
                f"{', '.join(given)}: only for jobs of Slurm and LSF, but fleet is {self.fleet}"
            )
        return self


OPTIONS = {key: Option.of(key, field) for key, field in RunConfig.model_fields.items()}
"""The options as users see them, by key."""

JOB_OPTIONS = tuple(key for key, told in OPTIONS.items() if told.group is Group.CLUSTER)
"""Keys of what a cluster is asked for."""

WORKER_OPTIONS = tuple(
    key for key, told in OPTIONS.items() if told.group in (Group.WORKERS, Group.CLUSTER)
)
"""Keys of how many workers there are, what starts them, and what they may do."""

PREDICTION_KEYS = (
    *("iteration", "architecture", "activation", "unsafe_load_pickle", "factory"),
    *("border", "normalize", "bad_input"),
    *("model_voxel_size", "allow_voxel_size_mismatch", "resample"),
    *("output_dtype", "output_range", "postprocess"),
    *("tile_shape", "block_shape", "blend", "overlap"),
    *("channels", "split", "augment", "augment_channels", "precision", "memory", "device"),
)
"""Keys that concern the prediction itself, and not files, workers and records."""


def _absolute(path: str) -> str:
    """An absolute path; a URL is left as it is."""
    return path if "://" in path else os.path.abspath(os.path.expanduser(path))


def load_value(key: str, value: object, *, command_line: bool = True) -> Any:
    """One value, as `RunConfig` would hold it. Raises ConfigError as `load_config` does."""
    field = RunConfig.model_fields[key]
    # Without what only a model's field can have, such as `exclude`: pydantic would warn of it.
    kind: Any = field.annotation
    if field.metadata:
        kind = Annotated[(kind, *field.metadata)]
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        raise ConfigError(_explain(key, error.errors()[0], None, command_line)) from None


def load_config(
    options: Mapping[str, Any], file: str | Path | None = None, *, command_line: bool = True
) -> RunConfig:
    """Build the configuration from options and a YAML file; options that are not None win.

    Raises a ConfigError that lists every mistake with its key, value and origin: `--roi` where the
    options are those of a `command_line`, else `roi`.
    """
    given = {key: value for key, value in options.items() if value is not None}
    from_file = _read_yaml(file) if file is not None else {}
    try:
        config = RunConfig.model_validate({**from_file, **given})
    except ValidationError as error:
        lines, more = [], error.error_count() - MAX_LISTED
        for problem in error.errors()[:MAX_LISTED]:
            key = str(problem["loc"][0]) if problem["loc"] else ""
            origin = str(file) if key in from_file and key not in given else None
            lines.append(_explain(key, problem, origin, command_line))
        if more > 0:
            lines.append(f"and {more} more mistakes.")
        raise ConfigError("\n".join(lines)) from None
    of_file = from_file.keys() - given.keys()
    refuse_consent_of_file(
        file,
        [key for key in CONSENT if key in of_file and getattr(config, key)],
        {key: text for key, text in config.programs.items() if key in of_file},
    )
    return config


def as_file(config: RunConfig, command: str) -> str:
    """A configuration as a file for `predict run`, below the command that it comes from."""
    given = config.model_dump(mode="json", exclude_none=True, exclude={"overwrite"})
    typed = "\n# ".join(command.splitlines())
    return f"# {typed}\n{yaml.safe_dump(given, sort_keys=False)}"


def _explain(key: str, problem: Any, file: str | None, command_line: bool) -> str:
    key = shown(key)[1:-1]
    name = option_name(key) if command_line and file is None and key else key
    where = f"{file}: {name}" if file else name
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "missing":
        return f"{name} is missing: give it as an option or as `{key}:` in the YAML file."
    if problem["type"] == "extra_forbidden":
        known = ", ".join(RunConfig.model_fields)
        return f"{where}: there is no such key. Known keys: {known}."
    if not key:
        return message
    return f"{where} {shown(problem['input'])}: {message}."


def _read_yaml(file: str | Path) -> dict[str, Any]:
    try:
        content = read_yaml(file)
        if isinstance(content, dict):
            return text_keys(content)
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read ({error.strerror}).") from None
    except MalformedError as error:
        raise ConfigError(f"{file}: is not valid YAML of keys and values: {error}.") from None
    example = resource_folder("configs") / "local.yaml"
    raise ConfigError(f"{file}: must be a mapping of keys to values, like {example}.")
