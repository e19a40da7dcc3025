"""``mgdm-audio prepare``: data sets -> folders of stems with a manifest."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mgdm_audio.cli.options import EXECUTOR, MAPPING

if TYPE_CHECKING:
    from mgdm_audio.data.plan import Planner, Track
    from mgdm_audio.data.preparation import Form

FOLDER = click.Path(path_type=Path)


@click.group()
def prepare() -> None:
    """Prepare data sets: stems by name, mono, at one sample rate.

    Writes OUT/<split>/<track>/<stem>.flac and OUT/manifest.jsonl, which lists for every track the
    files of each stem and those left out, padded or missing.  The same command continues after a
    stop and keeps finished tracks.  A damaged track is named and left out; the exit code is then 1.

    \b
    mgdm-audio prepare slakh slakh2100_flac_redux -o data
    mgdm-audio prepare stems musdb18hq --map musdb18 -o data
    """


def options(command: Callable[..., None]) -> Callable[..., None]:
    """The arguments that both verbs have."""
    for decorate in (
        click.option(
            "--nj",
            type=click.IntRange(min=1),
            default=os.cpu_count() or 1,
            show_default="one per CPU",
            help="Tracks in parallel.",
        ),
        EXECUTOR,
        click.option(
            "--sample-rate",
            type=click.IntRange(1000, 655350),
            default=22050,
            show_default=True,
            help="Sample rate of the stems, in Hz.",
        ),
        click.option(
            "--format",
            "form",
            type=click.Choice(["flac", "wav"]),
            default="flac",
            show_default=True,
            help="Format of the stems: 16 bits where exact, else 24; floats beyond full scale.",
        ),
        click.option(
            "--splits",
            default="",
            metavar="NAME,...",
            help="Splits to prepare.  For a data set without splits, the name of its only one.  "
            "[default: all that exist, or 'all']",
        ),
        click.option("-o", "--output", "out", type=FOLDER, required=True, help="Output folder."),
        click.argument("source", type=FOLDER, metavar="SRC"),
    ):
        command = decorate(command)
    return command


@prepare.command()
@options
def slakh(
    source: Path, splits: str, out: Path, form: "Form", sample_rate: int, nj: int, executor: str
) -> None:
    """Bass, drums, guitar and piano of Slakh2100.

    SRC is Slakh2100, slakh2100_flac_redux (its split "omitted" only if it is named), babyslakh_16k,
    or MSDM's stems made from it.  Needs PyYAML: pip install 'mgdm_audio[data]'.

    The files in <track>/stems are summed by the stems that metadata.yaml lists for them, whatever
    their audio_rendered is; files that it does not list are left out.

    \b
    mgdm-audio prepare slakh slakh2100_flac_redux -o data
    mgdm-audio prepare slakh slakh2100_flac_redux -o data --splits test --sample-rate 44100
    """
    from mgdm_audio.data import slakh
    from mgdm_audio.data.listing import require_yaml
    from mgdm_audio.data.plan import find_tracks

    tracks = find_tracks(source, _names(splits), slakh.SPLITS, (slakh.OMITTED,))
    if any((track.folder / slakh.METADATA).is_file() for track in tracks):
        require_yaml(f"Slakh's {slakh.METADATA}")
    _run(tracks, slakh.plan, out, form, sample_rate, nj, executor)


@prepare.command()
@options
@click.option(
    "--map",
    "name",
    required=True,
    type=MAPPING,
    help="Which files sum to which stem: musdb18 (MUSDB18-HQ, or MUSDB18's .stem.mp4 files, which "
    "need PyAV: pip install 'mgdm_audio[formats]'), moisesdb, moisesdb-drums (the pieces of its "
    "drum kits), medleydb (which needs PyYAML: pip install 'mgdm_audio[data]'), or a .toml file.",
)
def stems(
    source: Path,
    splits: str,
    name: str,
    out: Path,
    form: "Form",
    sample_rate: int,
    nj: int,
    executor: str,
) -> None:
    """Any folders of stems, by a mapping of their files.

    Files that match no stem, or that metadata of MoisesDB or MedleyDB do not list, are left out.

    \b
    A mapping's TOML file:
      splits = ["train", "test"]        # folders of SRC; without this line tracks are in SRC
      streams = ["bass", "other_keys"]  # for tracks <track>.stem.mp4: their streams, in order
      listing = "moisesdb"              # or medleydb, medleydb-raw: patterns match what a track's
                                        # metadata say, "drums/kick_drum" or "electric bass"
      [stems]
      bass = ["bass"]                   # <track>/bass.wav or .flac
      other = ["other_*", "strings/*"]  # the sum of all matching files

    \b
    mgdm-audio prepare stems musdb18hq --map musdb18 -o data
    mgdm-audio prepare stems mine --map mine.toml -o data --splits train
    """
    from mgdm_audio.data.mapping import load_mapping, planner, tracks

    mapping = load_mapping(name)
    _run(
        tracks(mapping, source, _names(splits)),
        planner(mapping),
        out,
        form,
        sample_rate,
        nj,
        executor,
    )


@prepare.command()
@options
@click.option("--dataset", required=True, metavar="NAME", help="mirdata's name of the data set.")
@click.option("--version", default="default", show_default=True, help="Its version in mirdata.")
@click.option(
    "--map",
    "name",
    required=True,
    type=MAPPING,
    help="Which instruments sum to which stem: a .toml file.",
)
def mirdata(
    source: Path,
    splits: str,
    dataset: str,
    version: str,
    name: str,
    out: Path,
    form: "Form",
    sample_rate: int,
    nj: int,
    executor: str,
) -> None:
    """Data sets that mirdata loads as multitracks.

    SRC is mirdata's data_home. The data sets are slakh, phenicx_anechoic, dagstuhl_choirset,
    filosax and jtd. Nothing is downloaded: fetch the data set by mirdata first. Needs mirdata:
    pip install 'mgdm_audio[mirdata]'.

    \b
    Patterns of the mapping match the instrument of a part, or the end of its id:
      [stems]
      strings = ["violin", "viola", "cello", "doublebass"]
      winds = ["flute", "oboe", "clarinet", "bassoon"]

    \b
    mgdm-audio prepare mirdata HOME --dataset phenicx_anechoic --map orchestra.toml -o data
    """
    from mgdm_audio.data import multitracks
    from mgdm_audio.data.mapping import load_mapping, planner

    mapping = load_mapping(name)
    tracks = multitracks.tracks(mapping, source, dataset, version, _names(splits))
    _run(tracks, planner(mapping), out, form, sample_rate, nj, executor)


def _names(splits: str) -> list[str]:
    return [name.strip() for name in splits.split(",") if name.strip()]


def _run(
    tracks: "list[Track]",
    planner: "Planner",
    out: Path,
    form: "Form",
    sample_rate: int,
    nj: int,
    executor: str,
) -> None:
    from tqdm import tqdm

    from mgdm_audio.data.manifest import MANIFEST
    from mgdm_audio.data.preparation import Options, Outcome, prepare
    from mgdm_audio.errors import UserError

    with tqdm(total=len(tracks), unit="track", disable=not sys.stderr.isatty()) as bar:

        def show(outcome: Outcome) -> None:
            if outcome.state == "failed":
                track = outcome.track
                line = f"{track.split}/{track.name}: {outcome.error}"
                tqdm.write(" ".join(line.split()), file=sys.stderr)
            bar.update()

        outcomes = prepare(tracks, out, planner, Options(form, sample_rate), nj, show, executor)
    count = {state: sum(o.state == state for o in outcomes) for state in ("made", "kept", "failed")}
    click.echo(f"{count['made']} tracks made, {count['kept']} kept: {out / MANIFEST}")
    if count["failed"]:
        raise UserError(
            f"{out / MANIFEST}: lacks {count['failed']} of {len(tracks)} tracks, named above; mend "
            "them and run again"
        )
