"""Separating a file of any length into files, in memory that does not grow with it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import Any

from torch import Tensor

from mgdm_audio.audio.io import Audio, read_blocks
from mgdm_audio.audio.layout import Layout
from mgdm_audio.audio.pipeline import Separated, spans
from mgdm_audio.audio.result_folder import unwritable
from mgdm_audio.audio.separation import check_stem
from mgdm_audio.audio.separator import Separator
from mgdm_audio.audio.spool import Spool
from mgdm_audio.audio.stem_files import Block, Shape, check_subtype, write_result
from mgdm_audio.audio.uncertainty import confidence_db, uncertainty_record
from mgdm_audio.digest import hash_file
from mgdm_audio.engine.runner import Progress


def separate_to_files(
    separator: Separator,
    path: str | Path,
    layout: Layout,
    *,
    subtype: str = "PCM_24",
    seed: int = 0,
    draws: int | None = None,
    keep_draws: bool = False,
    two_stems: str | None = None,
    on_progress: Progress | None = None,
) -> dict[str, Any]:
    """Separate ``path`` into the files of ``layout``; returns the record, as ``Separation.save``.

    Temporary files below ``layout.root`` take 4 bytes a sample of the input, of each stem at the
    prior's rate and of each stem at the input's, for each draw that is kept once more. Raises
    UserError, in one line, where the file cannot be read or the folder cannot be written to.
    """
    check_subtype(subtype)
    if two_stems is not None:
        check_stem(two_stems, separator.stems)
    path = Path(path)
    try:
        layout.root.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:

            def store(shape: tuple[int, ...]) -> Spool:
                spool = Spool(shape, layout.root)
                stack.callback(spool.close)
                return spool

            def samples(blocks: Iterable[Audio]) -> Iterator[Tensor]:
                for block in blocks:
                    yield block.samples
                    if on_progress is not None:
                        on_progress(0, 1)  # nothing to show, but it may want to stop

            blocks = read_blocks(path)
            first = next(blocks)
            found = separator.separate_blocks(
                samples(chain([first], blocks)),
                first.sample_rate,
                store,
                seed=seed,
                draws=draws,
                keep_draws=keep_draws,
                two_stems=two_stems,
                on_progress=on_progress,
            )
            report = found.report | {"input": path.name, "input_sha256": hash_file(path)}
            return _written(found, report, layout, subtype)
    except OSError as error:
        raise unwritable(layout.root, error) from None


def _written(
    found: Separated, report: dict[str, Any], layout: Layout, subtype: str
) -> dict[str, Any]:
    """The files, lowered by one gain if any of them would clip, and rounded together."""
    shape = Shape(found.mixture.shape[0], found.mixture.time, report["sample_rate"])
    gain = min(part.gain(subtype) for part in found.extremes)
    seconds = shape.time / shape.sample_rate
    spread = found.spread
    confidence = None if spread is None else confidence_db(found.power, spread, seconds)

    def blocks() -> Iterator[Block]:
        for start, stop in spans(shape.time, shape.sample_rate):
            yield Block(found.mixture.read(start, stop), list(found.parts.read(start, stop)))

    return write_result(
        layout,
        found.names,
        shape,
        blocks(),
        found.parts.shape[0] - 1,
        subtype,
        gain,
        report,
        uncertainty_record(report["draws"], spread, confidence, gain),
    )
