"""``mgdm-audio serve``: a page in the browser that separates the files dropped on it."""

import socket
import tempfile
import webbrowser
from pathlib import Path

import click

from mgdm_audio.cli.options import PRESET, STEM_PRIOR, imports

ADDRESS = "127.0.0.1"


@click.command()
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8765,
    show_default=True,
    help="Of the page's address; 0 takes a free one.",
)
@STEM_PRIOR
@click.option("--sampler", type=PRESET, help="Sampler preset, bundled or a TOML file.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, mps.")
@click.option(
    "--max-megabytes",
    type=click.FloatRange(0, min_open=True),
    default=500.0,
    show_default=True,
    help="Of a file.",
)
@click.option(
    "--max-minutes",
    type=click.FloatRange(0, min_open=True),
    default=60.0,
    show_default=True,
    help="Of work on a file.",
)
@click.option("--open", "browse", is_flag=True, help="Open the page in the browser.")
@imports
def serve(
    port: int,
    prior: str | None,
    sampler: str | None,
    device: str,
    max_megabytes: float,
    max_minutes: float,
    browse: bool,
) -> None:
    """Serve a page to drop sound files on, which shows how far they are and then lets one listen.

    Only this computer can open it.  Files are separated one after the other; their stems can be
    taken from the page.  All of it lies in the folder for temporary files (TMPDIR changes it) until
    it is removed on the page or the server stops, by Ctrl-C.

    \b
    mgdm-audio serve
    mgdm-audio serve --open --port 9000 --max-minutes 10

    Needs the extra serve: pip install 'mgdm_audio[serve]'.
    """
    from mgdm_audio.errors import UserError

    try:
        import uvicorn

        from mgdm_audio.serve import Jobs, make_app, separation
    except ModuleNotFoundError as error:
        if error.name not in ("uvicorn", "starlette"):
            raise
        raise UserError(f"serve needs {error.name}: pip install 'mgdm_audio[serve]'") from None
    from mgdm_audio.priors.folder import DEFAULT_PRIOR
    from mgdm_audio.separation.separator import DEFAULT_SAMPLER, Separator

    with _listen(port) as listener:
        separator = Separator.from_pretrained(
            prior or DEFAULT_PRIOR, sampler or DEFAULT_SAMPLER, device=device
        )
        click.echo(f"device: {separator.device} ({separator.device_reason})", err=True)
        about = f"{', '.join(separator.stems)}; prior {separator.loaded.name}, "
        about += f"sampler {separator.preset.name}, {separator.device}"
        with tempfile.TemporaryDirectory(prefix="mgdm-audio-", ignore_cleanup_errors=True) as room:
            jobs = Jobs(separation(separator), Path(room), minutes=max_minutes)
            port = listener.getsockname()[1]
            app = make_app(jobs, port, max_megabytes=max_megabytes, about=about)
            # What is under way at Ctrl-C is stopped, not waited for.
            config = uvicorn.Config(
                app, log_level="warning", ws="none", timeout_graceful_shutdown=1
            )
            url = f"http://{ADDRESS}:{port}"
            click.echo(f"{url}  (Ctrl-C stops it)")
            if browse:
                webbrowser.open(url)  # the listener already takes the connection
            try:
                uvicorn.Server(config).run([listener])
            finally:
                jobs.close()


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
