import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module

import click
import pytest
from click.shell_completion import BashComplete
from click.testing import CliRunner

from mgdm_audio import __version__
from mgdm_audio.cli import main as module
from mgdm_audio.cli.main import COMMANDS, main
from mgdm_audio.data.mapping import bundled
from mgdm_audio.errors import UserError
from mgdm_audio.images.presets import list_image_presets
from mgdm_audio.priors.folder import DEFAULT_PRIOR, list_image_priors, list_priors
from mgdm_audio.samplers.presets import list_presets


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


def test_the_package_runs_as_a_module() -> None:
    command = [sys.executable, "-m", "mgdm_audio", "--version"]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert run.stdout.startswith("mgdm-audio, version ")


def test_version() -> None:
    assert CliRunner().invoke(main, ["--version"]).output == f"mgdm-audio, version {__version__}\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_can_be_loaded_and_explains_itself(name: str) -> None:
    home, _, attribute = COMMANDS[name][0].partition(":")
    assert getattr(import_module(home), attribute).name == name
    result = CliRunner().invoke(main, [name, "--help"])
    assert result.exit_code == 0
    assert result.output.startswith(f"Usage: main {name} ")


def verbs(group: click.Group = main, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The words of every command, the groups too."""
    yield path
    for name in group.commands:
        command = loaded((*path, name))
        if isinstance(command, click.Group):
            yield from verbs(command, (*path, name))
        else:
            yield (*path, name)


def loaded(path: tuple[str, ...]) -> click.Command:
    command: click.Command = main
    for name in path:
        assert isinstance(command, click.Group)
        _, found, _ = command.resolve_command(click.Context(command), [name])
        assert found is not None
        command = found
    return command


@pytest.mark.parametrize("path", list(verbs()), ids=" ".join)
def test_every_help_has_examples_that_can_be_typed(path: tuple[str, ...]) -> None:
    result = CliRunner().invoke(main, [*path, "--help"])
    lines = [line.strip() for line in result.output.splitlines()]
    examples = [shlex.split(line) for line in lines if line.startswith("mgdm-audio ")]
    assert any(words[1 : 1 + len(path)] == list(path) for words in examples)
    for _, *words in examples:
        command, rest, depth = loaded(()), words, 0
        while isinstance(command, click.Group):
            depth += 1
            command, rest = loaded(tuple(words[:depth])), words[depth:]
        if rest != ["--help"]:
            command.make_context("example", rest)  # parses, and runs nothing


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("sepa", ["separate"]),
        ("priors ve", ["verify"]),
        ("priors pu", ["push"]),
        ("priors push zzz", ["zzz"]),
        ("priors push RUN/prior me/band --pri", ["--private"]),
        ("separate --two", ["--two-stems"]),
        ("separate --sampler wie", ["wiener"]),
        ("sample --sampler anc", ["ancestral"]),
        ("restore --sampler psl", ["psld"]),
        ("prepare stems --map mus", ["musdb18"]),
        ("train --init zzz", ["zzz"]),
    ],
)
def test_a_shell_completes_verbs_options_and_what_is_bundled(
    words: str, offered: list[str]
) -> None:
    assert completed(words) == offered


@pytest.mark.parametrize("verb", ["separate --prior ", "serve --prior "])
def test_a_shell_completes_the_priors_that_are_listed(verb: str) -> None:
    assert completed(verb) == list_priors()
    assert completed("restore --prior ") == list_image_priors()
    assert completed("priors show ") == sorted([*list_priors(), *list_image_priors()])


def test_a_shell_completes_the_presets_that_are_listed() -> None:
    assert completed("separate --sampler ") == list_presets()
    assert completed("restore --sampler ") == list_image_presets()
    assert completed("prepare stems --map ") == list(bundled())


def completed(words: str) -> list[str]:
    *before, last = words.split(" ")
    shell = BashComplete(main, {}, "mgdm-audio", "_MGDM_AUDIO_COMPLETE")
    return [item.value for item in shell.get_completions(before, last)]


def test_completing_does_not_import_torch() -> None:
    code = (
        "import sys; from mgdm_audio.cli.main import main\n"
        "try: main(prog_name='mgdm-audio')\n"
        "except SystemExit: pass\n"
        "sys.exit('torch' in sys.modules)"
    )
    words = {"COMP_WORDS": "mgdm-audio separate --prior min", "COMP_CWORD": "3"}
    environment = os.environ | {"_MGDM_AUDIO_COMPLETE": "bash_complete"} | words
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True)
    assert done.returncode == 0
    assert DEFAULT_PRIOR in done.stdout.decode()


@pytest.mark.parametrize("arguments", [["--help"], ["separate", "--help"], ["separate", "x.wav"]])
def test_there_are_no_colours_where_there_is_no_terminal(arguments: list[str]) -> None:
    command = [sys.executable, "-m", "mgdm_audio.cli.main", *arguments]
    done = subprocess.run(command, capture_output=True)
    assert done.stdout + done.stderr
    assert b"\x1b" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        (["prepare", "slak"], "'slakh'"),
        (["priors", "shwo"], "'show'"),
        (["separate", "x", "-o", "o", "--sed", "1"], "'--seed'"),
        (["separate", "x", "-o", "o", "--subtype", "PCM24"], "'PCM_24'"),
    ],
)
def test_an_unknown_verb_or_option_names_the_nearest(typed: list[str], says: str) -> None:
    result = CliRunner().invoke(main, typed)
    assert result.exit_code == 2
    assert says in result.stderr.splitlines()[-1]


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
