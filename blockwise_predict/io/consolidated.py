"""Consolidated metadata: a group's copy of the metadata of all nodes below it, in one document.

zarr 2 keeps it in `.zmetadata`, zarr 3 in the group's `zarr.json`; see `GroupMetadata` in
https://github.com/zarr-developers/zarr-python/blob/main/src/zarr/core/group.py. Only the entries of
nodes that have changed are replaced. zarr-python would list the whole container to find all nodes,
which takes hours where it holds millions of chunks.
"""

from __future__ import annotations

from blockwise_predict.io.formats import Node, groups_above
from blockwise_predict.io.kvstore import Json, join, read_json, root_and_parts, update_json

_ZARR2 = ".zmetadata"
_ZARR2_DOCUMENTS = (".zgroup", ".zarray", ".zattrs")
_ZARR3 = "consolidated_metadata"
# Of a group in the consolidated metadata of one above it, as zarr-python writes it.
_NOTHING_BELOW: Json = {"kind": "inline", "must_understand": False, "metadata": {}}


def update_consolidated(location: str) -> None:
    """Update the consolidated metadata of the groups above a zarr node, where they have some.

    The node and the groups above it are copied as they are now. A node that is gone is removed,
    with all that was below it.
    """
    for group in groups_above(location):
        parts = root_and_parts(location)[1][len(root_and_parts(group.location)[1]) :]
        paths = ["/".join(parts[:end]) for end in range(1, len(parts) + 1)]
        if group.format == "zarr2":
            _update_zarr2(group, paths)
        elif group.format == "zarr3":
            _update_zarr3(group, paths)


def _update_zarr2(group: Node, paths: list[str]) -> None:
    def change(content: Json | None) -> Json | None:
        if content is None or not isinstance(content.get("metadata"), dict):
            return None
        # Read now, after the document that they go into: a change of theirs by another process,
        # which this may miss, is followed by that process's own update.
        entries = dict(content["metadata"])
        for path in ("", *paths):
            found = _zarr2_documents(join(group.location, path) if path else group.location)
            prefix = f"{path}/" if path else ""
            if not found:
                entries = {key: e for key, e in entries.items() if not key.startswith(prefix)}
            entries |= {f"{prefix}{name}": document for name, document in found.items()}
        return {**content, "metadata": entries}

    update_json(group.location, _ZARR2, change)


def _zarr2_documents(location: str) -> Json:
    found = {name: read_json(location, name) for name in _ZARR2_DOCUMENTS}
    return {name: document for name, document in found.items() if document is not None}


def _update_zarr3(group: Node, paths: list[str]) -> None:
    def change(content: Json | None) -> Json | None:
        consolidated = (content or {}).get(_ZARR3)
        if not isinstance(consolidated, dict) or not isinstance(consolidated.get("metadata"), dict):
            return None
        entries = dict(consolidated["metadata"])
        for path in paths:
            document = read_json(join(group.location, path), "zarr.json")
            if document is None:
                below = f"{path}/"
                entries = {k: e for k, e in entries.items() if not f"{k}/".startswith(below)}
            else:
                is_group = document.get("node_type") == "group"
                entries[path] = {**document, **({_ZARR3: _NOTHING_BELOW} if is_group else {})}
        return {**(content or {}), _ZARR3: {**consolidated, "metadata": entries}}

    update_json(group.location, "zarr.json", change)
