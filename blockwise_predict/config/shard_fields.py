"""The options of how chunks are put into shards; see `fields`."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import PlainSerializer, PlainValidator, TypeAdapter, ValidationError, model_validator

from blockwise_predict.config.channel_fields import ChannelOptions
from blockwise_predict.config.option import Group, option
from blockwise_predict.config.values import Memory, Shape

NO_SHARDS: Literal["none"] = "none"
"""As a shape of shards: each chunk is a file of its own."""

_SHAPE: TypeAdapter[tuple[int, ...]] = TypeAdapter(Shape)


def _shard_shape(value: object) -> tuple[int, ...] | str:
    if value == NO_SHARDS:
        return NO_SHARDS
    try:
        return _SHAPE.validate_python(value)
    except ValidationError as error:
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise ValueError(f"{reason}, or none") from None


ShardShape = Annotated[
    tuple[int, ...] | str,
    PlainValidator(_shard_shape),
    # pydantic's own compares the JSON's list with the union, and warns.
    PlainSerializer(lambda shape: shape),
]


class ShardOptions(ChannelOptions):
    """What can be asked of a run, with the shards of its output."""

    shard_size: Memory | None = option(
        None,
        Group.OUTPUT,
        "Size of the output's shards (zarr 3), before compression and with all channels: as many "
        "chunks of a block as this holds, and the memory allows.",
        metavar="SIZE",
        unset="up to 512MB, one chunk thick",
        example="1GB",
    )
    shard_shape: ShardShape | None = option(
        None,
        Group.OUTPUT,
        "Shards of the output in voxels, a multiple of the chunks; none: each chunk is a file.",
        metavar="Z,Y,X",
        unset="by --shard-size; none for at most 64 chunks",
        example="64,512,512",
    )

    @model_validator(mode="after")
    def _shape_or_size(self) -> Self:
        if self.shard_shape is not None and self.shard_size is not None:
            raise ValueError("shard_shape and shard_size are both given; give one of them")
        return self
