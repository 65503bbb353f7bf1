"""What `predict worker` logs, and that only a command configures logging."""

from __future__ import annotations

import re
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import numpy as np

from blockwise_predict.records import default_run_dir
from tests.support.networks import save_network
from tests.support.runs import predict, write_volume

TIME = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}"
IMPORT_ALL = """
import logging, pkgutil, importlib
import blockwise_predict
for module in pkgutil.walk_packages(blockwise_predict.__path__, "blockwise_predict."):
    # volara's plugin is for an environment that has volara.
    if not module.name.endswith(("__main__", ".volara")):
        importlib.import_module(module.name)
names = ["", *(n for n in logging.root.manager.loggerDict if n.startswith("blockwise_predict"))]
for name in names:
    log = logging.getLogger(name or None)
    print(repr(name), len(log.handlers), log.level)
"""


def test_each_line_of_a_workers_log_says_when(tmp_path: Path) -> None:
    weights, architecture = save_network(tmp_path)
    volume = write_volume(tmp_path / "v.zarr", np.ones((20, 20, 20), np.uint8))
    output = f"{tmp_path}/out.zarr/affs"
    begun = datetime.now().replace(microsecond=0)
    predict(
        *("run", "--checkpoint", weights, "--architecture", architecture),
        *("--input", volume, "--output", output, "--device", "cpu"),
    )
    ended = datetime.now()
    log = default_run_dir(output) / "logs" / "worker-0000.log"
    lines = log.read_text().splitlines()
    for expected in ("computing on cpu, precision ", "worker 0 on ", "worker 0: 1 blocks done"):
        (line,) = [line for line in lines if re.match(f"{TIME} {expected}", line)]
        assert begun <= datetime.strptime(line[:23], "%Y-%m-%d %H:%M:%S,%f") <= ended


def test_importing_the_package_configures_no_logging() -> None:
    result = subprocess.run([sys.executable, "-c", IMPORT_ALL], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    root, *loggers = result.stdout.splitlines()
    assert root == "'' 0 30"
    assert len(loggers) >= 3
    assert all(line.endswith(" 0 0") for line in loggers)
