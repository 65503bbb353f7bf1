"""docs/formats.md: every cell of its tables is tried, whatever it says."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from funlib.geometry import Roi

from blockwise_predict.checkpoint import open_checkpoint
from blockwise_predict.config.model import load_config
from blockwise_predict.config.option import option_name
from blockwise_predict.errors import InputError
from blockwise_predict.io import create_output, open_output, read_attributes
from blockwise_predict.io.conversion.convert import convert, plan_conversion
from blockwise_predict.io.downsampled import Method, listed_levels
from blockwise_predict.io.given import Given
from blockwise_predict.records import RunDir
from blockwise_predict.records.output_spec import output_specs
from blockwise_predict.run.planned import PlannedRun, plan_run
from blockwise_predict.run.pyramid.build import Builders, Watch, build_levels
from blockwise_predict.worker.downsample import downsample
from tests.support.arrays import lengths
from tests.support.networks import save_network
from tests.support.reference import Held, one_pass
from tests.support.runs import predict, read_output
from tests.support.shared import ROOT
from tests.support.stored_images import IMAGE, PATHS, VOXEL_NM, stores

STORES = ("file", "s3", "gs", "http")
FORMATS = ("zarr 2", "zarr 3", "N5", "precomputed", "TIFF", "HDF5")
NOTHING = "–"
CHUNKED = ("zarr 2", "zarr 3", "N5")
CONVERTED = ("TIFF", "HDF5")
SIZE = Given(lengths(*VOXEL_NM))
# Why an input is refused.
NOT_READ = {
    "precomputed": "with 2 scales. Name one: .*/8_8_8",
    **dict.fromkeys(CONVERTED, "are read from a disk. Download it first"),
}

Table = dict[tuple[str, str], str]
DOCUMENT = (ROOT / "docs" / "formats.md").read_text()


def table(heading: str) -> Table:
    """The cells of the table below a heading, by the titles of row and column."""
    text = DOCUMENT.split(f"## {heading}\n")[1]
    lines = [line for line in text.split("\n## ")[0].splitlines() if line.startswith("|")]
    titles, _, *rows = [[word.strip() for word in line.strip("|").split("|")] for line in lines]
    return {
        (row[0], title): cell
        for row in rows
        for title, cell in zip(titles[1:], row[1:], strict=True)
    }


READ, WRITE = table("Read"), table("Write")


def tried(cells: Table) -> list[Any]:
    """Format, column, store and whether it works, for all cells and stores."""
    return [
        pytest.param(*key, store, store in cell.split(", "), id="-".join((*key, store)))
        for (key, cell), store in product(cells.items(), STORES)
        if cell != NOTHING
    ]


def test_the_tables_are_complete() -> None:
    assert {*READ} == {*product(FORMATS, ("array", "pyramid", "shards", "labels"))}
    assert {*WRITE} == {*product(FORMATS, ("array", "pyramid", "shards", "labels"))}
    assert {key for key, cell in READ.items() if cell != NOTHING} == {*PATHS}
    assert {key for key, cell in WRITE.items() if cell != NOTHING} == {
        *product(CHUNKED, ("array", "pyramid", "shards", "labels")),
        *((name, "array") for name in FORMATS),
    }
    for cell in (*READ.values(), *WRITE.values()):
        assert cell in (NOTHING, "no") or {*cell.split(", ")} <= {*STORES}
    # Arrays in memory are tried there.
    assert "[a test of their own](../tests/run/test_in_memory.py)" in DOCUMENT
    assert (ROOT / "tests" / "run" / "test_in_memory.py").exists()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("formats")


@pytest.fixture(scope="module")
def network(folder: Path) -> dict[str, str]:
    """A network that states its voxel size."""
    weights, architecture = save_network(folder)
    document = yaml.safe_load(architecture.read_text())
    architecture.write_text(yaml.safe_dump({**document, "input_voxel_size": [*VOXEL_NM]}))
    return {"checkpoint": str(weights), "architecture": str(architecture), "device": "cpu"}


@pytest.fixture(scope="module")
def roots(folder: Path) -> Iterator[dict[str, str]]:
    (folder / "images").mkdir()
    with stores(folder / "images") as roots:
        yield roots


def options(network: dict[str, str], **more: Any) -> dict[str, Any]:
    """The options of a run, of blocks of half of the image along each axis."""
    sizes = {"chunk_shape": "6,6,6", "block_shape": "6,6,6"}
    return {**network, "precision": "float32", **sizes, **more}


def planned(
    location: str, column: str, network: dict[str, str], roots: dict[str, str]
) -> PlannedRun:
    """A run whose input, or mask, is at a location."""
    chosen = {"input": location}
    if column == "labels":
        chosen = {"input": f"{roots['file']}/sharded/volume.zarr/raw", "mask": location}
    output = f"{roots['file']}/never.zarr/out"
    return plan_run(load_config(options(network, output=output, **chosen)))


@pytest.mark.parametrize(("name", "column", "store", "works"), tried(READ))
def test_read(
    name: str,
    column: str,
    store: str,
    works: bool,
    roots: dict[str, str],
    network: dict[str, str],
    tmp_path: Path,
) -> None:
    def read(location: str) -> PlannedRun:
        if name in CONVERTED:
            target = f"{tmp_path}/out.zarr/raw"
            convert(plan_conversion(location, target, SIZE))
            location = target
        return planned(location, column, network, roots)

    for path in PATHS[name, column]:
        location = f"{roots[store]}/{path}"
        if not works:
            with pytest.raises(InputError, match=NOT_READ[name]):
                read(location)
            continue
        found = read(location)
        if column == "labels":
            selected = found.selection.computed
            assert selected.shape == (2, 2, 2)
            assert [*zip(*np.nonzero(selected), strict=True)] == [(0, 1, 0)]
        else:
            array = found.opened.array
            assert array.voxel_size == lengths(*VOXEL_NM)
            np.testing.assert_array_equal(array.read((0, 0, 0), IMAGE.shape)[0], IMAGE)


# What complete runs read, by what they write: every format and every store. Elsewhere the same is
# written as runs do, without workers.
RUNS = {
    ("zarr 2", "gs"): ("http", "v04.zarr"),
    ("zarr 3", "s3"): ("s3", "v05.zarr"),
    ("N5", "file"): ("gs", "cosem.n5"),
}
KINDS = {"zarr 2": "zarr2", "zarr 3": "zarr3", "N5": "n5"}
ASKED = {"pyramid": {"pyramid": True}, "shards": {"shard_shape": "6,6,12", "block_shape": "6,6,12"}}
# Why an output is refused: for what is asked of the format, or for the store.
NOT_WRITTEN = {
    "pyramid": "is N5, for which no levels are made",
    "shards": "the output is (zarr2|n5), which has no shards",
    **dict.fromkeys(("precomputed", *CONVERTED), "lies in no container: a folder whose name ends"),
    "http": "http can be read only",
}


def output_at(name: str, root: str) -> str:
    """Where an output would be: in the form that its format would have."""
    places = {
        "N5": "out.n5/prediction",
        "precomputed": "precomputed/volume/8_8_8",
        "TIFF": "out.tif",
        "HDF5": "out.h5/prediction",
    }
    return f"{root}/{places.get(name, f'out-{name[-1]}.zarr/prediction')}"


class Outputs:
    """Outputs, each made when it is first asked for."""

    def __init__(self, network: dict[str, str], roots: dict[str, str], folder: Path) -> None:
        self._network, self._roots, self._folder = network, roots, folder
        self._made: set[str] = set()
        model = open_checkpoint(network["checkpoint"], architecture=network["architecture"])
        held, roi = Held((IMAGE.astype(np.float32) / 255)[None]), Roi((0, 0, 0), IMAGE.shape)
        self.expected = one_pass(model.build(), model.shapes, held, roi)
        self.labels = self.expected.argmax(axis=0, keepdims=True).astype(np.uint8)

    def output(self, name: str, store: str, *, labels: bool = False) -> str:
        """Where the output of a format in a store is: its values, or the labels made of them."""
        output = output_at(name, self._roots[store]) + "-labels" * labels
        if output not in self._made:
            input_store, path = RUNS.get((name, store), (store, "sharded/volume.zarr/raw"))
            given = options(
                self._network,
                output=output,
                input=f"{self._roots[input_store]}/{path}",
                run_dir=f"{self._folder}/{name}-{store}{'-labels' * labels}",
                format=KINDS[name],
                **({"postprocess": "argmax"} if labels else {}),
                **(ASKED["shards"] if WRITE[name, "shards"] != "no" else {}),
            )
            make = self._predict if (name, store) in RUNS else self._write
            make(given, pyramid=WRITE[name, "pyramid"] != "no" and not labels)
            self._made.add(output)
        return output

    def _predict(self, given: dict[str, Any], *, pyramid: bool) -> None:
        words = [word for key, value in given.items() for word in (option_name(key), value)]
        predict("run", *words, *["--pyramid"] * pyramid)

    def _write(self, given: dict[str, Any], *, pyramid: bool) -> None:
        config = load_config(given)
        (spec,) = output_specs(plan_run(config).plan, "predict run")
        values = self.labels if "postprocess" in given else self.expected
        create_output(spec).write((0, 0, 0), values)
        if pyramid:
            records, builders = RunDir(Path(given["run_dir"])), Builders(config, threads=True)
            methods: dict[str, Method] = {spec.path: "mean"}
            build_levels(methods, None, records=records, builders=builders, watch=Watch())


@pytest.fixture(scope="module")
def outputs(network: dict[str, str], roots: dict[str, str], folder: Path) -> Outputs:
    return Outputs(network, roots, folder)


@pytest.mark.parametrize(("name", "column", "store", "works"), tried(WRITE))
def test_write(
    name: str,
    column: str,
    store: str,
    works: bool,
    roots: dict[str, str],
    network: dict[str, str],
    outputs: Outputs,
    tmp_path: Path,
) -> None:
    if not works:
        asked = {**ASKED.get(column, {}), "output": output_at(name, roots[store])}
        if name in KINDS:
            asked["format"] = KINDS[name]
        asked |= {"input": f"{roots['file']}/v05.zarr", "run_dir": str(tmp_path / "records")}
        reasons = (NOT_WRITTEN.get(column if name in KINDS else name), NOT_WRITTEN.get(store))
        with pytest.raises(InputError, match="|".join(filter(None, reasons))):
            plan_run(load_config(options(network, **asked)))
        return
    output = outputs.output(name, store, labels=column == "labels")
    values = read_output(output)
    if column == "array":
        np.testing.assert_allclose(values, outputs.expected, rtol=0, atol=1e-5)
    elif column == "labels":
        assert values.dtype == np.uint8
        np.testing.assert_array_equal(values, outputs.labels)
        assert read_attributes(output)["classes"] == ["channel_0", "channel_1"]
    elif column == "pyramid":
        ((location, level),) = listed_levels(output)
        np.testing.assert_array_equal(
            read_output(location), downsample(values, level.factors, "mean")
        )
    else:
        assert open_output(output).zarr.shards == (2, 6, 6, 12)
