"""Options, names to complete and the progress bar, which several commands share."""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

import mgdm_audio

if TYPE_CHECKING:
    from mgdm_audio.audio.encoding.formats import Format
    from mgdm_audio.output.choice import Choice

FORMAT_NAMES = ("wav", "flac", "mp3", "m4a", "ogg", "stem.mp4")  # of FORMATS, which imports torch


def imports(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--import MODULE``. The import comes when the command runs, not when its line is parsed:
    --help and the completion of a shell run no code of the user's."""

    @click.option(
        "--import",
        "modules",
        multiple=True,
        metavar="MODULE",
        help="Import MODULE, or a file MODULE.py, first: it may register samplers, architectures "
        "and metrics. Repeatable.",
    )
    @functools.wraps(command)
    def run(*args: Any, modules: tuple[str, ...], **kwargs: Any) -> Any:
        from mgdm_audio.registry import import_modules

        import_modules(modules)
        return command(*args, **kwargs)

    return run


class Positive(click.FloatRange):
    """A number above 0. Click's own range lets pass what is no number, which is below no limit."""

    def __init__(self) -> None:
        super().__init__(0, min_open=True)

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        number: float = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value!r} is no number.", param, ctx)
        return number


class Bundled(click.ParamType):
    """A word. What the shell offers for it: the files or folders of a ``pattern`` in the package,
    and where none of them fits, the user's own ``kind``, "file" or "dir"."""

    def __init__(self, kind: str, *patterns: str) -> None:
        self.name = {"file": "name_or_toml", "dir": "name_or_dir"}[kind]
        self.patterns, self.kind = patterns, kind

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":  # a variable of the shell's that is not set, which is not the default
            self.fail("the name is empty.", param, ctx)
        return value

    def names(self) -> list[str]:
        package = Path(mgdm_audio.__file__).parent
        paths = [path for pattern in self.patterns for path in package.glob(pattern)]
        return sorted(path.parent.name if path.stem == "config" else path.stem for path in paths)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        items = [CompletionItem(name) for name in self.names() if name.startswith(incomplete)]
        return items or [CompletionItem(incomplete, type=self.kind)]


PRESET = Bundled("file", "samplers/presets/*.toml")
IMAGE_PRESET = Bundled("file", "images/presets/*.toml")
MAPPING = Bundled("file", "data/mappings/*.toml")
PRIOR = Bundled("dir", "pretrained/*/config.json")
IMAGE_PRIOR = Bundled("file", "pretrained/images/*/config.json")
ANY_PRIOR = Bundled("dir", *PRIOR.patterns, *IMAGE_PRIOR.patterns)

OUTPUT = click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), help="Output folder."
)
SET = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change an option of the sampler.",
)
STEM_PRIOR = click.option(
    "--prior", type=PRIOR, help="Bundled prior, folder, or OWNER/NAME[@REVISION] of the hub."
)
FORMAT = click.option(
    "--format",
    type=click.Choice(FORMAT_NAMES),
    default="wav",
    show_default=True,
    help="Format of the files. m4a is AAC, ogg is Vorbis; stem.mp4 is Native Instruments Stems, "
    "the mixture and four stems in one file: with the default prior guitar and piano share one. "
    "m4a and stem.mp4 need PyAV.",
)
SUBTYPE = click.option(
    "--subtype",
    type=click.Choice(["PCM_16", "PCM_24", "FLOAT"]),
    default="PCM_24",
    show_default=True,
    help="Sample format of the stems.",
)
EXECUTOR = click.option(
    "--executor",
    default="local",
    show_default=True,
    metavar="WHERE",
    help="local, or ray[://HOST:PORT][,workers=N][,cpus=N][,gpus=N]: N workers on a cluster of Ray "
    "(default: as many as fit), each with so many processors and threads (default: 1) and GPUs "
    "(default: 1 where the work can use one and the cluster has some). All folders must be shared "
    "by its nodes. Needs Ray: pip install 'mgdm_audio[cluster]'.",
)


@dataclass(frozen=True)
class Outputs:
    """Which files are asked for, see ``outputs``."""

    format: str
    subtype: str | None = None
    two_stems: str | None = None
    stems: tuple[str, ...] = ()
    mixes: tuple[str, ...] = ()
    rest: bool = False

    def checked(self) -> tuple[Format, str | None]:
        """The format and the sample format. Raises click.UsageError for what does not fit."""
        from mgdm_audio.audio.encoding.formats import find_format

        if self.two_stems is not None and (self.stems or self.mixes or self.rest):
            raise click.UsageError("--two-stems writes two files; leave --stems, --mix, --rest out")
        with usage():
            form = find_format(self.format)
            return form, form.require(self.subtype)

    def choice(self, available: Sequence[str], report: bool = False) -> Choice:
        """Returns the choice of the prior's stems. Raises click.UsageError."""
        from mgdm_audio.output.choice import Choice, choose, choose_all, require_fit
        from mgdm_audio.separation.result import check_stem

        form, _ = self.checked()
        with usage():
            if self.two_stems is not None:
                index, names = check_stem(self.two_stems, available)
                found = Choice(names, ((index,),), rest=True)
            elif self.stems or self.mixes or self.rest:
                found = choose(available, self.stems, self.mixes, self.rest)
            else:
                found = choose_all(available, form)
            require_fit(form, found.names, found.complete)
        if report and not found.complete:
            raise click.UsageError("--report plays files that sum to the input; add --rest")
        return found


@contextmanager
def usage() -> Iterator[None]:
    """What a block finds wrong with the options is an error of usage, of status 2."""
    from mgdm_audio.errors import UserError

    try:
        yield
    except UserError as error:
        raise click.UsageError(str(error)) from None


def semitones(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> tuple[float, ...] | None:
    """Returns the numbers of "0,-3,3"."""
    try:
        return None if value is None else tuple(float(part) for part in value.split(","))
    except ValueError:
        raise click.BadParameter(f"{value!r}: give semitones, as 0,-3,3") from None


def _names(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> tuple[str, ...]:
    return () if value is None else tuple(value.split(","))


_OUTPUTS = (
    FORMAT,
    click.option(
        "--subtype",
        type=click.Choice(["PCM_16", "PCM_24", "FLOAT"]),
        help="Sample format of wav, flac and stem.mp4.  [default: PCM_24]",
    ),
    click.option(
        "--two-stems", metavar="STEM", help="Write STEM and no_STEM, the mixture minus it."
    ),
    click.option(
        "--stems",
        metavar="A,B,...",
        callback=_names,
        help="Write only these stems, and what --mix and --rest name.",
    ),
    click.option(
        "--mix",
        "mixes",
        multiple=True,
        metavar="A+B",
        help="Write the sum of these stems as one file. Repeatable.",
    ),
    click.option(
        "--rest",
        is_flag=True,
        help="Also write rest, the input minus all stems that --stems and --mix name.",
    ),
)


def outputs(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of what is written, given to the command as one, ``Outputs``."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        asked = {name: kwargs.pop(name) for name in Outputs.__dataclass_fields__}
        return command(*args, outputs=Outputs(**asked), **kwargs)

    for option in reversed(_OUTPUTS):
        run = option(run)
    return run


@contextmanager
def progress(name: str) -> Iterator[Callable[[int, int], None]]:
    """One bar with the time left, moved by (steps done, steps in all).

    Nothing is drawn where standard error is not a terminal.
    """
    from tqdm import tqdm

    form = "{desc} {percentage:3.0f} % |{bar}| {elapsed} < {remaining}"
    with tqdm(total=1, desc=name, bar_format=form, disable=not sys.stderr.isatty()) as bar:

        def update(done: int, total: int) -> None:
            bar.total = total
            bar.n = done
            bar.refresh()

        yield update
