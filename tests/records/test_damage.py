"""Records of a run that are damaged or missing."""

from __future__ import annotations

import os

import pytest

from tests.support.jobs import SMALL, Job
from tests.support.runs import predict, stored_bytes


@pytest.mark.parametrize(
    ("name", "cut", "message"),
    [
        ("plan.json", 100, "plan.json is damaged (not valid JSON"),
        ("identity.json", 100, "identity.json is damaged"),
        ("blocks-*.npy", 140, "is damaged"),
        ("blocks-*.npy", None, "is missing"),
    ],
)
def test_a_damaged_record_is_recognised_and_explained(
    name: str, cut: int | None, message: str, job: Job
) -> None:
    predict(*job.arguments("z", *SMALL))
    expected = stored_bytes(job.output("z"))
    (file,) = job.run_dir("z").glob(name)
    if cut is None:
        file.unlink()
    else:
        os.truncate(file, cut)
    output = predict(*job.arguments("z", *SMALL), code=2)
    assert message in output
    if name.startswith("blocks"):
        assert f"predict verify {job.output('z')} --repair" in output
        assert "was rebuilt" in predict("verify", job.output("z"), "--repair")
        assert "Resuming: 2 of 2" in predict(*job.arguments("z", *SMALL))
    else:
        assert "--overwrite" in output
        predict(*job.arguments("z", *SMALL, "--overwrite"))
    assert stored_bytes(job.output("z")) == expected
