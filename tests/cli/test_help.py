import subprocess
import sys
from importlib import import_module

import click
import pytest
from click.testing import CliRunner

from mgdm_audio import __version__
from mgdm_audio.cli import main as module
from mgdm_audio.cli.main import COMMANDS, main
from mgdm_audio.errors import UserError


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["score", "--help"], ["scor"]])
def test_asking_does_not_import_torch(arguments: list[str]) -> None:
    code = (
        "import sys; from mgdm_audio.cli.main import main\n"
        f"try: main({arguments!r})\n"
        "except SystemExit: pass\n"
        "sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def test_help_lists_every_command_with_its_line() -> None:
    result = CliRunner().invoke(main, ["-h"])
    assert result.exit_code == 0
    listed = [
        line.split(None, 1) for line in result.output.split("Commands:")[1].splitlines() if line
    ]
    assert listed == [[name, help_line] for name, (_, help_line) in COMMANDS.items()]


def test_version() -> None:
    assert CliRunner().invoke(main, ["--version"]).output == f"mgdm-audio, version {__version__}\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_can_be_loaded_and_explains_itself(name: str) -> None:
    home, _, attribute = COMMANDS[name][0].partition(":")
    assert getattr(import_module(home), attribute).name == name
    result = CliRunner().invoke(main, [name, "--help"])
    assert result.exit_code == 0
    assert result.output.startswith(f"Usage: main {name} ")


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ("separat", "did you mean 'separate'?"),
        ("scroe", "did you mean 'score'?"),
        ("zzz", "there are"),
    ],
)
def test_an_unknown_command_names_the_nearest(typed: str, says: str) -> None:
    result = CliRunner().invoke(main, [typed])
    assert result.exit_code == 2
    assert f"no command '{typed}'; {says}" in result.output


def fail_with(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    @click.command()
    def failing() -> None:
        raise error

    monkeypatch.setattr(module, "failing", failing, raising=False)
    monkeypatch.setitem(COMMANDS, "failing", ("mgdm_audio.cli.main:failing", ""))


def test_a_failure_the_user_can_mend_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    fail_with(UserError("a.wav: no such\n file"), monkeypatch)
    result = CliRunner().invoke(main, ["failing"])
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "error: a.wav: no such file\n"


def test_an_interrupt_is_130_without_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    fail_with(KeyboardInterrupt(), monkeypatch)
    result = CliRunner().invoke(main, ["failing"])
    assert (result.exit_code, result.stderr) == (130, "interrupted\n")


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    fail_with(ZeroDivisionError(), monkeypatch)
    assert isinstance(CliRunner().invoke(main, ["failing"]).exception, ZeroDivisionError)
