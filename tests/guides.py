"""README.md and the guides: their text, their examples, and how an example is run."""

import re
import shlex
import sys
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from mgdm_audio.cli.main import main
from mgdm_audio.evaluation.metric_registry import METRICS
from mgdm_audio.priors.architectures import ARCHITECTURES
from mgdm_audio.samplers import SAMPLERS

RATE = 22050  # Hz, of song.mp3 and of the stems that the examples use

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    *sorted(ROOT.glob("recipes/docs/*.md")),
    *sorted(ROOT.glob("egs/**/README.md")),
]
EXAMPLE = re.compile(r"<!-- example: (\S+) -->\n```\w+\n(.*?)```", re.DOTALL)
FOUND = [(name, text) for page in PAGES for name, text in EXAMPLE.findall(page.read_text())]
EXAMPLES = dict(FOUND)


def forget() -> None:
    """Remove what the examples register, and their modules."""
    for table, name in ((SAMPLERS, "replacement"), (ARCHITECTURES, "coloured"), (METRICS, "peak")):
        table.pop(name, None)
        for module in [m for m in sys.modules if m.partition("_")[0] == name]:
            del sys.modules[module]


def run(name: str) -> dict[str, Any]:
    """The variables that a Python example leaves."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(EXAMPLES[name], f"example {name}", "exec", dont_inherit=True), namespace)
    return namespace


def type_in(name: str, without: str = "", /, **options: list[str]) -> None:
    """The lines of a shell example, each with more options by its verb, to be quick."""
    text = re.sub(without, "", EXAMPLES[name]) if without else EXAMPLES[name]
    for line in filter(None, text.splitlines()):
        _, *words = shlex.split(line, comments=True)
        result = CliRunner().invoke(main, [*words, *options.get(words[0], [])])
        assert result.exit_code == 0, f"{line}: {result.output}"
