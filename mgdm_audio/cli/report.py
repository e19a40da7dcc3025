"""``mgdm-audio report``: a page to listen to separated tracks."""

import sys
from pathlib import Path

import click

from mgdm_audio.cli.options import progress

FOLDER = click.Path(path_type=Path)


@click.command()
@click.argument("folder", type=FOLDER, metavar="DIR")
@click.option(
    "--reference",
    type=FOLDER,
    help="True stems, <track>/<stem>.wav, for the SI-SDR improvement on the page.",
)
def report(folder: Path, reference: Path | None) -> None:
    """Make a page to listen to separated tracks.

    DIR is OUT or OUT/<track> of `mgdm-audio separate -o OUT`.  Writes report.html to the folder of
    every track, and DIR/index.html if DIR contains several tracks.

    A page plays the mixture and all stems in synchrony, with mute, solo, volume, loop and zoom, and
    shows their waveforms, mel spectrograms, confidence, settings and, with --reference, scores.  It
    saves the mix as it is heard.  It is one file that needs no network and can be sent to others.
    Its sound is FLAC of about 13 bits and limited to half an hour over all players, the first 5
    minutes of a song with five stems: about 65 MB in stereo.

    \b
    mgdm-audio report stems/song
    mgdm-audio report stems --reference true
    """
    from tqdm import tqdm

    from mgdm_audio.errors import recorded
    from mgdm_audio.report import write_pages

    failed = []

    def note(track: Path, error: Exception) -> None:
        failed.append(track)
        with tqdm.external_write_mode():  # the bar goes and comes again
            click.echo(f"error: {recorded(error, folder, track)}", err=True)

    with progress("pages") as update:
        written = write_pages(folder, reference, on_progress=update, on_error=note)
    for path in written:
        click.echo(f"written: {path} ({path.stat().st_size / 1e6:.1f} MB)")
    if failed:
        sys.exit(1)
