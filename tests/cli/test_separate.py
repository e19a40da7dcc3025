"""``mgdm-audio separate`` as a user meets it: files out, or one clear line."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import soundfile
import torch
from click.testing import CliRunner, Result
from torch import Tensor

from mgdm_audio import __version__
from mgdm_audio.cli.main import main
from mgdm_audio.digest import hash_json
from mgdm_audio.priors.folder import CONFIG, WEIGHTS
from tests.toys import STEMS, song

FAST = ("--sampler", "wiener", "--set", "num_steps=2", "--samples", "1", "--device", "cpu")
FILES = sorted([*(f"{stem}.wav" for stem in STEMS), "separation.json", "uncertainty.json"])


@pytest.fixture
def separate(tiny_prior: Path, tmp_path: Path) -> "Separate":
    return Separate(tiny_prior, tmp_path)


class Separate:
    """Runs the command on files under a temporary folder, by the tiny prior, into ``out``."""

    def __init__(self, prior: Path, folder: Path) -> None:
        self.prior, self.folder, self.out = prior, folder, folder / "out"

    def put(self, name: str, samples: Tensor, rate: int = 22050, subtype: str = "PCM_16") -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, samples.T.numpy(), rate, subtype, format="WAV")
        return path

    def __call__(self, *arguments: str | Path, out: Path | None = None) -> Result:
        # click lets the last of two values win, so that a test's own replace the quick settings.
        quick = ["separate", *FAST, "--prior", str(self.prior), "-o", str(out or self.out)]
        result = CliRunner().invoke(main, [*quick, *map(str, arguments)])
        # Anything else is a traceback in a user's face.
        assert result.exception is None or isinstance(result.exception, SystemExit), result
        return result

    def report(self, name: str) -> dict[str, object]:
        return json.loads((self.out / name / "separation.json").read_text())  # type: ignore[no-any-return]

    def stems(self, name: str) -> Tensor:
        """[stem, channel, time]"""
        parts = [soundfile.read(self.out / name / f"{s}.wav", always_2d=True)[0].T for s in STEMS]
        return torch.stack([torch.from_numpy(part) for part in parts])


def hashes(folder: Path) -> dict[str, str]:
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*.wav"))
    }


def complaint(result: Result, code: int = 1) -> str:
    """The one line on standard error, beside the device's."""
    assert result.exit_code == code, result.output
    lines = result.stderr.splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    assert len(errors) == 1, result.stderr
    assert all(line.startswith(("error: ", "device: ")) for line in lines), result.stderr
    assert result.stdout == ""
    return errors[0]


def test_it_writes_the_stems_and_how_they_were_made(separate: Separate) -> None:
    path = separate.put("a song.wav", song(1, 2, 5000, 44100), 44100)
    result = separate(path, "--seed", "3", "--samples", "2")
    assert result.exit_code == 0, result.output
    assert "bass, drums, guitar, piano" in result.stdout
    assert result.stderr == "device: cpu (asked for)\n"
    assert [p.name for p in separate.out.iterdir()] == ["a song"]
    assert sorted(p.name for p in (separate.out / "a song").iterdir()) == FILES
    for stem in STEMS:
        info = soundfile.info(separate.out / "a song" / f"{stem}.wav")
        assert (info.samplerate, info.channels, info.frames) == (44100, 2, 5000)
        assert info.subtype == "PCM_24"
    report = separate.report("a song")
    assert report["residual_db"] <= -90  # type: ignore[operator]
    assert report["seconds"] > 0  # type: ignore[operator]
    assert report["options"]["num_steps"] == 2  # type: ignore[index]
    weights = (separate.prior / WEIGHTS).read_bytes()
    want = {
        "version": __version__,
        "input": "a song.wav",
        "sample_rate": 44100,
        "channels": 2,
        "samples": 5000,
        "prior": "tiny",
        "prior_revision": None,
        "prior_sha256": hashlib.sha256(weights).hexdigest(),
        "prior_config_sha256": hash_json(json.loads((separate.prior / "config.json").read_text())),
        "sampler": "wiener",
        "noise_std": 1e-4,
        "own_code_sha256": None,
        "start_from": None,
        "published": "none",
        "draws": 2,
        "keep_draws": False,
        "two_stems": None,
        "chosen": None,
        "format": "wav",
        "lossy": False,
        "stems": list(STEMS),
        "complete": True,
        "seed": 3,
        "input_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "filename": "{track}/{stem}",
        "files": {
            name: hashlib.sha256((separate.out / "a song" / name).read_bytes()).hexdigest()
            for name in FILES
            if name != "separation.json"
        },
        "device": "cpu",
        "device_reason": "asked for",
        "denoiser_calls": {  # 2 channels x 2 draws x 2 steps
            "forward": 8,
            "gradient": 0,
            "backward": 0,
        },
        "subtype": "PCM_24",
        "gain": 1.0,
    }
    assert {key: report[key] for key in want} == want
    more = {"options", "speeds", "stereo", "precision", "batch_size", "level", "join"}
    more |= {"segment_seconds", "overlap_seconds", "missing", "prior_revision"}
    measured = {"seconds", "seconds_per_second", "residual_db", "peak", "peak_memory_bytes"}
    assert report.keys() == want.keys() | more | measured


def test_speeds_are_named_on_the_command_line(separate: Separate) -> None:
    path = separate.put("in.wav", song(1, 1, 3000, 22050))
    assert separate(path, "--speeds", "0,-3").exit_code == 0
    assert separate.report("in")["speeds"] == [0, -3]
    for given, says in (("3,0", "semitones, 0 first"), ("0,x", "give semitones, as 0,-3,3")):
        refused = separate(path, "--speeds", given)
        assert refused.exit_code != 0
        assert says in refused.stderr


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT"])
def test_stems_sum_to_the_input_in_every_format(separate: Separate, subtype: str) -> None:
    mixture = song(1, 2, 4000, 22050)
    path = separate.put("in.wav", mixture)
    assert separate(path, "--subtype", subtype).exit_code == 0
    assert soundfile.info(separate.out / "in" / "bass.wav").subtype == subtype
    read = torch.from_numpy(soundfile.read(path)[0].T)
    error = separate.stems("in").sum(0) - read
    if subtype == "FLOAT":
        assert error.abs().max() < 1e-6  # four float32 stems of up to 1
    else:
        assert error.abs().max() == 0  # 16 bits are exact in either, and rounded together
    assert separate.report("in")["residual_db"] <= -90  # type: ignore[operator]


def test_stems_that_would_clip_are_lowered_together(separate: Separate) -> None:
    # A FLOAT input of four times full scale does not fit PCM.
    path = separate.put("hot.wav", 8 * song(1, 1, 3000, 22050), subtype="FLOAT")
    result = separate(path, "--subtype", "PCM_24")
    assert result.exit_code == 0, result.output
    report = separate.report("hot")
    gain = report["gain"]
    assert isinstance(gain, float)
    assert gain < 0.3
    assert "lowered by" in result.stderr
    read = torch.from_numpy(soundfile.read(path, always_2d=True)[0].T)
    assert (separate.stems("hot").sum(0) - gain * read).abs().max() < 2**-22  # a rounding each
    assert report["residual_db"] <= -90  # type: ignore[operator]


@pytest.mark.parametrize(
    ("channels", "time", "rate", "level"),
    [(2, 3000, 22050, 0.0), (1, 1, 44100, 1.0), (8, 3000, 22050, 1.0), (1, 8000, 384000, 1.0)],
)
def test_unusual_inputs_are_good_inputs(
    separate: Separate, channels: int, time: int, rate: int, level: float
) -> None:
    path = separate.put("x.wav", level * song(1, channels, time, rate), rate)
    result = separate(path)
    assert result.exit_code == 0, result.output
    stems = separate.stems("x")
    assert stems.shape == (4, channels, time)
    assert separate.report("x")["residual_db"] <= -90  # type: ignore[operator]
    if level == 0:
        assert stems.count_nonzero() == 0


@pytest.mark.parametrize("peak", [1e-30, 1e25])
def test_float_files_of_absurd_levels_do_not_break_it(separate: Separate, peak: float) -> None:
    path = separate.put("x.wav", peak * song(1, 1, 3000, 22050), subtype="FLOAT")
    for subtype in ("FLOAT", "PCM_24"):
        result = separate(path, "--subtype", subtype)
        assert result.exit_code == 0, result.output
    assert separate.stems("x").isfinite().all()


def test_the_same_seed_writes_the_same_bytes(separate: Separate) -> None:
    path = separate.put("a.wav", song(1, 2, 4000, 22050))
    for folder, seed in (("one", "5"), ("two", "5"), ("three", "6")):
        assert separate(path, "--seed", seed, out=separate.folder / folder).exit_code == 0
    one, two, three = (hashes(separate.folder / name) for name in ("one", "two", "three"))
    assert len(one) == 4
    assert one == two
    assert all(one[name] != three[name] for name in one)


def test_a_result_is_the_same_alone_and_beside_others(separate: Separate) -> None:
    paths = [separate.put(f"{name}.wav", song(i, 1, 3000, 22050)) for i, name in enumerate("abc")]
    assert separate(*paths).exit_code == 0
    assert separate(paths[1], out=separate.folder / "alone").exit_code == 0
    assert hashes(separate.out / "b") == hashes(separate.folder / "alone" / "b")


def test_separating_again_replaces_the_result_and_no_other_file(separate: Separate) -> None:
    path = separate.put("a.wav", song(1, 1, 3000, 22050))
    assert separate(path).exit_code == 0
    before = hashes(separate.out)
    (separate.out / "a" / "notes.txt").write_text("mine")
    (separate.out / "b.txt").write_text("mine too")
    assert separate(path, "--seed", "1").exit_code == 0
    after = hashes(separate.out)
    assert before.keys() == after.keys()
    assert all(before[name] != after[name] for name in before)
    assert separate.report("a")["seed"] == 1
    assert (separate.out / "a" / "notes.txt").read_text() == "mine"
    assert sorted(p.name for p in separate.out.iterdir()) == ["a", "b.txt"]


def test_a_batch_and_a_join_are_chosen(separate: Separate) -> None:
    path = separate.put("a.wav", song(1, 2, 3000, 22050))
    options = ("--join", "condition", "--samples", "3")
    assert separate(path, *options, "--batch-size", "3").exit_code == 0
    report = separate.report("a")
    assert (report["join"], report["batch_size"]) == ("condition", 1)  # it is a CPU
    before = hashes(separate.out)
    assert separate(path, *options, "--batch-size", "8").exit_code == 0
    assert hashes(separate.out) == before
    assert separate(path, "--batch-size", "0").exit_code == 2
    assert separate(path, "--join", "fade").exit_code == 2


def test_the_spread_of_the_draws_is_written_beside_the_stems(separate: Separate) -> None:
    path = separate.put("a.wav", song(1, 2, 5000, 22050))
    assert separate(path, "--samples", "3").exit_code == 0
    record = json.loads((separate.out / "a" / "uncertainty.json").read_text())
    assert (record["draws"], record["hop_seconds"]) == (3, 0.1)
    assert record["std"].keys() == record["confidence_db"].keys() == set(STEMS)
    assert len(record["bands_hz"]) == 33
    for stem in STEMS:
        assert len(record["std"][stem]) == 3  # tenths of a second that 5000 samples begin
        assert min(record["std"][stem]) > 0
        for whole, bands in zip(record["std"][stem], record["std_db"][stem], strict=True):
            assert len(bands) == 32
            # Decibels are rounded to whole ones, by up to 6 % of the amplitude.
            assert sum(10 ** (x / 10) for x in bands) ** 0.5 == pytest.approx(whole, rel=0.06)
    assert separate(path, "--samples", "1").exit_code == 0
    record = json.loads((separate.out / "a" / "uncertainty.json").read_text())
    nothing = dict.fromkeys(("confidence_db", "std", "bands_hz", "std_db"))
    assert record == {"draws": 1, "hop_seconds": 0.1} | nothing


def test_every_draw_is_written_on_request(separate: Separate) -> None:
    path = separate.put("a.wav", song(1, 2, 4000, 22050))
    assert separate(path, "--samples", "3", "--keep-samples").exit_code == 0
    mixture = torch.from_numpy(soundfile.read(path)[0].T)
    assert sorted(p.name for p in (separate.out / "a").iterdir()) == sorted([*FILES, "samples"])
    draws = torch.stack([separate.stems(f"a/samples/{i}") for i in range(3)])
    assert (draws.sum(1) - mixture).count_nonzero() == 0
    # Each of the four is rounded to a grid of 2^-23, and the mean of three lies off it.
    assert (draws.mean(0) - separate.stems("a")).abs().max() < 3 * 2**-23
    assert (draws[0] - draws[1]).abs().max() > 1e-3


def nothing_written(separate: Separate) -> bool:
    return not separate.out.exists() or list(separate.out.rglob("*")) == []


def bad_input(separate: Separate, kind: str) -> tuple[Path, str]:
    """A file that cannot be separated, and a word of why."""
    path = separate.folder / "bad.wav"
    if kind == "missing":
        return path, "no such file"
    if kind == "a folder":
        path.mkdir()
        return path, "is a folder"
    if kind == "text":
        path.write_text("The quick brown fox")
        return path, str(path)
    if kind == "empty":
        path.touch()
        return path, "empty"
    if kind == "zero frames":
        separate.put("bad.wav", torch.zeros(1, 0))
        return path, "no samples"
    if kind == "nan":
        samples = song(1, 1, 100, 22050)
        samples[0, 42] = float("nan")
        separate.put("bad.wav", samples, subtype="FLOAT")
        return path, "sample 42 of channel 0 is nan"
    separate.put("bad.wav", song(1, 1, 1000, 22050))
    path.write_bytes(path.read_bytes()[:30])
    return path, str(path)


@pytest.mark.parametrize(
    "kind", ["missing", "a folder", "text", "empty", "zero frames", "nan", "a header cut short"]
)
def test_a_bad_input_is_one_line(separate: Separate, kind: str) -> None:
    path, why = bad_input(separate, kind)
    line = complaint(separate(path))
    assert why in line
    assert path.name in line
    assert nothing_written(separate)


def test_a_line_stays_one_line_whatever_the_name(separate: Separate) -> None:
    complaint(separate(separate.folder / "two\nlines.wav"))


def test_a_bad_file_does_not_stop_the_others(separate: Separate) -> None:
    good = [separate.put(f"{name}.wav", song(1, 1, 3000, 22050)) for name in ("a", "z")]
    bad, why = bad_input(separate, "text")
    result = separate(good[0], bad, good[1])
    assert result.exit_code == 1
    (line,) = [s for s in result.stderr.splitlines() if s.startswith("error: ")]
    assert why in line
    assert sorted(p.name for p in separate.out.iterdir()) == ["a", "z"]
    first, last, _, *table = result.stdout.splitlines()
    assert [s.split(":")[0] for s in (first, last)] == [str(separate.out / name) for name in "az"]
    assert [row.split()[0] for row in table] == ["track", "a", "bad", "z"]
    assert [row.split()[-1] for row in (table[1], table[3])] == ["ok", "ok"]
    assert line in table[2]


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--prior", "no-such-prior"], "no prior named 'no-such-prior'"),
        (["--sampler", "weiner"], "did you mean wiener"),
        (["--sampler", "none.toml"], "none.toml"),
        (["--set", "num_stepz=3"], "unknown key 'num_stepz'; did you mean num_steps"),
        (["--set", "num_steps=few"], "num_steps: 'few' is not a whole number"),
        (["--set", "num_steps=0"], "num_steps = 0: at least 1"),
        (["--set", "covariance=diagonal"], "unknown value 'diagonal'"),
        (["--set", "noise_std=-1"], "noise_std is positive"),
        (["--set", "noise_std=inf"], "noise_std is positive and finite"),
        (["--sampler", "mgdm", "--set", "num_steps=2000"], "takes 2 to 1000"),
        (["--sampler", "mgdm", "--set", "vi_steps={base=1, every=[0, 5]}"], "at least 1"),
        (
            ["--sampler", "mgdm", "--set", "num_steps=4", "--set", "learning_rate=1e30"],
            "learning_rate is positive",
        ),
        (["--set", "num_steps"], "key=value"),
        (["--device", "abacus"], "device 'abacus' is unknown; known: auto, cpu, cuda, mps"),
        (["--device", "gpu"], "device 'gpu' is unknown; did you mean cuda or mps?"),
        (["--device", "cdua"], "device 'cdua' is unknown; did you mean cuda or cpu?"),
        (["--prior", "mini-slak"], "nor such a folder; did you mean mini-slakh"),
        (["--device", "cuda:99"], "device 'cuda:99'"),
    ],
)
def test_an_impossible_option_is_one_line(separate: Separate, options: list[str], why: str) -> None:
    path = separate.put("a.wav", song(1, 1, 3000, 22050))
    assert why in complaint(separate(path, *options))
    assert nothing_written(separate)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--samples", "0"], "--samples"),
        (["--seed", "x"], "--seed"),
        (["--subtype", "MP3"], "--subtype"),
        (["--sed", "1"], "--sed"),
    ],
)
def test_a_misspelt_option_is_a_usage_error(
    separate: Separate, options: list[str], why: str
) -> None:
    result = separate(separate.put("a.wav", song(1, 1, 3000, 22050)), *options)
    assert result.exit_code == 2
    assert why in result.stderr.splitlines()[-1]
    assert nothing_written(separate)


def test_a_pickle_in_the_place_of_weights_is_not_opened(separate: Separate) -> None:
    path = separate.put("a.wav", song(1, 1, 3000, 22050))
    prior = Path(shutil.copytree(separate.prior, separate.folder / "pickled"))
    torch.save({"enter.weight": torch.zeros(3)}, prior / WEIGHTS)
    line = complaint(separate(path, "--prior", str(prior)))
    assert str(prior / WEIGHTS) in line
    assert "pickled weights are never opened" in line
    (prior / CONFIG).unlink()
    assert CONFIG in complaint(separate(path, "--prior", str(prior)))
    assert nothing_written(separate)


def test_the_second_of_two_inputs_of_one_name_fails_alone(separate: Separate) -> None:
    a = separate.put("one/a.wav", song(1, 1, 3000, 22050))
    b = separate.put("two/a.wav", song(2, 1, 3000, 22050))
    c = separate.put("c.wav", song(3, 1, 3000, 22050))
    result = separate(a, b, c)
    assert result.exit_code == 1
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert line.startswith(f"error: {b}: two inputs are named 'a'")
    assert separate.report("a")["input_sha256"] == hashlib.sha256(a.read_bytes()).hexdigest()
    assert separate.report("c")["input"] == "c.wav"


@pytest.mark.parametrize("where", ["below a file", "a file", "a file in the folder's place"])
def test_a_place_that_cannot_be_written_to_is_one_line(separate: Separate, where: str) -> None:
    path = separate.put("a.wav", song(1, 1, 3000, 22050))
    place = separate.folder / "place"
    if where == "a file in the folder's place":
        place.mkdir()
        (place / "a").write_text("kept")
        out, kept = place, place / "a"
    else:
        place.write_text("kept")
        out, kept = (place / "deeper" if where == "below a file" else place), place
    assert str(out) in complaint(separate(path, out=out))
    assert kept.read_text() == "kept"
    assert sorted(separate.folder.rglob("*.wav")) == [path]
    assert list(separate.folder.rglob(".*")) == []


def test_a_sampler_that_the_prior_cannot_serve_is_one_line(
    separate: Separate, tmp_path: Path
) -> None:
    from mgdm_audio.networks.unet_1d import UNet1d, UNet1dConfig
    from mgdm_audio.priors.folder import save_prior

    shape = UNet1dConfig(
        channels=16, patch=4, multipliers=(1, 1), factors=(2,), blocks=(1,), attentions=(False,)
    )  # takes multiples of 8 samples
    details = {
        "schedule": {"kind": "karras"},
        "stems": list(STEMS),
        "sample_rate": 22050,
        "mixture_rms": 0.1,
        "sigma_data": 0.2,
    }
    save_prior(tmp_path / "blind", UNet1d(shape), shape, "unet_1d", details)
    path = separate.put("a.wav", song(1, 1, 2999, 22050))
    prior = ("--prior", str(tmp_path / "blind"))
    assert separate(path, *prior, "--set", "covariance=isotropic").exit_code == 0
    shutil.rmtree(separate.out)
    assert "amortised" in complaint(separate(path, *prior, "--set", "amortised=true"))
    assert "covariance=isotropic" in complaint(separate(path, *prior))  # the preset's is band
    assert nothing_written(separate)


@pytest.mark.parametrize(("sampler", "name"), [("psld", "PSLD"), ("resample", "ReSample")])
def test_a_latent_sampler_wants_a_prior_with_a_codec(
    separate: Separate, sampler: str, name: str
) -> None:
    path = separate.put("a.wav", song(1, 1, 3000, 22050))
    line = complaint(separate(path, "--sampler", sampler, "--set", "num_steps=3"))
    assert f"{name} needs a latent Prior" in line
    assert "use a sampler that needs no codec, such as mgdm" in line
    assert nothing_written(separate)
