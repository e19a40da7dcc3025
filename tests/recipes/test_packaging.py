"""What pyproject.toml promises: tested bounds, a wheel of bounded size, links that exist."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

from mgdm_audio.cli.main import main

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
TOOLS = ("dev", "docs")  # extras of tools, of which the newest will do
WHEEL_MB = 60


def bounds(*lists: list[str]) -> dict[str, str]:
    """Distribution -> its lower bound in these lists of requirements."""
    found = {}
    for requirement in (each for every in lists for each in every):
        match = re.fullmatch(r"([A-Za-z0-9_-]+)>=([\d.]+)", requirement)
        assert match is not None, requirement
        found[match[1]] = match[2]
    return found


EXTRAS = {k: v for k, v in PROJECT["optional-dependencies"].items() if k not in TOOLS}
ONNX = EXTRAS.pop("onnx")  # needs a newer torch than the rest
BOUNDS = bounds(PROJECT["dependencies"], *EXTRAS.values())


def pinned(name: str) -> dict[str, str]:
    lines = (ROOT / "recipes/local" / f"{name}.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


def test_every_lower_bound_is_one_that_the_oldest_releases_are_tested_at() -> None:
    assert pinned("oldest") == BOUNDS
    onnx = bounds(ONNX)
    assert pinned("onnx") == onnx | {"torchaudio": onnx["torch"]}  # released together


def test_the_job_on_the_oldest_installs_every_extra() -> None:
    text = (ROOT / "recipes/oldest.sh").read_text()
    for_onnx, for_all = re.findall(r"^ +environment (.*)$", text, re.M)
    assert for_onnx == "dev onnx"
    assert set(for_all.split()) == {"dev", *EXTRAS}
    oldest = PROJECT["requires-python"].removeprefix(">=")
    assert f"python=python{oldest} " in text
    for path in re.findall(r"\btests/[\w/.]+", re.sub(r"_\{.*?\}\.py", "", text)):
        assert (ROOT / path).exists() or list(ROOT.glob(f"{path}*")), path


def test_the_wheel_has_at_most_60_mb() -> None:
    """Deflate makes no file longer but by its 5 bytes for every 16 kB, and a name for each."""
    listed = subprocess.run(
        ["git", "-C", ROOT, "ls-files", "-z", "mgdm_audio"], capture_output=True, text=True
    )
    if listed.returncode:
        pytest.skip("no git checkout: nothing says which files are the package's")
    files = [ROOT / name for name in listed.stdout.split("\0") if name]
    assert len(files) > 200
    assert sum(file.stat().st_size + 1000 for file in files) <= 0.999 * WHEEL_MB * 1e6


MODULES = {"PIL": "pillow", "grpc": "grpcio", "yaml": "pyyaml"}  # imported by another name
# Comparisons with these, and the notebook's execution, say so themselves; no recipe installs them.
ASIDE = {"audio_diffusion_pytorch", "deepinv", "lpips", "nbclient", "nbformat", "skimage"} | {
    "demucs", "openunmix",  # what egs/speed compares with, in an environment of their own
}  # fmt: skip


def test_what_is_imported_is_required_by_name() -> None:
    """Not only by another requirement, which may go: scipy once came with museval alone."""
    parts = ("mgdm_audio", "recipes", "egs")
    files = [path for part in parts for path in ROOT.glob(f"{part}/**/*.py")]
    own = {path.stem for path in files} | {"mgdm_audio", "tests", "torture"}
    imported: dict[str, Path] = {}
    for path in files:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = [str(node.module)]
            else:
                continue
            imported |= {name.partition(".")[0]: path for name in names}
    foreign = imported.keys() - own - set(sys.stdlib_module_names) - ASIDE
    assert len(foreign) > 15
    required = BOUNDS.keys() | bounds(ONNX).keys()
    assert {MODULES.get(name, name) for name in foreign} - required == set()


def test_the_container_has_what_it_installs_and_runs() -> None:
    text = (ROOT / "recipes/Containerfile").read_text()
    copied = {name for line in re.findall(r"^COPY (.*) \S+$", text, re.M) for name in line.split()}
    assert all((ROOT / name).exists() for name in copied)
    needed = {"pyproject.toml", PROJECT["readme"], *PROJECT["license-files"], "mgdm_audio"}
    assert needed <= copied  # what a build of the package reads
    folder = re.findall(r"^WORKDIR (\S+)$", text, re.M)[0]
    (script,) = re.findall(r'^ENTRYPOINT \["bash", "(\S+)"\]$', text, re.M)
    assert (ROOT / Path(script).relative_to(folder)).is_file()
    for recipe in re.findall(r"bash (recipes/\S+)", text):
        assert (ROOT / recipe).is_file()


def test_links_are_no_placeholders() -> None:
    assert PROJECT["urls"] == {"Paper": "https://arxiv.org/abs/2502.03332"}


def test_everything_but_bss_eval_does_without_museval(tmp_path: Path) -> None:
    """Nothing imports it, or what it alone brings; its metric names the extra."""
    code = (
        "import sys\n"
        "for name in ('museval', 'musdb', 'pandas', 'scipy', 'stempeg'): sys.modules[name] = None\n"
        "import mgdm_audio.evaluation.folders, mgdm_audio.evaluation.benchmark.bench\n"
        "from mgdm_audio.cli.main import COMMANDS, main\n"
        "from importlib import import_module\n"
        "for module, _ in COMMANDS.values(): import_module(module.partition(':')[0])\n"
        "from mgdm_audio.evaluation.metric_registry import find_metrics\n"
        "find_metrics(['si-sdri', 'activity', 'si-sdr', 'sdr', 'mel', 'mr-stft'])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert not any("museval" in each for each in PROJECT["dependencies"])


def test_bss_eval_names_its_extra_before_anything_is_scored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mgdm_audio.evaluation import bss_eval

    bss_eval.museval_metrics.cache_clear()
    monkeypatch.setattr(bss_eval, "find_spec", lambda name: None)
    options = ["--reference", str(tmp_path), "--estimate", str(tmp_path), "--metrics", "sdr,bss"]
    result = CliRunner().invoke(main, ["score", *options])
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "error: BSS Eval needs museval: pip install 'mgdm_audio[bss]'\n"
