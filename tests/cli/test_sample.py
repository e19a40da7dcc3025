"""``mgdm-audio sample`` as a user meets it: files out, or one clear line."""

import json
from pathlib import Path

import pytest
import soundfile
import torch
from click.testing import CliRunner, Result

from mgdm_audio.cli.main import main
from tests.toys import STEMS, song

FILES = sorted([*(f"{stem}.wav" for stem in STEMS), "mixture.wav", "sample.json"])


class Command:
    """Runs the command with the tiny prior, quickly, into ``out``."""

    def __init__(self, prior: Path, folder: Path) -> None:
        self.prior, self.folder, self.out = prior, folder, folder / "out"

    def put(self, name: str, channels: int = 1, time: int = 3000, rate: int = 22050) -> Path:
        path = self.folder / name
        soundfile.write(path, song(1, channels, time, rate).T.numpy(), rate, "PCM_16")
        return path

    def __call__(self, *arguments: str | Path) -> Result:
        quick = ("sample", "--set", "num_steps=3", "--device", "cpu", "--prior", str(self.prior))
        result = CliRunner().invoke(main, [*quick, "-o", str(self.out), *map(str, arguments)])
        # Anything else is a traceback in a user's face.
        assert result.exception is None or isinstance(result.exception, SystemExit), result
        return result

    def complaint(self, *arguments: str | Path) -> str:
        """The one line of a call that writes nothing."""
        result = self(*arguments)
        assert (result.exit_code, result.stdout) == (1, ""), result.output
        lines = [x for x in result.stderr.splitlines() if not x.startswith("device: ")]
        assert len(lines) == 1, result.stderr
        assert lines[0].startswith("error: ")
        assert not [path for path in self.out.rglob("*") if path.is_file()]
        return lines[0]


@pytest.fixture
def sample(tiny_prior: Path, tmp_path: Path) -> Command:
    return Command(tiny_prior, tmp_path)


def files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_it_generates_stems_their_mixture_and_a_record(sample: Command) -> None:
    result = sample("--seconds", "0.2", "--seed", "3", "--subtype", "FLOAT")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(f"{sample.out}: bass, drums, guitar, piano (")
    assert result.stderr == "device: cpu (asked for)\n"
    assert files(sample.out) == FILES
    for path in sample.out.glob("*.wav"):
        info = soundfile.info(path)
        assert (info.samplerate, info.channels, info.frames) == (22050, 1, 4410)
        assert info.subtype == "FLOAT"
    record = json.loads((sample.out / "sample.json").read_text())
    want = {"seed": 3, "sampler": "ancestral", "prior": "tiny", "given": [], "samples": 4410}
    assert {key: record[key] for key in want} == want
    assert record["options"]["num_steps"] == 3


def test_several_samples_have_a_folder_each_and_the_same_seed_the_same_bytes(
    sample: Command,
) -> None:
    assert sample("--seconds", "0.1", "--samples", "2").exit_code == 0
    assert files(sample.out) == sorted(f"{i}/{name}" for i in (0, 1) for name in FILES)
    first = {path: path.read_bytes() for path in sample.out.rglob("*.wav")}
    assert sample("--seconds", "0.1", "--samples", "2").exit_code == 0
    assert {path: path.read_bytes() for path in sample.out.rglob("*.wav")} == first
    assert first[sample.out / "0" / "bass.wav"] != first[sample.out / "1" / "bass.wav"]


def test_what_is_missing_is_drawn_beside_the_given_stems(sample: Command) -> None:
    bass = sample.put("my bass.wav", 2, 5000, 44100)
    drums = sample.put("d=1.wav", 2, 5000, 44100)
    result = sample("--given", f"bass={bass}", "--given", f"drums={drums}")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(f"{sample.out}: guitar, piano (")
    assert files(sample.out) == FILES
    read = {p.stem: soundfile.read(p, dtype="int32")[0] for p in sample.out.glob("*.wav")}
    for name, path in (("bass", bass), ("drums", drums)):
        assert torch.equal(
            torch.from_numpy(read[name]), torch.from_numpy(soundfile.read(path, dtype="int32")[0])
        )
    assert all(x.shape == (5000, 2) for x in read.values())
    assert abs(read["guitar"]).max() > 0
    record = json.loads((sample.out / "sample.json").read_text())
    assert record["input"] == {"bass": "my bass.wav", "drums": "d=1.wav"}
    assert record["sampler"] == "impute"


def test_a_mistake_is_one_line_and_nothing_is_written(sample: Command, tmp_path: Path) -> None:
    a, b = sample.put("a.wav"), sample.put("b.wav", rate=8000)
    assert "no stem 'basss'; did you mean bass" in sample.complaint("--given", f"basss={a}")
    assert "absent.wav" in sample.complaint("--given", f"bass={tmp_path / 'absent.wav'}")
    twice = sample.complaint("--given", f"bass={a}", "--given", f"bass={b}")
    assert f"--given bass is there twice ({a} and {b})" in twice
    whole = [argument for stem in STEMS for argument in ("--given", f"{stem}={a}")]
    assert "all stems are given" in sample.complaint(*whole)
    mixed = sample.complaint("--given", f"bass={a}", "--given", f"drums={b}")
    assert f"{b}: 8000 Hz, but {a} has 22050" in mixed
    assert "write STEM=FILE" in sample.complaint("--given", "bass")
    assert "0 seconds: give a length" in sample.complaint("--seconds", "0")
    assert "1e+09 seconds" in sample.complaint("--seconds", "1e9")
    assert "leave it out" in sample.complaint("--seconds", "1", "--given", f"bass={a}")
    assert "needs given stems" in sample.complaint("--sampler", "mgdm", "--set", "num_steps=5")
    pairing = sample.complaint("--given", f"bass={a}", "--sampler", "default")
    assert "needs a MixtureSum, got KnownSources" in pairing


def test_a_place_that_cannot_be_written_to_is_one_line(sample: Command) -> None:
    sample.out.write_text("kept")
    result = sample("--seconds", "0.1")
    assert result.exit_code == 1
    assert f"error: {sample.out}: cannot be written" in result.stderr
    assert sample.out.read_text() == "kept"
