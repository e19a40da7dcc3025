"""``--import MODULE``, and names of installed packages, on the command line."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import soundfile
from click.testing import CliRunner, Result

from mgdm_audio import registry as importing
from mgdm_audio.audio.io import write
from mgdm_audio.cli.main import main
from mgdm_audio.diffusion import NoiseSchedule
from mgdm_audio.evaluation.metric_registry import METRICS
from mgdm_audio.priors.architectures import ARCHITECTURES
from mgdm_audio.priors.folder import save_prior
from mgdm_audio.priors.images.trained_images import save_trained
from mgdm_audio.registry import Registry
from mgdm_audio.samplers import SAMPLERS
from tests.cli.test_help import completed, loaded, verbs
from tests.images.toys import tiny_unet
from tests.plugin import METRIC, NETWORK, SAMPLER, install_all
from tests.toys import STEMS, song

RATE, TIME = 22050, 55125
OWN = {
    "sampler": f"{SAMPLER}\nfrom mgdm_audio.samplers import SAMPLERS\n"
    "SAMPLERS.register('own-quarter', Quarter)\n",
    "network": f"{NETWORK}\nfrom mgdm_audio.priors.architectures import ARCHITECTURES\n"
    "ARCHITECTURES.register('own-gain', GAIN)\n",
    "metric": f"{METRIC}\nfrom mgdm_audio.evaluation.metric_registry import METRICS\n"
    "METRICS.register('own-peak', PEAK)\n",
}
TAKING = {"separate", "sample", "score", "bench", "restore", "serve"} | {
    f"priors {verb}" for verb in ("list", "show", "verify", "calibrate", "export", "push")
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder to run in, with a song, its stems and presets; what is imported is forgotten."""
    (track := tmp_path / "stems/song").mkdir(parents=True)
    parts = song(1, 4, TIME, RATE)
    for stem, wave in zip(STEMS, parts, strict=True):
        write(track / f"{stem}.wav", wave[None], RATE)
    write(tmp_path / "song.wav", parts.sum(0)[None] / 4, RATE)
    (tmp_path / "mine.toml").write_text('sampler = "quarter"\n')
    (tmp_path / "own.toml").write_text('sampler = "own-quarter"\n')
    for name, text in OWN.items():
        (tmp_path / f"own_{name}.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p not in ("", str(tmp_path))])
    monkeypatch.setattr(importing, "_imported", [])
    yield tmp_path
    forget()


def forget() -> None:
    """Remove what tests register, and their modules."""
    for name in list(sys.modules):
        if name.startswith(("own", "extra_music", "bad", "hostile", "neighbour")):
            del sys.modules[name]
    tables: list[Registry[Any]] = [SAMPLERS, ARCHITECTURES, METRICS]
    for table, name in zip(tables, ("own-quarter", "own-gain", "own-peak"), strict=True):
        table.pop(name, None)


def run(*words: str | Path) -> Result:
    result = CliRunner().invoke(main, list(map(str, words)))
    # Anything else is a traceback in a user's face.
    assert result.exception is None or isinstance(result.exception, SystemExit), result
    return result


def succeed(*words: str | Path) -> str:
    result = run(*words)
    assert result.exit_code == 0, result.output
    return result.output


def save_gain(folder: Path, kind: str) -> Path:
    """A prior of the network that the installed package and own_network.py have."""
    code: dict[str, Any] = {"__name__": "own_saved"}
    exec(NETWORK, code)
    config = code["Config"]()
    details = {"schedule": {"kind": "karras"}, "stems": list(STEMS), "sample_rate": RATE,
               "mixture_rms": 0.1, "segment": 4096}  # fmt: skip
    save_prior(folder, code["Gain"](config), config, kind, details)
    return folder


def quarters(folder: Path) -> None:
    """Each stem is a quarter of the song, to 24 bits and the rounding of its level's change."""
    mixture, _ = soundfile.read("song.wav")
    for stem in STEMS:
        found, _ = soundfile.read(folder / "song" / f"{stem}.wav")
        assert abs(found - mixture / 4).max() < 1e-6


def test_an_installed_package(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(install_all(here / "site"))
    prior = save_gain(here / "prior", "gain")
    words = ("--device", "cpu", "--prior", prior)
    succeed("separate", "song.wav", "-o", "out", "--sampler", "mine.toml", *words)
    quarters(here / "out")
    assert "gain" in succeed("priors", "show", prior)
    assert "ok" in succeed("priors", "verify", prior)
    assert "prior: bass, drums, guitar, piano" in succeed("priors", "list", ".")
    shown = succeed("score", "--reference", "stems", "--estimate", "stems", "--metrics", "peak")
    assert "largest error" in shown


def test_training_starts_from_no_other_network(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("accelerate")
    monkeypatch.syspath_prepend(install_all(here / "site"))
    (here / "conf.toml").write_text('[data]\ntrain = "stems"\nsegment = 4096\n')
    prior = save_gain(here / "prior", "gain")
    result = run("train", "conf.toml", "-o", "RUN", "--init", prior)
    assert result.exit_code == 1
    line = f"error: --init {prior}: its network is a gain; train starts from a tf_unet\n"
    assert result.stderr == line


@pytest.mark.parametrize("form", ["own_{}.py", "./own_{}.py", "own_{}"])
def test_a_module_of_one_s_own(form: str, here: Path) -> None:
    prior = save_gain(here / "prior", "own-gain")
    both = ("--import", form.format("sampler"), "--import", form.format("network"))
    words = ("--device", "cpu", "--prior", prior)
    refused = run("separate", "song.wav", "-o", "out", "--sampler", "own.toml", *words)
    assert refused.exit_code == 1
    assert refused.stderr.count("\n") == 1
    assert "--import MODULE" in refused.stderr
    succeed("separate", "song.wav", "-o", "out", "--sampler", "own.toml", *words, *both, *both)
    quarters(here / "out")
    assert "own-gain" in succeed("priors", "show", prior, *both)
    assert "ok" in succeed("priors", "verify", prior, *both)
    assert "prior: bass, drums, guitar, piano" in succeed("priors", "list", ".", *both)
    succeed("sample", "-o", "new", "--seconds", "0.2", "--set", "num_steps=2", *words, *both)
    assert (here / "new/bass.wav").is_file()


def test_a_benchmark(here: Path) -> None:
    (here / "suite.toml").write_text(
        'device = "cpu"\n[[sets]]\nname = "test"\nreference = "stems"\n'
        '[[systems]]\nname = "mine"\npreset = "own.toml"\n'
    )
    prior = save_gain(here / "prior", "own-gain")
    words = ("bench", "suite.toml", "-o", "out", "--prior", prior)
    assert "sampler 'own-quarter' is unknown" in run(*words, "--import", "own_network").stderr
    succeed(*words, "--import", "own_network", "--import", "own_sampler")
    row = json.loads((here / "out/rows/test/mine/song.json").read_text())
    assert (row["status"], row["settings"]["sampler"]) == ("scored", "Quarter")


def test_a_change_of_one_s_own_code_makes_results_out_of_date(here: Path) -> None:
    """Those of separate, bench and score, which are kept while the code stays as it is."""
    (here / "suite.toml").write_text(
        'device = "cpu"\n[[sets]]\nname = "test"\nreference = "stems"\n'
        '[[systems]]\nname = "mine"\npreset = "own.toml"\n'
    )
    words = ("--prior", save_gain(here / "prior", "own-gain"), "--device", "cpu")
    both = ("--import", "own_network", "--import", "own_sampler")
    row = here / "bench/rows/test/mine/song.json"

    def outcome() -> tuple[bool, int, int]:
        forget()
        out = succeed("separate", "song.wav", "-o", "out", "--sampler", "own.toml",
                      "--skip-existing", *words, *both)  # fmt: skip
        succeed("bench", "suite.toml", "-o", "bench", *words, *both)
        succeed("score", "--reference", "stems", "--estimate", "stems", "--metrics", "own-peak",
                "--import", "own_metric", "-o", "a.json")  # fmt: skip
        scores = len(list((here / ".scores").iterdir()))
        return "there already" in out, row.stat().st_mtime_ns, scores

    kept, first, scores = outcome()
    assert (kept, scores) == (False, 1)
    assert outcome() == (True, first, 1)
    for name in OWN:
        with (here / f"own_{name}.py").open("a") as file:
            file.write("# another line\n")
    kept, again, scores = outcome()
    assert (kept, scores) == (False, 2)
    assert again > first
    for name in ("sampler", "network"):  # either of them will do
        with (here / f"own_{name}.py").open("a") as file:
            file.write("# and another\n")
        assert not outcome()[0]


def test_scores_in_processes_of_their_own(here: Path) -> None:
    """Two tracks, each scored in a fresh process, which imports the module again."""
    for path in (here / "stems/song").iterdir():
        (here / "stems/other").mkdir(exist_ok=True)
        (here / "stems/other" / path.name).write_bytes(path.read_bytes())
    words = ("score", "--reference", "stems", "--estimate", "stems", "--metrics", "own-peak")
    succeed(*words, "--import", "own_metric.py", "--nj", "2", "-o", "scores.json")
    scores = json.loads((here / "scores.json").read_text())
    assert scores["tracks"]["other"]["peak"] == {**dict.fromkeys(STEMS, 0.0), "all": 0.0}


def test_restoring_images(here: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    save_trained(here / "toy", tiny_unet(3), NoiseSchedule.linear(), (16, 16))
    image.new("RGB", (16, 16), (9, 99, 199)).save(here / "a.png")
    succeed("restore", "a.png", "-o", "out", "--task", "denoising", "--prior", "toy", "--sampler",
            "own.toml", "--device", "cpu", "--import", "own_sampler.py")  # fmt: skip
    report = json.loads((here / "out/a/report.json").read_text())
    assert report["options"] == {"factor": 1.0}


BAD = {
    "bad_syntax": ("x = (\n", "SyntaxError: '(' was never closed (bad_syntax.py, line 1)"),
    "bad_name": ("\nx = y\n", "line 2 of {}: NameError: name 'y' is not defined"),
    "bad_need": ("import zzz\n", "line 1 of {}: ModuleNotFoundError: No module named 'zzz'"),
    "bad_exit": ("raise SystemExit(3)\n", "line 1 of {}: SystemExit: 3"),
    "bad_lines": ("raise OSError('a\\nb')\n", "line 1 of {}: OSError: a b"),
    "bad_taken": (
        "from mgdm_audio.samplers import SAMPLERS, MGDM\nSAMPLERS.register('mgdm', MGDM)\n",
        "line 2 of {}: UserError: sampler 'mgdm' exists already; choose another name",
    ),
}


@pytest.mark.parametrize("form", ["{}", "{}.py"])
@pytest.mark.parametrize("name", BAD)
def test_a_module_that_raises_is_one_line(name: str, form: str, here: Path) -> None:
    text, says = BAD[name]
    (here / f"{name}.py").write_text(text)
    result = run("separate", "song.wav", "-o", "out", "--import", form.format(name))
    asked = name if form == "{}" else here / f"{name}.py"
    assert result.stderr == f"error: --import {asked}: {says.format(here / f'{name}.py')}\n"
    assert result.exit_code == 1
    assert not (here / "out").exists()


@pytest.mark.parametrize(
    ("module", "says"),
    [
        ("nowhere", "ModuleNotFoundError: No module named 'nowhere'"),
        ("nowhere.py", "FileNotFoundError: there is no such file"),
        ("stems.py", "FileNotFoundError: there is no such file"),
        ("own_sampler.x", "ModuleNotFoundError: No module named 'own_sampler.x'"),
        ("", "ValueError: Empty module name"),
        (".own_sampler", "TypeError: "),
    ],
)
def test_a_module_that_is_missing_is_one_line(module: str, says: str, here: Path) -> None:
    result = run("priors", "list", "--import", module)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert says in result.stderr


def test_where_a_module_is_looked_for(here: Path) -> None:
    (here / "lib").mkdir()
    (here / "lib/own_a.py").write_text("import neighbour\nimport json\n")
    (here / "lib/neighbour.py").write_text("")
    (here / "json.py").write_text("raise OSError('this is not the json that is installed')\n")
    (here / "lib/json.py").write_text("raise OSError('nor is this')\n")
    path = list(sys.path)
    succeed("priors", "list")
    assert sys.path == path
    succeed("priors", "list", "--import", "lib/own_a.py")
    assert sys.path == [*path, str(here / "lib")]  # at the end: it hides nothing installed
    succeed("priors", "list", "--import", "own_metric")
    assert sys.path == [*path, str(here / "lib"), str(here)]
    assert Path(str(sys.modules["json"].__file__)).parent.parent != here
    # A file always is the one named, and takes the place of no module of its name.
    assert "this is not the json" in run("priors", "list", "--import", "json.py").stderr
    assert Path(str(sys.modules["json"].__file__)).name == "__init__.py"


@pytest.mark.parametrize("path", list(verbs()), ids=" ".join)
def test_who_takes_it(path: tuple[str, ...]) -> None:
    command = loaded(path)
    options = {name for parameter in command.params for name in parameter.opts}
    assert ("--import" in options) == (" ".join(path) in TAKING)


def test_completion_and_help_import_nothing(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "hostile.py").write_text("from pathlib import Path\nPath('ran').touch()\n")
    monkeypatch.syspath_prepend(install_all(here / "site"))
    for module in ("hostile", "hostile.py"):
        assert completed(f"separate --import {module} --sampler wie") == ["wiener"]
        assert completed(f"priors show --import {module} mini-slakh-v1") == ["mini-slakh-v1"]
        assert completed(f"separate --import {module} --imp") == ["--import"]
        assert "--import" in succeed("separate", "--import", module, "--help")
    assert not any(name.startswith(("hostile", "extra_music")) for name in sys.modules)
    assert not (here / "ran").exists()


def test_files_that_name_a_module_import_nothing(here: Path) -> None:
    (here / "hostile.py").write_text("from pathlib import Path\nPath('ran').touch()\nx = None\n")
    (here / "preset.toml").write_text('sampler = "hostile:x"\nimport = "hostile"\n')
    (here / "suite.toml").write_text(
        'import = ["hostile"]\n[[sets]]\nname = "a"\nreference = "stems"\n'
        '[[systems]]\nname = "hostile"\n'
    )
    (here / "prior").mkdir()
    config: dict[str, Any] = {
        "model_type": "hostile",
        "model": {},
        "import": "hostile",
        "schedule": {},
    }
    config |= {"stems": list(STEMS), "sample_rate": RATE, "mixture_rms": 0.1}
    (here / "prior/config.json").write_text(json.dumps(config))
    sys.path.append(str(here))  # even where it could be imported
    for words in (
        ("separate", "song.wav", "-o", "out", "--sampler", "preset.toml"),
        ("separate", "song.wav", "-o", "out", "--prior", "prior"),
        ("sample", "-o", "out", "--sampler", "preset.toml"),
        ("bench", "suite.toml", "-o", "out"),
        ("priors", "show", "prior"),
        ("priors", "verify", "prior"),
        ("score", "--reference", "stems", "--estimate", "stems", "--metrics", "hostile"),
    ):
        result = run(*words)
        assert result.exit_code == 1
        assert result.stderr.count("\n") == 1
    succeed("priors", "list", here)
    assert "hostile" not in sys.modules
    assert not (here / "ran").exists()
