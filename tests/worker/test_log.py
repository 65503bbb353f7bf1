"""The log of a worker is bounded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_logs_stay_small(tmp_path: Path) -> None:
    code = (
        "from blockwise_predict.worker import process as worker\n"
        "worker.MAX_LOG_BYTES = 100_000\n"
        "for number in range(1000):\n"
        "    print('x' * 1000, flush=True)\n"
        "    worker._limit_log()\n"
        "print('last', flush=True)\n"
    )
    log = tmp_path / "worker.log"
    with open(log, "ab") as out:
        subprocess.run([sys.executable, "-c", code], stdout=out, check=True)
    assert log.stat().st_size < 110_000
    assert "of log were removed here" in log.read_text()
    assert log.read_text().endswith("last\n")
