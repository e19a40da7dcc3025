"""``mgdm-audio separate``: stems of sound files and folders of them."""

import sys
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from mgdm_audio.cli.options import (
    EXECUTOR,
    OUTPUT,
    PRESET,
    SET,
    STEM_PRIOR,
    Outputs,
    Positive,
    imports,
    outputs,
    progress,
    semitones,
)
from mgdm_audio.cli.separate.track import Item, Row, Run, failed

if TYPE_CHECKING:
    from mgdm_audio.audio.files import Track
    from mgdm_audio.engine.cluster import Executor
    from mgdm_audio.output.layout import Layout

HELP = """
Separate sound files, and those in folders, into stems.

Writes OUTPUT/<track>/<stem>.wav, at the input's rate, channels and length, and
separation.json, which says how they were made.  The stems sum to the input, or to the input
lowered by a common gain where PCM would clip (a line then says so); those of mp3, m4a and ogg,
which are lossy, do so only nearly.  Tags of the input are copied, and with PyAV its cover.  <track>
is the file's name.  For the sound files in a folder it is their path in it, with the suffix where
two paths are otherwise equal.  A track that fails stops no other; no input is ever overwritten.

WAV, RF64, W64, AIFF, CAF, AU, FLAC, MP3, Ogg Vorbis and Opus are read as they are; m4a, aac, mka,
webm, wma and others need PyAV: pip install 'mgdm_audio[formats]'.

uncertainty.json contains the posterior standard deviation per stem, window of 0.1 s (longer in
tracks over an hour) and frequency band, and per stem a confidence: the expected SI-SDR in dB
under the posterior (null with a single draw, except of the default preset).

\b
mgdm-audio separate song.mp3 -o stems
mgdm-audio separate album/ -o stems --skip-existing
mgdm-audio separate song.wav -o stems --two-stems drums --filename "{track} ({stem})"
mgdm-audio separate song.mp3 -o stems --format mp3 --stems guitar --mix bass+drums --rest
mgdm-audio separate song.mp3 -o stems --format stem.mp4
mgdm-audio separate song.wav -o stems --sampler mgdm --set gibbs_steps=2 --samples 4
mgdm-audio separate song.wav -o stems --sampler mine.toml --import mine.py
mgdm-audio separate SHARED/songs -o SHARED/stems --skip-existing --executor ray,cpus=4
"""


@click.command(help=HELP)
@click.argument(
    "inputs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="INPUT..."
)
@OUTPUT
@STEM_PRIOR
@click.option("--sampler", type=PRESET, help="Sampler preset, bundled or a TOML file.")
@SET
@click.option(
    "--samples",
    type=click.IntRange(1),
    metavar="N",
    help="Average N posterior samples (default: the preset's number).",
)
@click.option("--keep-samples", is_flag=True, help="Also write each sample to samples/<number>/.")
@outputs
@click.option("--seed", type=int, default=0, show_default=True)
@click.option(
    "--level",
    type=click.Choice(["rms", "none"]),
    default="rms",
    show_default=True,
    help="Scale songs to the level of the prior's training data, or do not.",
)
@click.option(
    "--join",
    type=click.Choice(["crossfade", "condition"]),
    default="crossfade",
    show_default=True,
    help="Blend segments, or draw every second given its neighbours (overlap conditioning).",
)
@click.option(
    "--speeds",
    metavar="A,B,...",
    callback=semitones,
    help="Speed augmentation: semitones, 0 first, by which successive samples change the track's "
    "speed (default: the preset's).",
)
@click.option(
    "--stereo",
    type=click.Choice(["auto", "image", "channels"]),
    default="auto",
    show_default=True,
    help="Two channels: take all samples of each (channels), or those at other speeds than the "
    "track's own of the mean of both, and derive each channel's stems from their pans (image). "
    "auto: image where samples are conditional means, as with default; else channels.",
)
@click.option(
    "--batch-size",
    type=click.IntRange(1),
    metavar="N",
    help="Segments x samples x channels per network call on a GPU, halved where memory runs out "
    "(default: 8; always 1 on a CPU).",
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, mps.")
@click.option(
    "--filename",
    default="{track}/{stem}",
    show_default=True,
    metavar="TEMPLATE",
    help="Names of the files, with {track}, {stem}, {sampler}, {sample} (its number) and {seed}.",
)
@click.option(
    "--skip-existing",
    is_flag=True,
    help="Keep results whose input, prior, settings and files are unchanged (by hash).",
)
@click.option(
    "--damaged",
    type=click.Choice(["refuse", "keep"]),
    default="refuse",
    show_default=True,
    help="Files that are cut short or damaged: refuse them, or keep what can be decoded; what is "
    "missing is shown, and in separation.json.",
)
@click.option(
    "--max-duration",
    type=Positive(),
    default=12.0,
    show_default=True,
    metavar="HOURS",
    help="Longest sound that a file may contain.",
)
@click.option(
    "--report", is_flag=True, help="Also write a page to listen to them, and of a folder an index."
)
@EXECUTOR
@imports
def separate(
    inputs: tuple[Path, ...],
    output: Path,
    prior: str | None,
    sampler: str | None,
    overrides: tuple[str, ...],
    samples: int | None,
    keep_samples: bool,
    seed: int,
    level: Literal["rms", "none"],
    join: Literal["crossfade", "condition"],
    speeds: tuple[float, ...] | None,
    stereo: Literal["auto", "image", "channels"],
    batch_size: int | None,
    device: str,
    filename: str,
    skip_existing: bool,
    damaged: Literal["refuse", "keep"],
    max_duration: float,
    report: bool,
    executor: str,
    outputs: Outputs,
) -> None:
    """Separate sound files, and those in folders, into stems: see ``HELP``."""
    from mgdm_audio.audio.files import find_tracks
    from mgdm_audio.engine.cluster import find_executor
    from mgdm_audio.output.layout import Layout, check_template
    from mgdm_audio.output.result_folder import Inputs, require_writable
    from mgdm_audio.separation import separator as separating

    check_template(filename)
    cluster, (form, subtype) = find_executor(executor), outputs.checked()
    tracks = find_tracks(inputs, output, lambda line: click.echo(line, err=True))
    name = Path(sampler).stem if sampler else separating.DEFAULT_SAMPLER
    layouts = [Layout(output, filename, track.name, name, seed, form) for track in tracks]
    items = _items(tracks, layouts, report)
    prior = prior or separating.DEFAULT_PRIOR
    options = separating.SeparatorOptions(  # of a cluster's workers; here they are only checked
        device=device, level=level, join=join, speeds=speeds, stereo=stereo, batch_size=batch_size
    )
    here: separating.SeparatorOptions = {**options, "device": "cpu"} if cluster else options
    separator = separating.Separator.from_pretrained(prior, sampler, overrides=overrides, **here)
    opening = partial(separating.opened, prior, sampler, overrides, **options)
    separator.segmentation.image(keep_samples)  # raises its errors before the first track
    choice = outputs.choice(separator.stems, report)
    require_writable(output)
    run = Run(
        opening if cluster else lambda: separator,
        output,
        choice.names,
        {"seed": seed, "draws": samples, "keep_draws": keep_samples},
        {"two_stems": outputs.two_stems, "chosen": choice.settings, "format": form.name}
        | {"subtype": subtype, "filename": filename, "damaged": damaged},
        {"damaged": damaged, "max_seconds": 3600 * max_duration},
        Inputs([track.path for track in tracks]),
        skip_existing,
        report,
    )
    rows = _rows(run, items, cluster, on_gpu=device != "cpu")
    _end(rows, output if report and any(path.is_dir() for path in inputs) else None)


def _items(tracks: "list[Track]", layouts: "list[Layout]", report: bool) -> dict[str, Item]:
    from mgdm_audio.output.layout import require_apart

    clashing = require_apart(layouts, report)
    return {
        str(track.path): (track, layout, clashing.get(i))
        for i, (track, layout) in enumerate(zip(tracks, layouts, strict=True))
    }


def _rows(run: Run, items: dict[str, Item], cluster: "Executor | None", on_gpu: bool) -> list[Row]:
    """Separates all tracks, here or on a cluster, and prints so as they end; returns their rows."""
    from tqdm import tqdm

    from mgdm_audio.engine.cluster import as_they_end
    from mgdm_audio.errors import recorded

    def say(line: str, err: bool = True) -> None:
        with tqdm.external_write_mode():  # above the bar, where there is one
            click.echo(line, err=err)

    rows: dict[str, Row] = {}
    if cluster is None:
        separator = run.open()
        say(f"device: {separator.device} ({separator.device_reason})")
        for name, item in items.items():
            rows[name], said = run(item)
            for line in said:
                say(*line)
        return list(rows.values())
    ended = as_they_end(run, items, cluster, on_gpu=on_gpu, say=say)
    with progress(f"{len(items)} tracks") as move, closing(ended) as results:
        for name, result in results:
            if isinstance(result, Exception):
                result = failed(items[name][0], recorded(result, run.output, name))
            rows[name], said = result
            for line in said:
                say(*line)
            move(len(rows), len(items))
    return [rows[name] for name in items]


def _end(rows: list[Row], indexed: Path | None) -> None:
    """Prints what was done; writes the index of ``indexed``. Exits with 1 if a track failed."""
    from mgdm_audio.report import write_index
    from mgdm_audio.tables import aligned

    if len(rows) > 1:
        head = ("track", "seconds", "residual dB", "state")
        click.echo("\n" + aligned([head, *rows]))
    if indexed is not None:
        click.echo(f"written: {write_index(indexed)}")
    if any(row[-1].startswith("error") for row in rows):
        sys.exit(1)
