"""What the user asked for: one frozen, strict `RunConfig`, from options and an optional YAML file.

A value is checked for its form here; whether it fits the checkpoint and the volume is found when
the plan is made. All mistakes of form are reported at once, each with its key and where it stood.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from blockwise_predict.config.consent import CONSENT, refuse_consent_of_file
from blockwise_predict.config.resources import resource_folder
from blockwise_predict.config.untrusted import MalformedError, read_yaml, text_keys
from blockwise_predict.config.values import (
    Fleet,
    FleetKind,
    LengthTexts,
    Listen,
    Memory,
    Normalize,
    PathText,
    Range,
    RoiText,
    Shape,
    WallTime,
    Words,
    fleet_kind,
)
from blockwise_predict.errors import ConfigError, shown
from blockwise_predict.geometry.grid import Lengths, exact_lengths

Border = Literal["reflect", "edge", "constant", "valid"]
Format = Literal["zarr3", "zarr2", "n5"]
BadInput = Literal["fail", "fill-missing", "fill", "skip"]
Precision = Literal["auto", "float32", "mixed", "bfloat16", "float16", "tfloat32"]
# Of what a cluster is asked for.
JOB_OPTIONS = (
    *("queue", "project", "gpus", "cores", "job_memory", "wall_time", "throttle"),
    "submit_options",
)
MAX_WORKERS = 1024
MAX_JOBS = 1_000_000
# Of mistakes that are listed at once.
MAX_LISTED = 20
OUTPUT_DTYPES = ("uint8", "int8", "uint16", "int16", "float16", "float32")


class RunConfig(BaseModel):
    """One prediction run, as asked for. Shapes in voxels, lengths in nm, axes (z, y, x)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    checkpoint: PathText = Field(description="DaCapo run folder, iteration file or weights file")
    iteration: int | None = Field(None, ge=0, lt=1 << 63)
    architecture: PathText | None = None
    unsafe_load_pickle: bool = Field(False, exclude=True)

    input: PathText = Field(description="input array: container and name, e.g. volume.zarr/raw")
    voxel_size: LengthTexts | None = None
    offset: LengthTexts | None = None
    border: Border = "reflect"
    bad_input: BadInput = "fail"
    normalize: Normalize = "auto"

    output: PathText = Field(description="output array: container and name, e.g. out.zarr/affs")
    format: Format | None = None
    output_dtype: Literal["uint8", "int8", "uint16", "int16", "float16", "float32"] = "float32"
    output_range: Range | None = None
    chunk_shape: Shape | None = None
    roi: RoiText | None = None

    block_shape: Shape | None = None
    tile_shape: Shape | None = None

    precision: Precision = "auto"
    memory: Memory | None = None

    fleet: Fleet = "local"
    workers: int = Field(1, ge=0, le=MAX_WORKERS)
    slots: int = Field(2, ge=1, le=16)
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    retries: int = Field(2, ge=0, le=100)
    block_timeout: float = Field(3600.0, ge=10, allow_inf_nan=False)
    run_dir: PathText | None = None
    trust_run_dir: bool = Field(False, exclude=True)
    overwrite: bool = False

    queue: str | None = Field(None, min_length=1)
    project: str | None = Field(None, min_length=1)
    gpus: int | None = Field(None, ge=0, le=64)
    cores: int | None = Field(None, ge=1, le=1024)
    job_memory: Memory | None = None
    wall_time: WallTime | None = None
    throttle: int | None = Field(None, ge=1, le=MAX_JOBS)
    submit_options: Words = ()
    listen: Listen | None = None

    @property
    def planned_workers(self) -> int:
        """How many workers to plan for; those of a run that starts none join by themselves."""
        return max(1, self.workers)

    @property
    def consent_options(self) -> list[str]:
        """What this command line allows, as options for the workers that it starts."""
        return [f"--{key.replace('_', '-')}" for key in CONSENT if getattr(self, key)]

    @property
    def programs(self) -> dict[str, str]:
        """The keys whose values are, or can name, programs to execute; with these, as for a shell.

        Options of sbatch and bsub are among them: some run commands or set the jobs' environment.
        """
        programs = {}
        if self.fleet not in ("local", "slurm", "lsf"):
            programs["fleet"] = self.fleet
        if self.submit_options:
            programs["submit_options"] = shlex.join(self.submit_options)
        return programs

    @property
    def fleet_kind(self) -> FleetKind:
        """What starts the workers."""
        return fleet_kind(self.fleet)

    @property
    def is_elsewhere(self) -> bool:
        """Whether the workers run on other machines than this one."""
        return self.fleet_kind != "local"

    def absolute(self) -> Self:
        """The same with absolute paths, so that it holds in any working directory."""
        keys = ("checkpoint", "architecture", "input", "output", "run_dir")
        paths = {key: getattr(self, key) for key in keys}
        if self.fleet_kind in ("slurm", "lsf") and self.fleet != self.fleet_kind:
            paths["fleet"] = self.fleet
        return self.model_copy(
            update={
                key: os.path.abspath(os.path.expanduser(path))
                for key, path in paths.items()
                if path is not None and "://" not in path
            }
        )

    @model_validator(mode="after")
    def _range_needs_an_integer(self) -> Self:
        if self.output_range is not None and self.output_dtype.startswith("float"):
            raise ValueError(
                f"output_range is only for integer outputs, output_dtype is {self.output_dtype}"
            )
        return self

    @model_validator(mode="after")
    def _job_options_need_a_cluster(self) -> Self:
        given = [key for key in JOB_OPTIONS if getattr(self, key) not in (None, ())]
        if given and self.fleet_kind not in ("slurm", "lsf"):
            raise ValueError(
                f"{', '.join(given)}: only for jobs of Slurm and LSF, and fleet is {self.fleet}"
            )
        return self


def load_lengths(option: str, text: str | None) -> Lengths | None:
    """Lengths (nm) of an option outside a `RunConfig`. Raises ConfigError as for one inside."""
    if text is None:
        return None
    try:
        return exact_lengths(TypeAdapter(LengthTexts).validate_python(text))
    except ValidationError as error:
        raise ConfigError(_explain(option, error.errors()[0], None, False)) from None


def load_config(
    options: Mapping[str, Any], file: str | Path | None = None, *, command_line: bool = True
) -> RunConfig:
    """Build the configuration from options (those that are not None win) and a YAML file.

    Raises ConfigError that lists every mistake with its key, value and origin.
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


def _explain(key: str, problem: Any, file: str | None, command_line: bool) -> str:
    key = shown(key)[1:-1]
    name = f"--{key.replace('_', '-')}" if command_line and file is None and key else key
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
    raise ConfigError(f"{file}: must be a mapping of keys and values, as {example} is.")
