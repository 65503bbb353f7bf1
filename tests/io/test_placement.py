"""Where an array lies: every convention, exactly, with the attribute it is known from."""

from __future__ import annotations

from fractions import Fraction

import pytest

from blockwise_predict.errors import ArrayError
from blockwise_predict.io import open_input
from blockwise_predict.io.units import exact_number
from tests.support.arrays import lengths, ramp, write_array, write_json

SHAPE = (4, 5, 6)


def place(path, **given):
    return open_input(path, **given).placement


def ngff(path, transforms, *, axes="zyx", unit="nanometer", above=None):
    units = {"unit": unit} if unit else {}
    kinds = {"c": "channel", "t": "time"}
    axis_list = [
        {"name": name, "type": kinds.get(name, "space"), **({} if name in kinds else units)}
        for name in axes
    ]
    entry = {"version": "0.4", "axes": axis_list, "datasets": []}
    entry["datasets"] = [
        {"path": "elsewhere", "coordinateTransformations": [{"type": "identity"}]},
        {"path": path, "coordinateTransformations": transforms},
    ]
    if above is not None:
        entry["coordinateTransformations"] = above
    return [entry]


def scale(*values):
    return {"type": "scale", "scale": list(values)}


def translation(*values):
    return {"type": "translation", "translation": list(values)}


def zarr2_with_multiscales(tmp_path, multiscales, *, shape=SHAPE, attributes=None):
    path = write_array(tmp_path, "zarr2", ramp(shape), attributes)
    write_json(path.parent / ".zgroup", {"zarr_format": 2})
    write_json(path.parent / ".zattrs", {"multiscales": multiscales})
    return path


@pytest.mark.parametrize("kind", ["zarr2", "zarr3"])
@pytest.mark.parametrize("key", ["voxel_size", "resolution"])
def test_funlib_attributes(tmp_path, kind, key):
    attributes = {key: [4.24, 4, 4], "offset": [42.4, -8, 0], "units": ["nm"] * 3}
    found = place(write_array(tmp_path, kind, ramp(SHAPE), attributes))
    assert found.voxel_size == (Fraction(106, 25), Fraction(4), Fraction(4))
    assert found.offset == lengths("42.4", -8, 0)
    file = ".zattrs" if kind == "zarr2" else "zarr.json"
    assert found.voxel_size_source == f"attribute '{key}' of raw/{file}"
    assert found.offset_source == f"attribute 'offset' of raw/{file}"
    assert found.notes == ()


def test_funlib_values_and_units_for_the_channel_too(tmp_path):
    attributes = {
        "voxel_size": [1, 0.00424, 0.004, 0.004],
        "offset": [0, 1, 2, 3],
        "units": ["", "um", "um", "um"],
        "axis_names": ["c^", "z", "y", "x"],
    }
    found = place(write_array(tmp_path, "zarr3", ramp((2, *SHAPE)), attributes))
    assert found.voxel_size == lengths("4.24", 4, 4)
    assert found.offset == lengths(1000, 2000, 3000)
    assert found.notes == ()


def test_funlib_types_name_the_channel(tmp_path):
    types = ["space", "space", "space", "channel"]
    attributes = {"voxel_size": [4, 4, 4], "types": types, "units": "nm"}
    array = open_input(write_array(tmp_path, "zarr3", ramp((5, 6, 7, 6)), attributes))
    assert (array.shape, array.channels) == ((5, 6, 7), 6)


@pytest.mark.parametrize(
    ("unit", "nanometers"),
    [
        ("nm", 1),
        ("nanometer", 1),
        ("um", 1000),
        ("µm", 1000),
        ("micrometer", 1000),
        ("micrometre", 1000),
        ("angstrom", Fraction(1, 10)),
        ("mm", 10**6),
        ("meter", 10**9),
        ("pm", Fraction(1, 1000)),
    ],
)
def test_units_are_exact(tmp_path, unit, nanometers):
    attributes = {"voxel_size": [0.3, 0.1, 0.7], "units": [unit] * 3}
    found = place(write_array(tmp_path, "zarr2", ramp(SHAPE), attributes))
    assert found.voxel_size == tuple(v * nanometers for v in lengths("0.3", "0.1", "0.7"))


@pytest.mark.parametrize(("units", "note"), [(None, "no unit"), (["px"] * 3, "unknown unit 'px'")])
def test_units_that_are_guessed_are_noted(tmp_path, units, note):
    attributes = {"voxel_size": [4, 4, 4]} | ({"units": units} if units else {})
    found = place(write_array(tmp_path, "zarr2", ramp(SHAPE), attributes))
    assert found.voxel_size == lengths(4, 4, 4)
    assert len(found.notes) == 1
    assert note in found.notes[0]


def test_a_ratio_that_no_decimal_holds(tmp_path):
    attributes = {"voxel_size": [10 / 3, 4.239999771118164, 1e-05], "units": "nm"}
    found = place(write_array(tmp_path, "zarr2", ramp(SHAPE), attributes))
    assert found.voxel_size == (
        Fraction(10, 3),
        Fraction("4.239999771118164"),
        Fraction(1, 100000),
    )


def test_ngff_0_4(tmp_path):
    transforms = [scale(0.00424, 0.004, 0.004), translation(1, 0.5, 0)]
    path = zarr2_with_multiscales(tmp_path, ngff("raw", transforms, unit="micrometer"))
    found = place(path)
    assert found.voxel_size == lengths("4.24", 4, 4)
    assert found.offset == lengths(1000, 500, 0)
    assert found.voxel_size_source == "scale in multiscales[0].datasets[1] of .zattrs"
    assert found.offset_source == "translation in multiscales[0].datasets[1] of .zattrs"


def test_ngff_0_5_of_a_nested_array(tmp_path):
    path = write_array(tmp_path, "zarr3", ramp(SHAPE))
    nested = path.parent / "em" / "image" / "s0"
    nested.parent.mkdir(parents=True)
    path.rename(nested)
    multiscales = ngff("image/s0", [scale(8, 4, 4)])
    group = {"zarr_format": 3, "node_type": "group"}
    ome = {"ome": {"version": "0.5", "multiscales": multiscales}}
    write_json(path.parent / "em" / "zarr.json", {**group, "attributes": ome})
    found = place(nested)
    assert found.voxel_size == lengths(8, 4, 4)
    assert found.offset == lengths(0, 0, 0)
    assert found.voxel_size_source == "scale in ome.multiscales[0].datasets[1] of em/zarr.json"
    assert found.offset_source == "none found, 0 assumed"


def test_ngff_transformations_of_the_dataset_come_before_those_of_the_multiscale(tmp_path):
    inner = [scale(2, 2, 2), translation(1, 2, 3)]
    outer = [scale(10, 5, 5), translation(100, 0, 0)]
    found = place(zarr2_with_multiscales(tmp_path, ngff("raw", inner, above=outer)))
    assert found.voxel_size == lengths(20, 10, 10)
    assert found.offset == lengths(110, 10, 15)


def test_ngff_channels_and_a_single_time_point(tmp_path):
    multiscales = ngff("raw", [scale(1, 1, 8, 4, 4), translation(0, 0, 8, 0, 0)], axes="tczyx")
    array = open_input(zarr2_with_multiscales(tmp_path, multiscales, shape=(1, 2, *SHAPE)))
    assert (array.shape, array.channels) == (SHAPE, 2)
    assert array.placement.voxel_size == lengths(8, 4, 4)
    assert array.placement.offset == lengths(8, 0, 0)
    assert array.placement.notes == ()
    assert (array.read((0, 0, 0), SHAPE) == ramp((2, *SHAPE))).all()


def test_ngff_transformation_that_is_not_understood(tmp_path):
    path = zarr2_with_multiscales(tmp_path, ngff("raw", [{"type": "affine"}]))
    with pytest.raises(ArrayError, match=r"'affine' is not understood.*--voxel-size"):
        place(path)
    assert place(path, voxel_size=lengths(4, 4, 4)).voxel_size == lengths(4, 4, 4)


def test_axes_stored_x_first_are_noted(tmp_path):
    path = zarr2_with_multiscales(tmp_path, ngff("raw", [scale(4, 4, 8)], axes="xyz"))
    found = place(path)
    assert found.axis_names == ("x", "y", "z")
    assert "stored in the order x, y, z" in found.notes[0]


def test_funlib_wins_over_ngff_and_the_conflict_is_noted(tmp_path):
    multiscales = ngff("raw", [scale(8, 8, 8), translation(1, 1, 1)])
    attributes = {"voxel_size": [4, 4, 4], "offset": [1, 1, 1], "units": "nm"}
    found = place(zarr2_with_multiscales(tmp_path, multiscales, attributes=attributes))
    assert found.voxel_size == lengths(4, 4, 4)
    (note,) = found.notes
    assert "8 x 8 x 8" in note
    assert "4 x 4 x 4 of attribute 'voxel_size' of raw/.zattrs is used" in note


def test_the_command_line_wins_over_all(tmp_path):
    attributes = {"voxel_size": [4, 4, 4], "offset": [1, 1, 1], "units": "nm"}
    path = write_array(tmp_path, "zarr2", ramp(SHAPE), attributes)
    found = place(path, voxel_size=lengths(8, 8, 8))
    assert (found.voxel_size, found.voxel_size_source) == (lengths(8, 8, 8), "--voxel-size")
    assert found.offset == lengths(1, 1, 1)
    found = place(path, offset=lengths(5, 5, 5))
    assert (found.offset, found.offset_source) == (lengths(5, 5, 5), "--offset")
    assert found.voxel_size == lengths(4, 4, 4)


def test_dimension_units_as_tensorstore_and_neuroglancer_write_them(tmp_path):
    attributes = {
        "_ARRAY_DIMENSIONS": ["c", "z", "y", "x"],
        "dimension_units": [None, "0.00424 um", "4 nm", "4 nm"],
    }
    array = open_input(write_array(tmp_path, "zarr2", ramp((2, *SHAPE)), attributes))
    assert array.channels == 2
    assert array.placement.voxel_size == lengths("4.24", 4, 4)


@pytest.mark.parametrize("kind", ["zarr2", "zarr3", "n5"])
def test_nothing_found_says_what_was_looked_for(tmp_path, kind):
    path = write_array(tmp_path, kind, ramp(SHAPE))
    with pytest.raises(ArrayError) as caught:
        place(path)
    message = str(caught.value)
    assert "does not say its voxel size. Looked for: " in message
    assert ("pixelResolution" if kind == "n5" else "voxel_size, resolution, offset") in message
    assert ("OME-NGFF" in message) == (kind != "n5")
    assert "--voxel-size" in message


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"voxel_size": [4, 4, "a"]}, "attribute 'voxel_size' of raw/.zattrs holds 'a'"),
        ({"voxel_size": [4, 4, float("nan")]}, "not a finite number"),
        ({"voxel_size": 4}, "a list of numbers is needed"),
        ({"voxel_size": [4, 0, 4]}, "must be positive"),
        ({"voxel_size": [4, 4, 4], "offset": [0, 0]}, "has 2 values; the array has 3 spatial"),
        ({"voxel_size": [4] * 5}, "which axes are spatial"),
    ],
)
def test_attributes_that_make_no_sense(tmp_path, attributes, message):
    path = write_array(tmp_path, "zarr2", ramp(SHAPE), attributes)
    with pytest.raises(ArrayError, match=message):
        place(path)


def n5(tmp_path, attributes, shape=SHAPE):
    return write_array(tmp_path, "n5", ramp(shape), attributes)


def test_n5_of_funlib_is_x_first(tmp_path):
    attributes = {"resolution": [4, 4, 4.24], "offset": [1, 2, 3], "units": ["nm"] * 3}
    found = place(n5(tmp_path, attributes))
    assert found.voxel_size == lengths("4.24", 4, 4)
    assert found.offset == lengths(3, 2, 1)
    assert found.voxel_size_source == "attribute 'resolution' of raw/attributes.json"


def test_n5_voxel_size_of_newer_funlib_is_in_c_order(tmp_path):
    found = place(n5(tmp_path, {"voxel_size": [8, 4, 2], "offset": [3, 2, 1], "units": ["nm"] * 3}))
    assert found.voxel_size == lengths(8, 4, 2)
    assert found.offset == lengths(3, 2, 1)


def test_n5_of_neuroglancer_with_channels(tmp_path):
    attributes = {
        "resolution": [0.004, 0.004, 0.008, 1],
        "units": ["um", "um", "um", ""],
        "axes": ["x", "y", "z", "c"],
    }
    array = open_input(n5(tmp_path, attributes, (2, *SHAPE)))
    assert (array.shape, array.channels) == (SHAPE, 2)
    assert array.placement.voxel_size == lengths(8, 4, 4)
    assert array.placement.notes == ()


@pytest.mark.parametrize("form", ["object", "list"])
def test_n5_pixel_resolution(tmp_path, form):
    values = [0.004, 0.005, 0.006] if form == "object" else [4, 5, 6]
    pixel = {"unit": "um", "dimensions": values} if form == "object" else values
    found = place(n5(tmp_path, {"pixelResolution": pixel, "downsamplingFactors": [1, 2, 4]}))
    assert found.voxel_size == lengths(24, 10, 4)
    assert "'pixelResolution'" in found.voxel_size_source
    assert "times 'downsamplingFactors'" in found.voxel_size_source


@pytest.mark.parametrize("order", ["zyx", "xyz"])
def test_n5_transform_of_cosem_names_its_axes(tmp_path, order):
    step = 1 if order == "zyx" else -1
    transform = {
        "axes": list(order),
        "scale": [5.24, 4, 4][::step],
        "translate": [1, 2, 3][::step],
        "units": ["nm"] * 3,
    }
    pixel = {"unit": "nm", "dimensions": [4, 4, 5.24]}
    found = place(n5(tmp_path, {"transform": transform, "pixelResolution": pixel}))
    assert found.voxel_size == lengths("5.24", 4, 4)
    assert found.offset == lengths(1, 2, 3)
    assert found.offset_source == "translate in 'transform' of raw/attributes.json"
    assert found.notes == ()


def test_n5_multiscales_of_cosem_in_the_group(tmp_path):
    path = n5(tmp_path, {})
    transform = {"axes": ["z", "y", "x"], "scale": [8, 4, 4], "translate": [2, 0, 0]}
    transform["units"] = ["nm"] * 3
    datasets = [{"path": "s9"}, {"path": "raw", "transform": transform}]
    write_json(path.parent / "attributes.json", {"multiscales": [{"datasets": datasets}]})
    found = place(path)
    assert (found.voxel_size, found.offset) == (lengths(8, 4, 4), lengths(2, 0, 0))
    assert "multiscales[0].datasets[1].transform of attributes.json" in found.voxel_size_source


@pytest.mark.parametrize("key", ["scales", "downsamplingFactors"])
def test_n5_viewer_pyramid(tmp_path, key):
    raw = n5(tmp_path, {})
    path = raw.parent / "em" / "s1"
    path.parent.mkdir()
    raw.rename(path)
    pixel = {"unit": "nm", "dimensions": [4, 4, 8]}
    group = {"pixelResolution": pixel, key: [[1, 1, 1], [4, 2, 1]], "axes": ["x", "y", "z"]}
    write_json(path.parent / "attributes.json", group)
    found = place(path)
    assert found.voxel_size == lengths(8, 8, 16)
    assert f"times '{key}'[1] of em/attributes.json" in found.voxel_size_source


def test_n5_conflict_is_noted(tmp_path):
    pixel = {"unit": "nm", "dimensions": [8, 8, 8]}
    attributes = {"resolution": [4, 4, 4], "units": ["nm"] * 3, "pixelResolution": pixel}
    found = place(n5(tmp_path, attributes))
    assert found.voxel_size == lengths(4, 4, 4)
    assert "8 x 8 x 8" in found.notes[0]


@pytest.mark.parametrize(
    ("stored", "meant"),
    [
        *((0.1 + 0.002, "0.102"), (4.24 * 3, "12.72"), (1.1 - 0.1, "1"), (2.54 / 1000, "0.00254")),
        *((1 / 3, "1/3"), (3.3333333333333335, "10/3"), (123456.789012, "123456.789012")),
        *((0.123456789012345, "0.123456789012345"), (100000000000000001, "100000000000000001")),
    ],
)
def test_numbers_are_what_was_meant(stored: float, meant: str) -> None:
    assert exact_number(stored, "scale") == Fraction(meant)
