"""The ``mgdm-audio`` group: its verbs are imported when called, so that --help needs no torch."""

import difflib
import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from typing import Any, TextIO

import click

from mgdm_audio.cli.streams import lost, steady
from mgdm_audio.errors import SoundWarning, UserError
from mgdm_audio.version import __version__

# verb: (where its command is, one line of help)
COMMANDS = {
    "separate": ("mgdm_audio.cli.separate:separate", "Separate songs into stems."),
    "sample": ("mgdm_audio.cli.sample:sample", "Generate all stems, or those missing from a song."),
    "score": ("mgdm_audio.cli.score:score", "Score separated tracks against their true stems."),
    "report": ("mgdm_audio.cli.report:report", "Make a page to listen to separated tracks."),
    "serve": ("mgdm_audio.cli.serve:serve", "Separate files dropped on a local web page."),
    "bench": ("mgdm_audio.cli.bench:bench", "Compare samplers on sets of tracks: dB and cost."),
    "restore": ("mgdm_audio.cli.restore:restore", "Restore degraded images."),
    "doctor": ("mgdm_audio.cli.doctor:doctor", "Check the installation and separate 5 seconds."),
    "prepare": ("mgdm_audio.cli.prepare:prepare", "Prepare data sets for training and scoring."),
    "train": ("mgdm_audio.cli.train:train", "Train a prior from folders of stems."),
    "priors": ("mgdm_audio.cli.priors:priors", "List, show, verify, convert, export, push priors."),
}


_show_plainly = warnings.showwarning


def _show(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """What is said of the user's files in one line, other warnings as Python does."""
    if issubclass(category, SoundWarning):
        click.echo(f"warning: {' '.join(str(message).split())}", err=True)
    else:
        _show_plainly(message, category, filename, lineno, file, line)


class LazyGroup(click.Group):
    """A group of stand-ins with name and help, each replaced by the real command when it is run."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)  # as in the table: what is used most comes first

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name in COMMANDS:
            module, _, attribute = COMMANDS[name][0].partition(":")
            return name, getattr(import_module(module), attribute), args[1:]
        near = difflib.get_close_matches(name, COMMANDS, 1, 0.3)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(COMMANDS)}."
        raise click.UsageError(f"no command {name!r}; {hint}", ctx)

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """As click's, but that a mistyped line is told in one line, and that a closed terminal, a
        reader that has left and a name that cannot be shown end nothing."""
        steady()
        if not standalone_mode:
            return super().main(args, prog_name, complete_var, False, **extra)
        try:
            code = super().main(args, prog_name, complete_var, False, **extra)
        except click.exceptions.NoArgsIsHelpError as error:  # a group alone shows its help
            error.show()
            code = error.exit_code
        except click.ClickException as error:
            ctx = getattr(error, "ctx", None)
            said = " ".join(error.format_message().split())
            if ctx:
                said = f"{said.removesuffix('.')}. See {ctx.command_path} --help."
            click.echo(f"error: {said}", err=True)
            code = error.exit_code
        except click.Abort:
            code = 1
        if (why := lost()) is not None:
            if why:
                click.echo(f"error: standard output: cannot be written ({why})", err=True)
            code = code or 1
        sys.exit(code)

    def invoke(self, ctx: click.Context) -> Any:
        warnings.showwarning = _show
        try:
            return super().invoke(ctx)
        except UserError as error:
            click.echo(f"error: {' '.join(str(error).split())}", err=True)
            ctx.exit(error.exit_code)
        except OSError as error:  # of the system, not of the program: a full disk, say
            if error.strerror is None:
                raise
            place = f"{error.filename}: " if error.filename else ""
            click.echo(f"error: {place}{error.strerror}", err=True)
            ctx.exit(1)
        except MemoryError:
            click.echo("error: not enough memory; give less, or close other programs", err=True)
            ctx.exit(1)
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            ctx.exit(130)  # 128 + SIGINT, as shells report it


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="mgdm-audio")
def main() -> None:
    """Music source separation with a diffusion prior.

    \b
    mgdm-audio separate song.mp3 -o stems --report
    mgdm-audio separate --help
    """


for name, (_, help_line) in COMMANDS.items():
    main.add_command(click.Command(name, short_help=help_line))

if __name__ == "__main__":
    main()
