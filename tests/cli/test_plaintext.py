"""What files say cannot take over the terminal."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import subprocess
from pathlib import Path

import torch
import yaml

from blockwise_predict.config.plain import plain
from tests.support.jobs import Job
from tests.support.networks import save_network
from tests.support.runs import command, predict

HOSTILE = "a\x1b]0;owned\x07\x1b[2J\x9b31m\x7f\u202eb\ud800"
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
ONE_BLOCK = ("--roi", "[:160,:160,:160]")


def is_shown_plainly(output: str) -> None:
    assert not CONTROL.search(output)
    # Where there is no terminal, click leaves out sequences as ESC [2J.
    assert "a\\x1b]0;owned\\x07" in output
    assert "\\x9b31m\\x7f\\u202eb" in output


def test_plain_text() -> None:
    assert plain(f"{HOSTILE[:-1]}\n\tb é 体 🙂") == (
        "a\\x1b]0;owned\\x07\\x1b[2J\\x9b31m\\x7f\\u202eb\n\tb é 体 🙂"
    )


def test_axis_names(job: Job) -> None:
    file = Path(job.input) / ".zattrs"
    attributes = json.loads(file.read_text())
    attributes["axis_names"] = [HOSTILE[:-1], "y", "x"]
    file.write_text(json.dumps(attributes))
    is_shown_plainly(predict("inspect", job.input))
    # Half of a surrogate pair, which UTF-8 cannot hold, is no traceback.
    attributes["axis_names"] = [HOSTILE, "y", "x"]
    file.write_text(json.dumps(attributes))
    assert "is an unpaired surrogate of UTF-16" in predict("inspect", job.input, code=2)


def test_on_a_terminal(job: Job) -> None:
    attributes = Path(job.input) / ".zattrs"
    content = json.loads(attributes.read_text())
    attributes.write_text(json.dumps({**content, "axis_names": [HOSTILE[:-1], "y", "x"]}))
    ours, theirs = pty.openpty()
    process = subprocess.Popen(command("inspect", job.input), stdout=theirs, stderr=theirs)
    os.close(theirs)
    said = b""
    with contextlib.suppress(OSError):
        # At the end of all output a terminal gives an error.
        while more := os.read(ours, 1 << 16):
            said += more
    os.close(ours)
    assert process.wait(60) == 0
    text = said.decode().replace("\r\n", "\n")
    is_shown_plainly(text)
    assert "\\x1b[2J" in text


def test_names_of_tensors(tmp_path: Path) -> None:
    weights, architecture = save_network(tmp_path)
    state = torch.load(weights)
    torch.save({**state, f"{HOSTILE[:-1]}.weight": torch.ones(1)}, weights)
    output = predict("inspect", weights, "--architecture", architecture, code=2)
    is_shown_plainly(output)


def test_keys_of_yaml_files(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump({HOSTILE[:-1]: 1, "border": HOSTILE[:-1]}))
    output = predict("run", file, code=2)
    is_shown_plainly(output)


def test_logs_and_events(job: Job) -> None:
    predict(*job.arguments("l", *ONE_BLOCK))
    run_dir = job.run_dir("l")
    with open(run_dir / "logs" / "worker-0000.log", "a") as log:
        log.write(HOSTILE[:-1])
    with open(run_dir / "events.jsonl", "a") as events:
        event = {"event": "join", "time": 1, "worker": 7, "name": HOSTILE[:-1], "log": ""}
        events.write(json.dumps(event) + "\n")
    is_shown_plainly(predict("logs", job.output("l"), "--worker", "0"))
    is_shown_plainly(predict("logs", job.output("l")))


def test_the_last_words_of_a_worker(job: Job) -> None:
    fleet = "sh -c 'printf \"a\\033]0;owned\\007\\033[2J\\2331m\"; exit 3' x"
    output = predict(*job.arguments("w", *ONE_BLOCK, "--fleet", fleet), code=1)
    assert not CONTROL.search(output)
    assert "a\\x1b]0;owned\\x07\\x1b[2J" in output


def test_where_only_ascii_can_be_written(tmp_path: Path) -> None:
    """click goes around a stream that can hold only that."""
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump({HOSTILE[:-1]: 1}))
    done = subprocess.run(
        ["env", "PYTHONIOENCODING=ascii", *command("run", file)], capture_output=True, check=False
    )
    assert done.returncode == 2
    is_shown_plainly(done.stderr.decode())
