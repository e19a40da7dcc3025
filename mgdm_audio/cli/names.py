"""Names of what is bundled, for the shell to complete: ``type=PRIOR`` of an option.

They are read from the folders: completing must not import torch.
"""

from pathlib import Path

import click
from click.shell_completion import CompletionItem

import mgdm_audio


class Bundled(click.ParamType):
    """A word. What the shell offers for it: the files or folders of a ``pattern`` in the package,
    and where none of them fits, the user's own ``kind``, "file" or "dir"."""

    def __init__(self, kind: str, *patterns: str) -> None:
        self.name = {"file": "name_or_toml", "dir": "name_or_dir"}[kind]
        self.patterns, self.kind = patterns, kind

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
MAPPING = Bundled("file", "audio/preparation/mappings/*.toml")
PRIOR = Bundled("dir", "pretrained/*/config.json")
IMAGE_PRIOR = Bundled("file", "pretrained/images/*/config.json")
ANY_PRIOR = Bundled("dir", *PRIOR.patterns, *IMAGE_PRIOR.patterns)
