"""Train one change at a time at equal processor seconds, and say what each was worth.

    python experiments.py OUT --data plain=STEMS --data varied=STEMS --validation STEMS/validation

STEMS is a folder that the data recipe wrote with ``--form stems``; an experiment without ``data``
in the plan takes the last one given. Each trains for as many steps as ``--seconds`` of processor
time hold, which its first steps tell. Then its averaged weights are judged on the validation songs:
by the denoising error over energy in dB, mean over the stems, and by the SI-SDR improvement on 12 s
of six songs: of the preset ``default``, if the network has seen mixtures in training, and of one
draw of the preset ``wiener``, which uses the prior alone. Rows are kept in OUT and made once: the
same command goes on. ``--results FILE`` puts the table between its lines <!-- experiments --> and
<!-- /experiments -->.
"""

import argparse
import json
import math
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from mgdm_audio import tables
from mgdm_audio.atomic import write_bytes
from mgdm_audio.config import from_mapping, load_toml
from mgdm_audio.diffusion import join
from mgdm_audio.evaluation.metrics import si_sdr_improvement
from mgdm_audio.priors.folder import LoadedPrior, load_prior
from mgdm_audio.samplers.presets import load_preset
from mgdm_audio.separation.separator import DEFAULT_SAMPLER, Separator
from mgdm_audio.training.run import train as run_training
from mgdm_audio.training.state import STATE, read_settings
from mgdm_audio.training.stems import StemFolder

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parents[2] / "recipes/local"))
from block import show  # noqa: E402
from script import run  # noqa: E402

STEMS = ("bass", "drums", "guitar", "piano")
RATE = 22050  # Hz
ALONE = "wiener"  # the preset that never shows the mixture to the network
PROBE = 12  # steps, of which the second half is timed
SHOWN = ("prior@0.05", "prior@0.1", "prior@0.2", "prior@0.5", "given@0.1", "given@1", "given@20")


@dataclass(frozen=True)
class Experiment:
    """A table of conf/experiments.toml: changes to the base configuration."""

    name: str
    set: tuple[str, ...] = ()
    data: str = ""  # a name given by --data
    by_stem: bool = False  # one network a stem, each with its share of the seconds


@dataclass(frozen=True)
class Plan:
    base: str
    experiments: tuple[dict[str, Any], ...]
    set: tuple[str, ...] = ()


def last(folder: Path, key: str) -> Any:
    """The newest value of ``key`` in the log of a run."""
    records = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [record[key] for record in records if key in record][-1]


def train(config: Path, folder: Path, changes: list[str], seconds: float) -> int:
    """Train for ``seconds`` of processor time; returns the steps. Resumes where it was stopped."""

    def call(*more: str) -> None:
        run_training(config, folder, overrides=[*changes, *more])

    steps = folder / "steps.txt"
    if not steps.is_file():
        call(f"schedule.steps={PROBE}", "schedule.decay=1", "data.validation=")
        write_bytes(steps, str(max(PROBE + 1, round(seconds / last(folder, "cpu_s")))).encode())
    count = int(steps.read_text())
    call(f"schedule.steps={count}")
    return count


def separated(prior: LoadedPrior, songs: torch.Tensor, preset: str) -> list[float]:
    """SI-SDR improvement of each stem in dB, mean over windows of songs [songs, stems, time]."""
    separator = Separator(prior, load_preset(preset), device="cpu")
    rows = []
    for i, references in enumerate(songs):
        draws = 1 if preset == ALONE else None
        stems = separator.separate_batch(references.sum(0)[None, None], seed=i, draws=draws)
        estimates = torch.stack([stems[name][0] for name in STEMS])
        rows.append(si_sdr_improvement(estimates, references, RATE))
    mean: list[float] = torch.cat(rows).mean(0).tolist()
    return mean


def joined(priors: list[LoadedPrior]) -> LoadedPrior:
    """Priors over a stem each as one over all of them: independent sources."""
    level = math.hypot(*(prior.mixture_rms for prior in priors))
    prior = join([prior.prior for prior in priors])
    return replace(priors[0], prior=prior, stems=STEMS, mixture_rms=level)


def perform(
    experiment: Experiment, config: Path, common: list[str], folder: Path, seconds: float
) -> dict[str, Any]:
    """Its row: steps, and denoising errors by level and stem in dB."""
    changes = [*common, *experiment.set]
    if not experiment.by_stem:
        steps = train(config, folder, changes, seconds)
        errors = {k: v["sources"] for k, v in last(folder, "validation").items()}
        return {"steps": steps, "errors": errors}
    runs = []
    for stem in STEMS:
        own = [*changes, f'data.stems=["{stem}"]']
        steps = train(config, folder / stem, own, seconds / len(STEMS))
        runs.append((steps, last(folder / stem, "validation")))
    alone = [k for k in runs[0][1] if k.startswith("prior")]  # the mixture of one stem is the stem
    errors = {k: [run[k]["sources"][0] for _, run in runs] for k in alone}
    return {"steps": sum(steps for steps, _ in runs), "errors": errors}


def separate(experiment: Experiment, folder: Path, songs: torch.Tensor) -> dict[str, Any]:
    """The rest of its row: SI-SDR improvements by stem in dB, of the presets that apply."""
    if experiment.by_stem:  # alone, a stem's network never sees a mixture
        prior = joined([load_prior(folder / stem / "prior") for stem in STEMS])
        return {"si_sdri": {ALONE: separated(prior, songs, ALONE)}}
    given = read_settings(folder / STATE)["noise"]["given"] > 0
    prior = load_prior(folder / "prior")
    presets = (DEFAULT_SAMPLER, ALONE) if given else (ALONE,)
    return {"si_sdri": {preset: separated(prior, songs, preset) for preset in presets}}


def table(rows: list[tuple[str, dict[str, Any]]]) -> str:
    heads = [f"{kind} {level}" for kind, level in (key.split("@") for key in SHOWN)]
    presets = [DEFAULT_SAMPLER, ALONE]
    lines = []
    for name, row in rows:
        seen = DEFAULT_SAMPLER in row["si_sdri"]
        found = [row["errors"].get(key) if seen or "prior" in key else None for key in SHOWN]
        found += [row["si_sdri"].get(preset) for preset in presets]
        cells = ["-" if each is None else f"{sum(each) / len(each):.2f}" for each in found]
        lines.append([name, str(row["steps"]), *cells])
    return tables.table(["", "steps", *heads, *presets], lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("output", type=Path)
    parser.add_argument("--data", action="append", required=True, metavar="NAME=FOLDER")
    parser.add_argument("--validation", required=True)
    parser.add_argument("--plan", type=Path, default=HERE / "conf/experiments.toml")
    parser.add_argument("--seconds", type=float, default=480.0)
    parser.add_argument("--results", type=Path)
    arguments = parser.parse_args()
    folders = dict(item.split("=", 1) for item in arguments.data)
    where = str(arguments.plan)
    plan = from_mapping(Plan, load_toml(arguments.plan), where)
    config = arguments.plan.parent / plan.base
    songs = StemFolder(arguments.validation, STEMS, RATE, "validation").fixed(6, 12 * RATE)
    torch.set_num_threads(1)
    rows = []
    for entry in plan.experiments:
        experiment = from_mapping(Experiment, entry, f"{where}: experiments")
        name = "".join(c if c.isalnum() else "-" for c in experiment.name)
        folder = arguments.output / name
        done = folder / "row.json"
        if not done.is_file():
            data = folders[experiment.data or next(reversed(folders))]
            common = [
                f'data.train="{data}"',
                f'data.validation="{arguments.validation}"',
                *plan.set,
            ]
            row = perform(experiment, config, common, folder, arguments.seconds)
            row |= separate(experiment, folder, songs)
            write_bytes(done, json.dumps(row, indent=1).encode())
        rows.append((experiment.name, json.loads(done.read_text())))
        print(table(rows[-1:]), flush=True)
    show(table(rows), arguments.results, "experiments")


if __name__ == "__main__":
    run(main)
