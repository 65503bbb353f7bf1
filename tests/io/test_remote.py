"""The same on S3, with a real server of the protocol."""

from __future__ import annotations

import numpy as np
import pytest

from blockwise_predict.errors import ArrayError
from blockwise_predict.io import (
    create_output,
    delete_output,
    guess_format,
    open_input,
    output_exists,
    read_attributes,
    update_attributes,
)
from blockwise_predict.io.kvstore import kvstore_spec, normalize, parents
from tests.support.arrays import OUTPUT_FORMATS, lengths, output_spec, ramp


@pytest.mark.parametrize("kind", OUTPUT_FORMATS)
def test_write_and_read_on_s3(bucket, kind):
    path = f"{bucket}/{kind}/out.{'n5' if kind == 'n5' else 'zarr'}/group/prediction"
    spec = output_spec(path, kind)
    output = create_output(spec)
    data = ramp((2, 4, 4, 8))
    output.write((0, 4, 0), data)
    update_attributes(path, {"done": True})
    assert read_attributes(output.path)["done"] is True
    array = open_input(path)
    np.testing.assert_array_equal(array.read((0, 4, 0), (4, 8, 8)), data)
    assert array.placement.offset == lengths("42.4", -8, 120)
    assert array.placement.notes == ()
    assert guess_format(path) == kind
    with pytest.raises(ArrayError, match="exists already"):
        create_output(spec)
    assert not create_output(spec, overwrite=True).read((0, 4, 0), (4, 8, 8)).any()
    delete_output(path)
    assert not output_exists(path)


def test_what_is_not_on_s3(bucket):
    with pytest.raises(
        ArrayError, match=r"s3://bucket/a\.zarr/raw: there is no zarr, N5 or precomputed array"
    ):
        open_input(f"{bucket}/a.zarr/raw")


def test_s3_settings_come_from_the_environment(monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_REGION", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://localhost:9000/")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    spec = kvstore_spec("s3://bucket/vol.zarr/raw")
    assert (spec["driver"], spec["bucket"], spec["path"]) == ("s3", "bucket", "vol.zarr/raw/")
    assert (spec["endpoint"], spec["aws_region"]) == ("http://localhost:9000", "eu-west-1")


def test_other_locations():
    gcs = kvstore_spec(normalize("gs://bucket/vol.n5/raw/"))
    assert (gcs["driver"], gcs["bucket"], gcs["path"]) == ("gcs", "bucket", "vol.n5/raw/")
    http = kvstore_spec(normalize("https://host:80/a/raw"))
    assert (http["base_url"], http["path"]) == ("https://host:80", "/a/raw/")
    assert parents("s3://bucket/a/b") == ["s3://bucket/a", "s3://bucket"]
    assert parents("/a/b") == ["/a", "/"]
    with pytest.raises(ArrayError, match="unknown kind of location ftp://"):
        normalize("ftp://host/a")
