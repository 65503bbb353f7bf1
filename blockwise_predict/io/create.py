"""Create and delete output arrays: data, groups above, and the metadata that place them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tensorstore as ts

from blockwise_predict.errors import ArrayError
from blockwise_predict.io import image_metadata, zarr_metadata
from blockwise_predict.io.array_attributes import array_attributes
from blockwise_predict.io.consolidated import update_consolidated
from blockwise_predict.io.delete import (
    check_deletable,
    colliding_files,
    delete_array,
    output_keys,
)
from blockwise_predict.io.downsampled import delete_levels
from blockwise_predict.io.formats import (
    METADATA_FILE,
    Format,
    container_of,
    find_array,
    read_node,
)
from blockwise_predict.io.kvstore import (
    Json,
    is_empty,
    join,
    kvstore_spec,
    name_of,
    normalize,
    parents,
    storage_context,
    storage_errors,
    update_json,
)
from blockwise_predict.io.output import OutputArray, open_output
from blockwise_predict.io.spec import LEVEL, OutputSpec, check_spec

_N5_DTYPES = ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64")
_DTYPES: dict[Format, tuple[str, ...]] = {
    "zarr2": (*_N5_DTYPES, "float16", "float32", "float64"),
    "zarr3": (*_N5_DTYPES, "float16", "float32", "float64"),
    "n5": (*_N5_DTYPES, "float32", "float64"),
}


def create_output(spec: OutputSpec, *, overwrite: bool = False) -> OutputArray:
    """Create the array, the groups above it in its container, and the metadata that place it.

    Raises ArrayError if an array is there already and `overwrite` is not set, if the path is not
    inside a .zarr or .n5 container of the same format, or if it cannot be written.
    """
    location = normalize(spec.path)
    groups = check_output(location, spec.format, spec.dtype)
    check_spec(spec)
    existing = read_node(location)
    if existing is not None and not existing.is_array:
        raise ArrayError(
            f"{location} is a group. Name an array in it: {join(location, 'prediction')}."
        )
    if existing is not None and not overwrite:
        raise ArrayError(f"{location} exists already. Choose another name, or pass --overwrite.")
    if existing is not None:
        delete_array(existing)
    if overwrite:
        _check_room(location, spec)
    # Another process may create the same array right now: creating it is then refused.
    elif not is_empty(location, besides=(".zattrs", METADATA_FILE[spec.format])):
        raise ArrayError(
            f"{location} holds files that are not part of an array and would mix with the output. "
            "Remove them or choose another name."
        )
    for group in groups:
        _ensure_group(group, spec.format, is_container=group == groups[0])
    if spec.format == "n5":
        _create_n5(location, spec)
    else:
        zarr_metadata.create_array(location, spec, array_attributes(spec))
        image_metadata.add_array(groups[-1], location, spec)
        update_consolidated(location)
    return open_output(location)


def delete_output(path: str | Path) -> list[str]:
    """Delete the array at `path`, its downsampled levels and its OME-NGFF entry in the group above,
    and nothing else.

    Returns the names of other files in its folder, which stay. Raises ArrayError if there is no
    array, or if the folder is a symbolic link.
    """
    node = find_array(path)
    check_deletable(node.location)
    delete_levels(node.location)
    left = delete_array(node)
    above = read_node(parents(node.location)[0])
    if above is not None and above.format != "n5" and not above.is_array:
        image_metadata.remove_array(above, name_of(node.location))
        update_consolidated(node.location)
    return left


def check_output(path: str | Path, wanted: Format, dtype: str) -> list[str]:
    """The groups above a planned output, container first; writes nothing.

    Raises ArrayError if it cannot be created there, or if its format cannot hold the dtype.
    """
    location = normalize(path)
    name = np.dtype(dtype).name
    if name not in _DTYPES[wanted]:
        raise ArrayError(
            f"{path}: {wanted} cannot hold {name}. Possible: {', '.join(_DTYPES[wanted])}."
        )
    if location.startswith(("http://", "https://")):
        raise ArrayError(f"{location}: http can be read only. Write to a path, s3:// or gs://.")
    container = container_of(location)
    if container == location:
        raise ArrayError(
            f"{location} is a container. Name an array in it: {join(location, 'prediction')}."
        )
    if container is None:
        raise ArrayError(
            f"{location} lies in no container: a folder whose name ends in .zarr or .n5. "
            f"For example {join(parents(location)[0], 'out.zarr', name_of(location))}."
        )
    if container.lower().endswith(".n5") != (wanted == "n5"):
        raise ArrayError(f"{location} is to be {wanted}, which the name {container} contradicts.")
    above = parents(location)
    groups = above[: above.index(container) + 1][::-1]
    for group in groups:
        node = read_node(group)
        if node is not None and node.is_array:
            raise ArrayError(f"{location} lies inside {group}, which is an array.")
        if node is not None and node.format != wanted:
            raise ArrayError(
                f"{group} is {node.format}, and the output is to be {wanted}. "
                f"Ask for {node.format}, or choose another container."
            )
    return groups


def _check_room(location: str, spec: OutputSpec) -> None:
    """Raise ArrayError if files are there that the new array would take for its own chunks."""
    if found := colliding_files(location, output_keys(spec)):
        raise ArrayError(
            f"{location} holds files that the array would take for its chunks, for example "
            f"{found[0]}. Remove them or choose another name."
        )


def _ensure_group(location: str, wanted: Format, *, is_container: bool) -> None:
    """Create a group unless there is one; what is there is left as it is."""
    if wanted != "n5":
        zarr_metadata.ensure_group(location, wanted)
        return
    # neuroglancer hands a group's attributes down to its arrays: keep them to a minimum.
    content: Json = {"n5": "4.0.0"} if is_container else {}
    update_json(location, METADATA_FILE["n5"], lambda old: content if old is None else None)


def _create_n5(location: str, spec: OutputSpec) -> None:
    metadata = {
        "dimensions": spec.axes.stored(spec.channels, spec.shape)[::-1],
        "blockSize": spec.axes.stored(spec.channels, spec.chunk_shape)[::-1],
        "dataType": np.dtype(spec.dtype).name,
        # Every reader of N5 knows gzip; zstd came late, and neuroglancer lacks it.
        "compression": {"type": "gzip", "level": LEVEL},
        **array_attributes(spec),
    }
    request = {"driver": "n5", "kvstore": kvstore_spec(location), "metadata": metadata}
    with storage_errors(location, "create"):
        ts.open(request, create=True, open=False, context=storage_context(location)).result()
