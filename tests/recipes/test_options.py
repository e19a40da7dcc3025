"""The habits that all recipes share. Needs bash; nothing is installed."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted(
    [
        *ROOT.glob("recipes/*.s[hb]*"),
        *ROOT.glob("egs/*/*/run*.sh"),
        *ROOT.glob("egs/speed/**/*.sh"),
        ROOT / ".ci/run",
    ]
)
OWN = ("data", "five_stems", "restore")  # recipes by themselves, not choices of another's options
CHOICES = sorted(p for p in ROOT.glob("egs/*/*/run.sh") if p.parent.name not in OWN)
SOURCED = ("parse_options", "environment", "data")  # by the others
RECIPES = sorted(p for p in ROOT.glob("recipes/*.sh") if p.stem not in SOURCED)
RECIPES += [ROOT / "egs/speed/run.sh", ROOT / "egs/mini_slakh/five_stems/run.sh"]

SCRIPT = r"""#!/usr/bin/env bash
# Say what was given.
#
#     bash say.sh [WORD...]
set -euo pipefail

nj=2            # tracks at a time
out_dir='a b'   # where to
empty=          # nothing by default
hidden=1
stage=0         # first stage
stop_stage=3    # last stage
. "$RECIPES/parse_options.sh"
late=1          # comes too late
echo "nj=$nj out_dir=$out_dir empty=$empty hidden=$hidden stages=$stage-$stop_stage"
for word; do echo "word=$word"; done
if at_stage 2 "two"; then echo done; fi
"""


def bash(
    *arguments: str | Path, cwd: Path | None = None, **variables: str
) -> subprocess.CompletedProcess[str]:
    command = ["bash", *map(str, arguments)]
    environment = {"PATH": os.environ["PATH"], "RECIPES": str(ROOT / "recipes"), **variables}
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment)


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "my recipes" / "say.sh"
    path.parent.mkdir()
    path.write_text(SCRIPT)
    return path


def said(script: Path, *arguments: str) -> list[str]:
    result = bash(script, *arguments)
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


def test_defaults_hold_without_options(script: Path) -> None:
    assert said(script) == [
        "nj=2 out_dir=a b empty= hidden=1 stages=0-3",
        "say.sh, stage 2: two",
        "done",
    ]


@pytest.mark.parametrize(
    "spelling",
    [["--stop-stage", "1"], ["--stop_stage", "1"], ["--stop-stage=1"], ["--stop_stage=1"]],
)
def test_an_underscore_may_be_a_dash_and_a_space_an_equals_sign(
    script: Path, spelling: list[str]
) -> None:
    assert said(script, *spelling) == ["nj=2 out_dir=a b empty= hidden=1 stages=0-1"]


def test_the_last_of_two_equal_options_counts(script: Path) -> None:
    assert "nj=5 " in said(script, "--nj", "4", "--nj=5")[0]


@pytest.mark.parametrize("value", ["", "a b", "a=b", "--nj 3", "$(touch x); *", "-1"])
def test_values_are_taken_as_they_are(script: Path, value: str) -> None:
    assert f"out_dir={value} empty" in said(script, "--out-dir", value)[0]
    assert f"out_dir={value} empty" in said(script, f"--out-dir={value}")[0]


def test_words_may_stand_anywhere_and_two_dashes_end_the_options(script: Path) -> None:
    lines = said(script, "a song.wav", "--stop-stage", "0", "", "--", "--nj", "x y")
    assert lines[1:] == ["word=a song.wav", "word=", "word=--nj", "word=x y"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--nope", "1"], "unknown option --nope"),
        (["--nope=1"], "unknown option --nope"),
        (["--hidden", "2"], "unknown option --hidden"),  # no comment on its line
        (["--late", "2"], "unknown option --late"),
        (["--path", "2"], "unknown option --path"),
        (["--", "--nj"], ""),
        (["-x"], "unknown option -x"),
        (["--=3"], "unknown option --"),
        (["--*", "3"], "unknown option --*"),
        (["--nj"], "--nj needs a value"),
        (["--nj", "two"], "--nj is a whole number, not 'two'"),
        (["--nj", ""], "--nj is a whole number, not ''"),
        (["--stage=08"], "--stage is a whole number, not '08'"),
        (["--stage=-1"], "--stage is a whole number, not '-1'"),
        (["--stage", "a[$(touch x)]"], "--stage is a whole number"),
    ],
)
def test_a_mistake_is_one_clear_line(script: Path, arguments: list[str], says: str) -> None:
    result = bash(script, *arguments)
    if not says:
        assert result.returncode == 0
        return
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith(f"error: {says}")
    assert result.stderr.count("\n") == 1


def test_help_prints_the_variables_with_their_values(script: Path) -> None:
    lines = said(script, "--nj", "7", "--help")
    assert lines[:3] == ["Say what was given.", "", "    bash say.sh [WORD...]"]
    assert [" ".join(line.split()) for line in lines[4:]] == [
        "--nj tracks at a time [7]",
        "--out-dir where to [a b]",
        "--empty nothing by default []",
        "--stage first stage [0]",
        "--stop-stage last stage [3]",
    ]


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_scripts_are_bash(path: Path) -> None:
    result = bash("-n", path)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipes_explain_themselves_and_refuse_what_they_do_not_know(
    path: Path, tmp_path: Path
) -> None:
    result = bash(path, "--help", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    head, _, listed = result.stdout.partition("\n\n  --")
    options = re.findall(r"^ *--([a-z-]+) +(\S.*) \[(.*)\]$", f"  --{listed}", re.M)
    # All variables that are set before the options are parsed, each with the words beside it.
    text, _, _ = path.read_text().partition("parse_options.sh")
    settings = re.findall(r"^([a-z_]+)=(.*?) +# (.*)$", text, re.M)
    assert len(settings) == len(re.findall(r"^\w+=", text, re.M)) == len(listed.splitlines())
    assert [(name, words) for name, words, _ in options] == [
        (name.replace("_", "-"), words) for name, _, words in settings
    ]
    assert "venv" in [name for name, _, _ in options]
    # What the words on top say of options, after the recipe's own name, is so.
    for line in re.findall(rf"{path.name}(.*(?:\\\n.*)*)", head):
        named = re.findall(r"--([a-z][a-z-]*)", line.split(" -- ")[0])
        assert set(named) <= {name for name, _, _ in options}
    result = bash(path, "--nope", "1", cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr.startswith("error: unknown option --nope")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("path", CHOICES, ids=lambda path: "/".join(path.parts[-3:-1]))
def test_instances_are_a_page_of_choices_that_options_overrule(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert len(lines) <= 25
    assert lines[-1].strip() == '"$@"'
    result = bash(path, "--nj", "3", "--stop-stage", "1", "--help")
    assert (result.returncode, result.stderr) == (0, "")
    options = {line.split()[0]: line for line in result.stdout.splitlines() if line[:4] == "  --"}
    assert options["--nj"].endswith("[3]")
    assert options["--stop-stage"].endswith("[1]")
    assert options["--data"].endswith("/data]" if "mini_slakh" in path.parts else "[]")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "give --reference, --source or --data"),
        (["--source", "."], "give --prior, a folder with a prior of these stems, or --checkpoint"),
        (["--source", "none", "--prior", "p"], "none: no such folder; give that of the data set"),
        (["--source", ".", "--checkpoint", "no.ckpt"], "no.ckpt: no such file; give MSDM's"),
        (["--source", ".", "--checkpoint", "bass=b drums=d"], "bass=b: no such file; give MSDM's"),
        (["--reference", ".", "--conf", "conf.toml"], "--conf: needs --data or --source"),
        (["--reference", ".", "--prior", "p", "--shard", "3/2"], "shard '3/2': write I/N with I"),
        (["--reference", ".", "--prior", "p", "--shard", "1/2"], "shard 1/2: run the stages 0 to"),
    ],
)
def test_what_must_be_brought_is_named_before_anything_is_made(
    arguments: list[str], says: str, tmp_path: Path
) -> None:
    (tmp_path / "conf.toml").touch()
    recipe = ROOT / "egs/slakh2100/msdm/run.sh"
    options = ["--venv", "none", "--exp", "exp", *arguments]
    python = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    result = bash(recipe, *options, cwd=tmp_path, PATH=python)
    assert (result.returncode != 0, result.stdout) == (True, "")
    assert result.stderr.startswith(f"error: {says}")
    assert result.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["conf.toml"]


def test_the_batch_script_of_slurm_starts_the_shares_in_its_folder(tmp_path: Path) -> None:
    """With a srun that says what it was given; sbatch runs a copy that lies elsewhere."""
    path = ROOT / "recipes" / "separate.sbatch"
    (tmp_path / "spool").mkdir()
    (script := tmp_path / "spool" / "slurm_script").write_bytes(path.read_bytes())
    (srun := tmp_path / "srun").write_text('#!/usr/bin/env bash\npwd\nprintf "<%s>" "$@"\n')
    srun.chmod(0o755)
    (work := tmp_path / "my work").mkdir()
    result = bash(
        script, "--exp", "a b", cwd=script.parent,
        PATH=f"{tmp_path}{os.pathsep}{os.environ['PATH']}", SLURM_SUBMIT_DIR=str(work),
    )  # fmt: skip
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == f"{work}\n<bash><recipes/separate.sh><--stage><3><--exp><a b>"
    head = path.read_text().split("set -e")[0].splitlines()
    assert head[0].startswith("#!")  # sbatch wants an interpreter, and its lines before commands
    assert all(line.startswith("#") for line in head)
    assert "#SBATCH --array=0-3" in head


def test_a_missing_song_is_named_before_anything_is_installed(tmp_path: Path) -> None:
    result = bash(ROOT / "recipes/quickstart.sh", "no such.wav", "--venv", tmp_path / "venv")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == "error: no such.wav: no such file\n"
    assert not list(tmp_path.iterdir())


def test_a_python_that_will_not_do_is_named(tmp_path: Path) -> None:
    (old := tmp_path / "old python").write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    (song := tmp_path / "song.wav").touch()
    result = bash(ROOT / "recipes/quickstart.sh", song, "--venv", tmp_path / "v", PYTHON=str(old))
    assert result.returncode == 2
    assert result.stderr.startswith(f"error: no Python >= 3.11 with its venv module (tried {old})")
    assert result.stderr.count("\n") == 1
