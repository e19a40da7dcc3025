"""``mgdm-audio train``: a prior from folders of stems, or of images."""

import json
import os
import sys
from pathlib import Path

import click

from mgdm_audio.cli.options import PRIOR


@click.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Run folder.")
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change a key, e.g. schedule.steps=200.",
)
@click.option("--init", type=PRIOR, help="Prior whose weights and level initialise training.")
def train(config: Path, output: Path, overrides: tuple[str, ...], init: str | None) -> None:
    """Train a prior by denoising score matching.

    The run folder contains log.jsonl, the state to resume from, and prior/, a prior folder with the
    averaged weights of the last save, for example for  mgdm-audio separate SONG --prior RUN/prior
    -o OUT.  Several devices:  torchrun --nproc-per-node 4 -m mgdm_audio.cli.main train CONFIG -o
    RUN.  A CONFIG with a key "shape" trains a prior over images, for mgdm-audio restore.

    The same command resumes a stopped run, also with another schedule: a "stable" one ends with
    --set schedule.steps=N,  where N is the last step in log.jsonl plus schedule.decay.

    \b
    mgdm-audio train conf.toml -o RUN
    mgdm-audio train conf.toml -o SHORT --set schedule.steps=200 --init RUN/prior
    mgdm-audio train pixel.toml -o RUN --set images=IMAGES
    """
    from tqdm import tqdm

    from mgdm_audio.priors.folder import CONFIG
    from mgdm_audio.training.run import train as run

    first = os.environ.get("RANK", "0") == "0"  # of torchrun's processes, the one that reports
    with tqdm(unit="step", disable=not (first and sys.stderr.isatty()), smoothing=0.02) as bar:

        def progress(done: int, total: int, values: dict[str, float]) -> None:
            bar.total, bar.n = total, done
            bar.set_postfix_str(" ".join(f"{k} {v:.4g}" for k, v in values.items()), refresh=False)
            bar.update(0)

        def note(line: str) -> None:
            if first:
                bar.write(line, file=sys.stderr)

        prior = run(
            config, output, overrides=overrides, init=init, on_progress=progress, on_note=note
        )
    if first:
        step = json.loads((prior / CONFIG).read_text())["step"]
        click.echo(f"step {step}: the prior is in {prior}")
