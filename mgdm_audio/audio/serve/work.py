"""What is done with a file: stems, and a page to listen to them."""

from collections.abc import Callable, Mapping
from pathlib import Path

from mgdm_audio.audio.layout import DEFAULT_TEMPLATE, Layout
from mgdm_audio.audio.report import write_page
from mgdm_audio.audio.separator import Separator
from mgdm_audio.audio.serve.jobs import Work

PAGE = "report.html"


def separation(separator: Separator) -> Work:
    """Work that gives ``report.html`` and ``<stem>.wav`` of each stem."""

    def work(path: Path, out: Path, on_progress: Callable[[int, int], None]) -> Mapping[str, Path]:
        layout = Layout(out, DEFAULT_TEMPLATE, path.stem, separator.preset.name)
        with separator.separate(path, folder=out, on_progress=on_progress) as found:
            found.save(layout)
        page = write_page(out / path.stem)
        stems = {f"{name}.wav": out / layout.stem(name) for name in separator.stems}
        return {PAGE: page} | stems

    return work
