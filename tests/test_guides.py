"""README.md and the guides: their commands run or parse, and what they name is there."""

import json
import os
import re
import shlex
import shutil
import subprocess
from itertools import count
from pathlib import Path
from shutil import copy

import click
import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from mgdm_audio.audio.encoding.formats import FORMATS
from mgdm_audio.audio.io import write
from mgdm_audio.evaluation.metric_registry import METRICS
from mgdm_audio.rng import generator_for
from mgdm_audio.samplers.presets import list_presets
from mgdm_audio.separation.separator import Separator
from tests import test_readme
from tests.cli.test_help import loaded
from tests.guides import EXAMPLES, FOUND, PAGES, RATE, ROOT, run, type_in
from tests.priors.loopback_hub import TOKEN, used_hub
from tests.toys import STEMS, song


def put(folder: Path, seconds: float = 3.0, stems: tuple[str, ...] = STEMS, seed: int = 2) -> None:
    """Stems of a song, WAV."""
    folder.mkdir(parents=True)
    for stem, wave in zip(stems, song(seed, len(stems), round(seconds * RATE), RATE), strict=True):
        write(folder / f"{stem}.wav", wave[None], RATE)


def test_separating(here: Path, tiny_prior: Path) -> None:
    (here / "ALBUM").mkdir()
    soundfile.write(here / "ALBUM/one.wav", song(3, 1, RATE, RATE).T.numpy(), RATE)
    type_in("separate", separate=["--prior", str(tiny_prior)])
    assert {path.stem for path in (here / "stems/song").glob("*.wav")} == set(STEMS)
    assert (here / "stems/song/report.html").is_file()
    assert (here / "stems/one/separation.json").is_file()
    assert {path.stem for path in (here / "two/song").glob("*.wav")} == {"drums", "no_drums"}


def test_the_formats(here: Path, tiny_prior: Path) -> None:
    pytest.importorskip("av")
    type_in("outputs", separate=["--prior", str(tiny_prior)])
    folders = [here / name for name in ("flac", "practice", "one", "dj")]
    written = {str(p.relative_to(here)) for folder in folders for p in folder.rglob("*.*")}
    assert {name for name in written if not name.endswith(".json")} == {
        *(f"flac/song/{stem}.flac" for stem in STEMS),
        "practice/song/bass+drums.mp3",
        "practice/song/rest.mp3",
        "one/song/guitar.wav",
        "dj/song/song.stem.mp4",
    }


def test_the_table_of_formats_is_that_of_the_package() -> None:
    page = (ROOT / "recipes/docs/getting_started.md").read_text()
    said = re.findall(r"^\| `([\w.]+)` \|.*\| (\w+) \| ([\w ,]+) \|$", page, re.M)
    rows = {name: (channels, rates) for name, channels, rates in said}
    assert rows.keys() == FORMATS.keys()
    for name, (channels, rates) in rows.items():
        form = FORMATS[name]
        assert channels in (str(form.channels), "any" if form.channels > 64 else "")
        if rates != "any":
            highest = re.findall(r"[\d,]+", rates)[-1]
            assert int(highest.replace(",", "")) == max(form.rates)


def test_the_options_of_a_sampler(here: Path, tiny_prior: Path) -> None:
    few = ["--prior", str(tiny_prior), "--set", "num_steps=4"]
    fewer = [*few, "--set", "vi_steps=1", "--set", "denoise_steps=2"]
    record = here / "stems/song/separation.json"
    type_in("sampler-options", ".*--sampler wiener.*", separate=fewer)
    assert json.loads(record.read_text())["options"]["gibbs_steps"] == 2
    type_in("sampler-options", ".*--sampler mgdm.*", separate=few)
    assert json.loads(record.read_text())["draws"] == 16


def test_the_hub(
    here: Path, tiny_prior: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tiny_prior, here / "RUN/prior")
    (here / "RUN/prior/README.md").write_text("# A card\n")
    with used_hub(tmp_path, monkeypatch) as hub:
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        type_in("hub", separate=["--samples", "1"])
    record = json.loads((here / "stems/song/separation.json").read_text())
    commit = hub.repositories["me/band"].names["main"]
    assert (record["prior"], record["prior_revision"]) == ("me/band", commit)


def test_generating(here: Path, tiny_prior: Path) -> None:
    write(here / "drums.wav", song(4, 1, RATE, RATE), RATE)
    type_in("sample", sample=["--prior", str(tiny_prior), "--set", "num_steps=2"])
    for folder in ("new", "band"):
        assert {p.stem for p in (here / folder).glob("*.wav")} == {*STEMS, "mixture"}


def test_uncertainty(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stems = run("uncertainty")["stems"]
    *lines, last = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == [*STEMS, "other"]
    assert last.startswith(f"windows of {stems.spread.hop} s")


def test_swapping_samplers(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("swap")
    first, *lines = capsys.readouterr().out.splitlines()
    assert first == str(list_presets())
    assert [line.split()[0] for line in lines] == ["default", "wiener", "ddrm"]


def test_training_from_python(here: Path) -> None:
    pytest.importorskip("accelerate")
    for number, name in enumerate(("train/a", "train/b", "validation/c")):
        put(here / "mine" / name, 0.2, seed=number)
    small = EXAMPLES["conf.toml"].replace(
        "[training]", "segment = 512\n[training]\nprecision = 'no'"
    )
    (here / "conf.toml").write_text(
        f"{small}\n[model]\nbins = 64\nchannels = [16, 32]\nblocks = [1, 1]\n"
    )
    state = torch.get_rng_state()
    found = run("train-python")
    torch.set_rng_state(state)
    assert found["prior"] == Path("RUN2/prior")
    assert tuple(found["stems"]) == STEMS


def test_preparing(here: Path) -> None:
    (here / "mine.toml").write_text(EXAMPLES["mine.toml"])
    for split in ("train", "validation"):
        put(here / "SONGS" / split / f"a {split}", 0.1, ("bass", "drums", "keys_1"))
        put(here / "SONGS" / split / f"a {split}/strings", 0.1, ("violin",))
    for split in ("train", "test"):
        put(here / "musdb18hq" / split / f"a {split}", 0.1, ("bass", "drums", "other", "vocals"))
    type_in("prepare", prepare=["--nj", "1"])
    for folder, stems in (("data/validation/a validation", ("bass", "drums", "other")),
                          ("musdb/test/a test", ("bass", "drums", "other", "vocals"))):  # fmt: skip
        assert {p.stem for p in (here / folder).glob("*.flac")} == set(stems)


def test_scoring(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(here / "TRUE_STEMS/song")
    put(here / "stems/song")
    type_in("score")
    assert {"scores.md", "scores.json"} <= set(os.listdir(here))
    value = run("score-python")["scores"]["summaries"]["si_sdri"]["value"]
    assert value.keys() == {*STEMS, "all"}


def test_comparing_samplers(here: Path) -> None:
    put(here / "TRUE_STEMS/song")
    (here / "suite.toml").write_text(EXAMPLES["suite.toml"])
    type_in("bench")
    table = (here / "OUT/table.md").read_text()
    assert re.findall(r"^\| ([\w-]+) \|", table, re.M) == ["wiener-split", "default", "wiener-4"]


def test_restoring(here: Path) -> None:
    pixels = np.zeros((28, 28), np.uint8)
    pixels[6:22, 12:16] = 255
    Image.fromarray(pixels).save(here / "7.png")
    few = ["--set", "num_steps=4", "--set", "vi_steps=1", "--set", "denoise_steps=1"]
    type_in("restore", restore=few)
    assert (here / "out/7/restored_0.png").is_file()
    assert (here / "out4/7/std.png").is_file()
    run("restore-python")
    assert (here / "restored/mean.png").is_file()


def test_onnx(here: Path, exported: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    prior, file = exported  # in place of the bundled prior, whose export takes a minute
    monkeypatch.setattr("mgdm_audio.priors.folder.bundled_folder", lambda name: prior)
    monkeypatch.setattr("mgdm_audio.priors.onnx.export_onnx", lambda _, path: copy(file, path))
    mixture = song(5, 2, 13 * RATE, RATE)  # two segments
    soundfile.write(here / "song.wav", mixture.T.numpy(), RATE, subtype="FLOAT")
    type_in("onnx-export")
    found = run("onnx")
    parts = [soundfile.read(here / f"{stem}.wav")[0].T for stem in STEMS]
    peak = float(mixture.abs().max())
    assert np.abs(sum(parts) - mixture.numpy()).max() < 1e-5 * peak  # float32 sums of four
    drawn = count()

    def draw(shape: tuple[int, ...]) -> np.ndarray:
        generator = generator_for(0, "segment", next(drawn), "draw", 0)
        return torch.randn(shape, generator=generator).numpy()

    got = found["separate"](found["session"], found["samples"].T, RATE, draw)
    separator = Separator.from_pretrained(
        prior, speeds=[0], stereo="channels", device="cpu", precision="float32"
    )
    want = separator.separate(here / "song.wav", draws=1).stems
    for stem in STEMS:  # the parity that the export promises: sums of float32 in another order
        assert np.abs(got[stem] - want[stem].numpy()).max() < 1e-4 * peak
    with pytest.raises(SystemExit, match="44100 Hz; resample the file to 22050 Hz first"):
        found["separate"](found["session"], found["samples"].T, 44100, draw)


def test_deepinv(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("deepinv")
    pixels = np.zeros((28, 28), np.uint8)
    pixels[6:9, 8:20] = pixels[6:22, 12:16] = 255
    Image.fromarray(pixels).save(here / "7.png")
    run("deepinv")
    said = dict(re.findall(r"^(\w+) +([\d.]+) dB$", capsys.readouterr().out, re.M))
    # Both restore it: 10 dB above what was observed, of which half is asked.
    assert min(float(said["ours"]), float(said["deepinv"])) > float(said["observed"]) + 5


def test_our_operator_in_deepinv(here: Path) -> None:
    pytest.importorskip("deepinv")
    made = run("deepinv-physics")
    seen = made["mask"][None]
    # The minimum, pixel by pixel: (gamma y + z) / (gamma + 1) where it is observed, else z.
    want = torch.where(seen, (100 * made["y"] + 0.5) / 101, torch.tensor(0.5))
    torch.testing.assert_close(made["filled"], want, rtol=0, atol=1e-6)  # float32
    noise = (made["y"] - made["image"])[seen]
    assert float(noise.std()) == pytest.approx(0.05, rel=0.2)  # of 720 numbers: 4 errors are 11 %


def test_their_denoiser_as_a_prior(here: Path) -> None:
    pytest.importorskip("deepinv")
    made = run("deepinv-prior")
    # Posterior odds of exp(32 * (1 / 6) / (2 * 0.05^2)) to one: it is that picture. What is left is
    # the last level's noise, 0.01 of half of the range.
    assert float((made["found"] - made["pictures"][:1]).abs().max()) < 0.05


LINES = [line.strip() for page in PAGES for line in page.read_text().splitlines()]
LINES += [
    c for page in PAGES for c in re.findall(r"`((?:mgdm-audio|bash) [^`]+)`", page.read_text())
]


@pytest.mark.parametrize("line", sorted({n for n in LINES if n.startswith("mgdm-audio ")}))
def test_a_command_parses(line: str) -> None:
    _, *words = shlex.split(line.replace("|", "_"), comments=True)
    command, rest, depth = loaded(()), words, 0
    while isinstance(command, click.Group):
        depth += 1
        command, rest = loaded(tuple(words[:depth])), words[depth:]
    try:
        command.make_context("example", rest)
    except click.MissingParameter:
        assert line.count(" ") <= 2  # a mention of a verb, not a command


@pytest.mark.parametrize("line", sorted({n for n in LINES if n.startswith("bash ")}))
def test_a_recipe_has_these_options(line: str) -> None:
    _, script, *words = shlex.split(line, comments=True)
    if not words:
        assert (ROOT / script).is_file()
        return
    shown = subprocess.run(
        ["bash", ROOT / script, "--help"], capture_output=True, text=True, check=True
    ).stdout
    options = {word.partition("=")[0] for word in words if word.startswith("--") and word != "--"}
    assert options <= set(re.findall(r"--[\w-]+", shown))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_names_is_there(page: Path) -> None:
    text = page.read_text()
    links = re.findall(r"\]\((?!https?:)([^)#]+)(#[^)]*)?\)", text)
    for link, heading in links:
        assert (page.parent / link).exists(), link
        if heading:
            assert heading[1:] in anchors(page.parent / link), f"{link}{heading}"
    for path in set(re.findall(r"\b((?:egs|recipes|tests|mgdm_audio)/[\w/.-]+\w)", text)) - NEW:
        assert (ROOT / path).exists() or (page.parent / path).exists(), path


NEW = {"mgdm_audio/samplers/replacement.py", "mgdm_audio/samplers/NAME.py"} | {
    "mgdm_audio/measurement/echo.py",
    "mgdm_audio/networks/coloured.py",
}


def anchors(page: Path) -> set[str]:
    """Of the headings of a Markdown page, as GitHub and mkdocs make them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.M)
    return {re.sub(r"[^\w -]", "", t.lower()).replace(" ", "-") for t in titles}


def test_every_block_is_an_example_and_tried() -> None:
    """BibTeX apart. Commands that cannot run here are indented: only their words are checked."""
    fences = sum(len(re.findall(r"^```[a-z]+$", p.read_text(), re.M)) for p in PAGES)
    assert len(FOUND) == len(EXAMPLES) == fences - 1
    sources = [Path(module).read_text() for module in (__file__, test_readme.__file__)]
    tried = {n for s in sources for n in re.findall(r'(?:run|type_in|EXAMPLES)[(\[]"([^"]+)"', s)}
    assert EXAMPLES.keys() == tried | set(test_readme.OWN.values())


def test_the_guide_has_every_metric() -> None:
    page = (ROOT / "egs/mini_slakh/bench/README.md").read_text()
    assert set(re.findall(r"^\| `([\w-]+)` \|", page, re.M)) == METRICS.keys()


def test_the_guide_has_every_preset() -> None:
    page = (ROOT / "egs/mini_slakh/samplers/README.md").read_text()
    assert sorted(re.findall(r"^\| `([\w-]+)` \|", page, re.M)) == list_presets()


NOT_COUNTED = {"impute", "ancestral", "mgdm-mean", "mgdm-refine"}  # no rows of that table
NOT_COUNTED |= {"psld", "resample"}  # rows of another problem


def test_the_guide_has_the_counted_calls() -> None:
    """Those of ``egs/gaussian/stems``, which counts them."""
    page = (ROOT / "egs/mini_slakh/samplers/README.md").read_text()
    counted = (ROOT / "egs/gaussian/stems/RESULTS.md").read_text()
    calls = dict(re.findall(r"^\| `([\w-]+)`[^|]*\|[^|]*\|[^|]*\| (\d+ / \d+) \|", counted, re.M))
    said = dict(re.findall(r"^\| `([\w-]+)` \|[^|]*\|[^|]*\| (\d+ / \d+) \|", page, re.M))
    assert {name: calls.get(name) for name in said.keys() - NOT_COUNTED} == {
        name: said[name] for name in said.keys() - NOT_COUNTED
    }
