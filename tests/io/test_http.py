"""A plain web server that answers ranges and lists nothing, as most public data are served."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from blockwise_predict.errors import ArrayError
from blockwise_predict.io import create_output, open_input
from tests.support.arrays import output_spec, ramp, write_array, write_precomputed
from tests.support.webserver import ranges

PLACE = {"voxel_size": [4, 4, 4], "axis_names": ["z", "y", "x"]}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[str]:
    with ranges(tmp_path) as address:
        yield address


@pytest.mark.parametrize(
    "kind", ["zarr2", "zarr3", "zarr3-sharded", "precomputed", "precomputed-sharded"]
)
def test_every_format_is_read(tmp_path: Path, site: str, kind: str) -> None:
    data = ramp((5, 9, 14))
    if kind.startswith("precomputed"):
        path = write_precomputed(tmp_path, kind, data)
    else:
        path = write_array(tmp_path, kind, data, PLACE)
    array = open_input(f"{site}/{path.relative_to(tmp_path)}")
    np.testing.assert_array_equal(array.read((1, 2, 3), (5, 9, 14))[0], data[1:, 2:, 3:])
    assert array.is_stored((0, 0, 0), (5, 9, 14))


def test_what_is_not_there_and_what_is_not_written(site: str) -> None:
    with pytest.raises(ArrayError, match=rf"{site}/volume\.zarr/raw: there is no zarr, N5 or"):
        open_input(f"{site}/volume.zarr/raw")
    with pytest.raises(ArrayError, match="http can be read only"):
        create_output(output_spec(f"{site}/volume.zarr/raw"))
