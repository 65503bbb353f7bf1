"""Writing into the OME-NGFF image metadata of a group: its `multiscales` and `omero`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from blockwise_predict.errors import ArrayError
from blockwise_predict.io import ngff, ngff_entries, zarr_metadata
from blockwise_predict.io.formats import Node, read_node
from blockwise_predict.io.kvstore import Json, name_of
from blockwise_predict.io.omero import omero_of
from blockwise_predict.io.spec import OutputSpec


def add_array(group: str, location: str, spec: OutputSpec) -> None:
    """Add the multiscale of a new array to the group above it.

    `omero` describes the first multiscale of a group, so it is written only if that is this one.
    """
    shift = ngff.translation(spec.offset, spec.voxel_size, spec.input_voxel_size)
    version: Literal["0.4", "0.5"] = "0.4" if spec.format == "zarr2" else "0.5"
    name = name_of(location)
    entry = ngff_entries.multiscale_entry(
        name, version, axes=spec.axes, voxel_size=spec.voxel_size, shift=shift
    )
    omero = omero_of(spec)
    node = read_node(group)
    if node is None:
        raise ArrayError(f"{group} was removed while {location} was created.")

    def add(image: Json) -> Json:
        multiscales = ngff_entries.with_entry(image.get("multiscales", []), entry)
        own = {"omero": omero} if multiscales[0] == entry else {}
        return {**image, "multiscales": multiscales, **own}

    change_image(node, add)


def remove_array(group: Node, name: str) -> None:
    """Remove an array from a group's multiscales, and `omero` if that described this array alone.

    Other attributes stay.
    """

    def remove(image: Json) -> Json:
        old = image.get("multiscales", [])
        new = ngff_entries.without_dataset(old, name)
        is_described = bool(old) and ngff_entries.dataset_paths(old[0]) == [name]
        stale = {"omero"} if is_described else set()
        stale |= set() if new else {"multiscales"}
        # In their order, so that what stays is written as it was.
        return {
            key: new if key == "multiscales" else value
            for key, value in image.items()
            if key not in stale
        }

    change_image(group, remove)


def add_level(group: Node, array: str, level: str, factors: list[int], method: str) -> None:
    """Add a downsampled level to the multiscale whose first dataset is `array`.

    `factors` are the numbers of the array's voxels in one of the level's, for each stored axis.
    Raises ArrayError if there is no such multiscale.
    """

    def add(image: Json) -> Json:
        multiscales = list(image.get("multiscales", []))
        heads = [ngff_entries.dataset_paths(entry)[:1] for entry in multiscales]
        if [array] not in heads:
            raise ArrayError(
                f"{group.location} has no OME-NGFF multiscale that begins with {array}, to which "
                "levels could be added."
            )
        place = heads.index([array])
        old = multiscales[place]
        others = [dataset for dataset in old["datasets"] if dataset["path"] != level]
        new = ngff_entries.level_dataset(
            old["datasets"][0], level, factors, image.get("version", "0.4")
        )
        multiscales[place] = {**old, "type": method, "datasets": [*others, new]}
        return {**image, "multiscales": multiscales}

    change_image(group, add)


def remove_levels(group: Node, levels: list[str]) -> None:
    """Remove downsampled levels from a group's multiscales."""

    def remove(image: Json) -> Json:
        multiscales = image.get("multiscales", [])
        for level in levels:
            multiscales = ngff_entries.without_dataset(multiscales, level)
        return {**image, "multiscales": multiscales} if "multiscales" in image else image

    change_image(group, remove)


def change_image(group: Node, change: Callable[[Json], Json]) -> None:
    """Replace a group's image metadata by `change(them)`: its attributes (0.4), or `ome` (0.5)."""

    def update(attributes: Json) -> Json:
        if group.format == "zarr2":
            return change(attributes)
        image = change(attributes.get("ome", {}))
        version = {"version": "0.5"} if "multiscales" in image else {}
        return {**attributes, "ome": {**version, **image}}

    zarr_metadata.change_group_attributes(group.location, group.output_format, update)
