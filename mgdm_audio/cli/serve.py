"""``mgdm-audio serve``: a page in the browser that separates the files dropped on it."""

import socket
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mgdm_audio.cli.options import FORMAT, PRESET, STEM_PRIOR, Outputs, Positive, imports

if TYPE_CHECKING:
    from mgdm_audio.audio.encoding.formats import FormatName
    from mgdm_audio.separation.separator import Separator

ADDRESS = "127.0.0.1"
# What is under way at Ctrl-C is stopped, not waited for. Of a request that is none, of which there
# may be thousands, no line is logged.
SETTINGS: dict[str, Any] = {"log_level": "error", "ws": "none", "timeout_graceful_shutdown": 1}


@click.command()
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8765,
    show_default=True,
    help="Port of the page's address; 0 takes a free one.",
)
@STEM_PRIOR
@click.option("--sampler", type=PRESET, help="Sampler preset, bundled or a TOML file.")
@FORMAT
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, mps.")
@click.option(
    "--max-megabytes",
    type=Positive(),
    default=500.0,
    show_default=True,
    help="Largest size of a file.",
)
@click.option(
    "--max-sound-minutes",
    type=Positive(),
    default=180.0,
    show_default=True,
    help="Longest sound in a file.",
)
@click.option(
    "--max-minutes",
    type=Positive(),
    default=60.0,
    show_default=True,
    help="Longest computing time for a file.",
)
@click.option("--open", "browse", is_flag=True, help="Open the page in the browser.")
@imports
def serve(
    port: int,
    prior: str | None,
    sampler: str | None,
    format: "FormatName",
    device: str,
    max_megabytes: float,
    max_sound_minutes: float,
    max_minutes: float,
    browse: bool,
) -> None:
    """Serve a local web page that separates the sound files dropped on it and plays the stems.

    Only this computer can open it.  Files are separated one after the other; their stems can be
    saved from the page, also as a zip.  Uploads and stems are kept in the folder for temporary
    files (TMPDIR changes it) until they are removed on the page or the server stops (Ctrl-C);
    other users cannot read them.  The limits are printed at the start.

    \b
    mgdm-audio serve
    mgdm-audio serve --open --port 9000 --max-minutes 10

    Needs the extra serve: pip install 'mgdm_audio[serve]'.
    """
    from mgdm_audio.errors import UserError

    try:
        import uvicorn

        from mgdm_audio.serve import Jobs, Limits, bounded, make_app, private_room, separation
    except ModuleNotFoundError as error:
        if error.name not in ("uvicorn", "starlette"):
            raise
        raise UserError(f"serve needs {error.name}: pip install 'mgdm_audio[serve]'") from None
    from mgdm_audio.priors.folder import DEFAULT_PRIOR
    from mgdm_audio.separation.separator import DEFAULT_SAMPLER, Separator

    limits = Limits(max_megabytes, max_sound_minutes, max_minutes)
    with _listen(port) as listener:
        separator = Separator.from_pretrained(
            prior or DEFAULT_PRIOR, sampler or DEFAULT_SAMPLER, device=device
        )
        Outputs(format).choice(separator.stems)
        click.echo(f"device: {separator.device} ({separator.device_reason})", err=True)
        click.echo(str(limits), err=True)
        log = Path(click.get_app_dir("mgdm-audio"))  # of bugs: the room goes
        with private_room() as room:
            jobs = Jobs(separation(separator, limits, format), room, limits, log)
            port = listener.getsockname()[1]
            app = make_app(jobs, port, about=_about(separator))
            server = uvicorn.Server(uvicorn.Config(app, http=bounded(limits), **SETTINGS))
            url = f"http://{ADDRESS}:{port}"
            click.echo(f"{url}  (Ctrl-C stops it)")
            if browse:
                webbrowser.open(url)  # the listener already takes the connection
            try:
                server.run([listener])
            finally:
                jobs.close()


def _about(separator: "Separator") -> str:
    """A line on how tracks are separated."""
    stems, prior = ", ".join(separator.stems), separator.loaded.name
    return f"{stems}; prior {prior}, sampler {separator.preset.name}, {separator.device}"


def _listen(port: int) -> socket.socket:
    from mgdm_audio.errors import UserError

    listener = socket.socket()
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((ADDRESS, port))
        listener.listen()
    except OSError as error:
        listener.close()
        raise UserError(
            f"--port {port}: cannot be listened on ({error.strerror}); choose another"
        ) from None
    return listener
