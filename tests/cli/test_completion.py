"""What the shell completes, and where its script is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner

from blockwise_predict.cli import predict as group
from blockwise_predict.cli.completion import SHELLS, VARIABLE
from blockwise_predict.errors import ConfigError


def completions(*words: str) -> tuple[list[str], set[str]]:
    """The values, and the kinds, that complete the last word of a command line."""
    found = ShellComplete(group, {}, "predict", VARIABLE).get_completions([*words[:-1]], words[-1])
    return [str(item.value) for item in found], {item.type for item in found}


def test_commands_options_and_choices_are_completed() -> None:
    assert completions("re")[0] == ["report", "retry"]
    assert completions("run", "--bor")[0] == ["--border"]
    assert completions("run", "--border", "")[0] == ["reflect", "edge", "constant", "valid"]
    assert completions("run", "--output-dtype", "u")[0] == ["uint8", "uint16"]
    assert completions("pyramid", "out", "--fleet", "s")[0] == ["slurm"]
    assert completions("completion", "")[0] == list(SHELLS)


@pytest.mark.parametrize(
    "words",
    [
        ["run", "--checkpoint", "dacapo/"],
        ["run", "--input", ""],
        ["run", "--fleet", "./my"],
        ["run", "conf"],
        ["inspect", "vol"],
        ["status", "out"],
        ["view", "out"],
        ["convert", "stack.tif", "out"],
    ],
)
def test_paths_are_left_to_the_shell(words: list[str]) -> None:
    assert completions(*words) == ([words[-1]], {"file"})


def test_every_path_that_a_command_takes_is_completed() -> None:
    named = {"OUTPUT", "ARRAY", "ARRAY...", "STACK", "CHECKPOINT", "FOLDER", "FILE.html", "PATH"}
    for command in group.commands.values():
        for parameter in command.params:
            if parameter.make_metavar(click.Context(command)) in named:
                kind = parameter.type.name
                assert kind in ("path", "file", "directory"), (command.name, parameter.name)


SHOW = """
import sys
from blockwise_predict.cli import main
try:
    main()
except SystemExit:
    pass
slow = {"torch", "numpy", "zarr", "rich", "tensorstore", "daisy"} & set(sys.modules)
sys.stdout.flush()
print("\\nIMPORTED", *sorted(slow))
"""


def test_completing_imports_nothing_that_is_slow() -> None:
    environment = {VARIABLE: "bash_complete", "COMP_WORDS": "predict run --bor", "COMP_CWORD": "2"}
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.argv[0] = 'predict'\n{SHOW}"],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split("\n") == ["plain,--border", "", "IMPORTED", ""]


@pytest.mark.parametrize(
    ("shell", "place"),
    [
        ("bash", ".local/share/bash-completion/completions/predict"),
        ("zsh", ".local/share/zsh/site-functions/_predict"),
        ("fish", ".config/fish/completions/predict.fish"),
    ],
)
def test_a_script_is_installed_and_nothing_else(
    shell: str, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME", "BASH_COMPLETION_USER_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SHELL", f"/usr/bin/{shell}")
    target = tmp_path / place
    for words in (["completion", shell, "--install"], ["completion", "--install"]):
        result = CliRunner().invoke(group, words, prog_name="predict")
        assert result.exit_code == 0, result.output
        assert f"Written: {target}\n" in result.output
        assert f"To undo: rm {target}\n" in result.output
        assert [path for path in tmp_path.rglob("*") if path.is_file()] == [target]
    printed = CliRunner().invoke(group, ["completion", shell], prog_name="predict").output
    assert target.read_text() == printed
    assert f"{VARIABLE}={shell}_complete" in printed
    # What is not ours stays.
    target.write_text("complete -F _mine predict\n")
    result = CliRunner().invoke(group, ["completion", shell, "--install"])
    assert isinstance(result.exception, ConfigError)
    assert target.read_text() == "complete -F _mine predict\n"


def test_a_shell_must_be_named_if_the_variable_names_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHELL", "/bin/tcsh")
    error = CliRunner().invoke(group, ["completion"]).exception
    assert isinstance(error, ConfigError)
    assert str(error) == "name the shell: bash, zsh, fish; $SHELL is 'tcsh'."


COMPLETE = """
source "$1"
COMP_WORDS=(predict run --bor) COMP_CWORD=2
_predict_completion predict
echo "${COMPREPLY[@]}"
complete -p predict
"""


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
def test_bash_completes(tmp_path: Path) -> None:
    script = tmp_path / "predict.bash"
    script.write_text(CliRunner().invoke(group, ["completion", "bash"]).output)
    (tmp_path / "predict").symlink_to(Path(sys.executable).with_name("predict"))
    done = subprocess.run(
        ["bash", "--norc", "-c", COMPLETE, "-", script],
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    )
    completed, declared = done.stdout.splitlines()
    assert completed == "--border"
    assert "-F _predict_completion predict" in declared
