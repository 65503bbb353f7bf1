"""README.md and docs/*.md: every command is accepted and, where it can be here, run."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from blockwise_predict.cli import predict as command
from blockwise_predict.config.model import OPTIONS, RunConfig, load_config
from tests.support.documented_files import CONFIG, write_documented_files
from tests.support.documents import (
    DOCUMENTS,
    GENERATED,
    inline_commands,
    name_of,
    snippets,
)
from tests.support.forked import forked_workers
from tests.support.runs import predict
from tests.support.shared import ROOT

NAMES = [name for d in DOCUMENTS if (name := name_of(d)) not in GENERATED]
SNIPPETS = [s for d in DOCUMENTS if name_of(d) in NAMES for s in snippets(d)]
COMMANDS = [(snippet, line) for snippet in SNIPPETS for line in snippet.commands()]
# What is parsed and not run, by what stands in the command or in the code, and why.
ONLY_PARSED = {
    " ... ": "leaves out what stands elsewhere on the page",
    "--fleet": "needs other machines, or a queue: tests/fleet",
    "slurm.yaml": "needs Slurm: tests/fleet/slurm",
    "lsf.yaml": "needs LSF: tests/fleet/test_lsf.py",
    "predict scale": "needs a run that goes on: tests/fleet/test_scaling.py",
    "predict worker ": "needs a run that goes on: tests/fleet/test_processes.py",
    "weights.pt": "is what most tests of tests/run do",
    "predict completion": "writes to the user's own folders: tests/cli/test_completion.py",
    "trials.zarr": "is two more iterations of what the page has run before",
    "predict-demo/part.zarr": "is a part of what the page has run before",
    "my_run.zip": "is run by tests/run/test_families.py",
    "config.yaml --probe": "is run with the README's options",
    "--metrics-port": "would take a port of this machine: tests/run/test_observed.py",
    "--notify": "runs another program: tests/run/test_observed.py",
    "s3://": "needs a bucket: tests/run/test_remote.py",
    "daisy.run_blockwise": "starts processes of daisy: tests/run/test_pipeline.py",
    "volara": "needs an environment with volara: tests/run/test_volara.py",
    "from blockwise_predict.demo import MODEL": "tests/run/test_docs.py runs it",
}
# What goes on until somebody stops it.
LASTING = {
    "predict view": "tests/view looks at pages",
    "predict serve": "tests/view/test_serve.py",
    "--watch": "tests/report",
}
PAGES_ONLY_PARSED = {
    "index.md": "has the README's command",
    "cellmap.md": "tests/run/test_families.py and test_packages.py run networks of each kind",
    "models.md": "tests/run/test_families.py and test_programs.py run networks of each kind",
}
KEYS = {*OPTIONS, "architecture", "task"}
CPU = ("--device", "cpu")
# What pieces of code use that stands in the text around them.
GIVEN = """
import threading
import torch
import blockwise_predict as bp
size = (20, 20, 20)
model = torch.nn.Linear(1, 1)
"""


def reason(text: str, page: str) -> str | None:
    """Why something is not run."""
    found = [why for part, why in (ONLY_PARSED | LASTING).items() if part in text]
    return next(iter(found), PAGES_ONLY_PARSED.get(page))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("documented")
    write_documented_files(folder)
    return folder


def parse(line: str) -> None:
    """Raise what `predict` would say before it opens a file."""
    _, name, *words = shlex.split(line)
    above = click.Context(command, info_name="predict", **command.context_settings)
    given = [word for word in words if word != "..."]
    parsed: click.Context = command.commands[name].make_context(name, given, above)
    while isinstance(group := parsed.command, click.Group):
        name, below, rest = group.resolve_command(parsed, [*parsed._protected_args, *parsed.args])
        assert below is not None
        parsed = below.make_context(name, rest, above)
    if name in ("run", "plan") and "..." not in words:
        options = {key: parsed.params[key] or None for key in RunConfig.model_fields}
        load_config(options, parsed.params["config"])


def test_commands_are_accepted(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(files)
    assert len(COMMANDS) > 70
    for snippet, line in COMMANDS:
        try:
            parse(line)
        except Exception as error:
            raise AssertionError(f"{snippet}: {line}: {error}") from error


def test_options_within_sentences_are_options() -> None:
    checked = 0
    for document in DOCUMENTS:
        for line in inline_commands(document):
            # What is quoted is another program's.
            _, name, *words = re.sub(r"'[^']*'|\"[^\"]*\"", "", line).split()
            known = {o for p in command.commands[name].params for o in p.opts}
            options = {word for word in words if word.startswith("--")}
            assert options <= known, (document.name, line)
            checked += len(options)
    assert checked > 15


def test_code_is_python() -> None:
    for snippet in SNIPPETS:
        if snippet.language == "python":
            ast.parse(snippet.text, str(snippet))


def test_keys_of_yaml_are_keys() -> None:
    for snippet in SNIPPETS:
        if snippet.language == "yaml":
            keys = {*yaml.safe_load(snippet.text)}
            # What has none is for another program.
            assert keys <= KEYS or not keys & KEYS, snippet


def test_what_is_not_run_is_still_there() -> None:
    reasons = [*ONLY_PARSED.values(), *LASTING.values(), *PAGES_ONLY_PARSED.values()]
    tests = re.findall(r"tests/[\w/]+(?:\.py)?", " ".join(reasons))
    assert [path for path in tests if not (ROOT / path).exists()] == []
    said = "\n".join(s.text for s in SNIPPETS)
    assert [part for part in ONLY_PARSED if part not in said] == []
    assert {*PAGES_ONLY_PARSED} <= {*NAMES}


class Reader:
    """Somebody who follows pages, one after another, in a folder."""

    def __init__(self) -> None:
        self._names: dict[str, Any] = {}
        # Outputs, and the commands that made them.
        self._made: dict[str, str] = {}
        # What has been typed since the last run, and would say the same again.
        self._typed: set[str] = set()

    def follow(self, page: str) -> None:
        self._names.clear()
        exec(GIVEN, self._names)
        for snippet in (s for s in SNIPPETS if s.page == page):
            if snippet.language != "python":
                for line in snippet.commands():
                    if not reason(line, page):
                        self._type(line)
            elif not reason(snippet.text, page):
                with forked_workers():
                    exec(compile(snippet.text, str(snippet), "exec"), self._names)

    def _type(self, line: str) -> None:
        words = shlex.split(line)[1:]
        if words[0] == "run":
            self._run(words)
        elif line not in self._typed:
            self._typed.add(line)
            if words[0] == "plan":
                # Not that of another page's run.
                words += ["--output", "planned.zarr/affs", *CPU]
            elif CONFIG["output"] in words and not Path(CONFIG["output"]).exists():
                predict("run", "config.yaml", *CPU)
            predict(*words)

    def _run(self, words: list[str]) -> None:
        """Run a command; an output that another command has made is not in its way."""
        line, output = shlex.join(words), output_of(words)
        resumes = self._made.get(output) == line or not Path(output).exists()
        predict(*words, *CPU, *([] if resumes else ["--overwrite"]))
        self._made[output] = line
        self._typed.clear()


def output_of(words: list[str]) -> str:
    if "--output" in words:
        return words[words.index("--output") + 1]
    return yaml.safe_load(Path(words[1]).read_text())["output"]


# Pages that make volumes and outputs of their own, and those that share them.
OWN = [name for name in NAMES if name.startswith(("api", "tutorial"))]
SHARED = [name for name in NAMES if name not in OWN]


@pytest.mark.parametrize("pages", [OWN, SHARED], ids=["own", "shared"])
def test_pages_can_be_followed(
    pages: list[str], files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(files)
    reader = Reader()
    for page in pages:
        try:
            reader.follow(page)
        except BaseException as error:
            error.add_note(f"while following {page}")
            raise
