"""Names of what is bundled, for the shell to complete: ``type=PRIOR`` of an option.

They are read from the folders: completing must not import torch.
"""

from pathlib import Path

import click
from click.shell_completion import CompletionItem

import mgdm_audio


class Bundled(click.ParamType):
    """A word. What the shell offers for it: the files or folders in one of the package's folders,
    and where none of them fits, the user's own ``kind``, "file" or "dir"."""

    def __init__(self, folder: str, pattern: str, kind: str) -> None:
        self.name = {"file": "name_or_toml", "dir": "name_or_dir"}[kind]
        self.folder = Path(mgdm_audio.__file__).parent / folder
        self.pattern, self.kind = pattern, kind

    def names(self) -> list[str]:
        paths = self.folder.glob(self.pattern)
        return sorted(path.stem if self.kind == "file" else path.parent.name for path in paths)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        items = [CompletionItem(name) for name in self.names() if name.startswith(incomplete)]
        return items or [CompletionItem(incomplete, type=self.kind)]


PRESET = Bundled("samplers/presets", "*.toml", "file")
IMAGE_PRESET = Bundled("images/presets", "*.toml", "file")
MAPPING = Bundled("audio/preparation/mappings", "*.toml", "file")
PRIOR = Bundled("pretrained", "*/config.json", "dir")
