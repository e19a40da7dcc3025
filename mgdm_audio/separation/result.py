"""The result of a separation: stems, their uncertainty, and how to save them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor

from mgdm_audio.audio.encoding.files import Shape
from mgdm_audio.audio.encoding.formats import DEFAULT_SUBTYPE, Format, FormatName, find_format
from mgdm_audio.audio.encoding.tags import Tags
from mgdm_audio.audio.pcm import Extremes
from mgdm_audio.audio.store import Held, Resampled, Store, Sums
from mgdm_audio.config import nearest
from mgdm_audio.errors import UserError
from mgdm_audio.output.choice import Choice, choose, choose_all, require_fit
from mgdm_audio.output.layout import Layout
from mgdm_audio.output.stem_files import Block, Encoding, write_result
from mgdm_audio.separation.residual import spans
from mgdm_audio.separation.uncertainty import Spread, confidence_db, uncertainty_record

RECORD, UNCERTAINTY = "separation.json", "uncertainty.json"  # the default names of Layout


@dataclass(frozen=True, eq=False)
class Separation(Mapping[str, Tensor]):
    """A ``Separation`` maps the names of stems to their posterior means.

    ``result["bass"]`` is [channel, time] float32 at ``sample_rate`` Hz, with as many samples as the
    mixture; the stems sum to ``mixture``. They are read on access, from memory or from disk.
    """

    names: tuple[str, ...]  # of the stems
    source: Store  # [channel, time]: the mixture
    parts: Store  # [1 + kept draws, stem, channel, time]: the mean of all draws, then kept draws
    sample_rate: int  # Hz
    report: dict[str, Any]
    spread: Spread | None
    mask: int = 0  # of the speakers that the channels are for, see ``audio.speakers``
    path: Path | None = None  # of the mixture, if it was a file
    tags: Tags = field(default_factory=Tags)  # of the mixture's file
    complete: bool = True  # the stems sum to the mixture, see ``choose``

    @classmethod
    def of(
        cls,
        mixture: Tensor,
        stems: Mapping[str, Tensor],
        sample_rate: int,
        report: dict[str, Any],
        spread: Spread | None = None,
        draws: Tensor | None = None,
    ) -> Self:
        """Makes a ``Separation`` of tensors: ``mixture`` and each of ``stems`` [channel, time].

        ``draws``: [draw, stem, channel, time]; each draw and ``stems`` must sum to the mixture.
        """
        mean = torch.stack(list(stems.values()))[None]
        whole = mean if draws is None else torch.cat([mean, draws])
        source, parts = Held(tuple(mixture.shape[:-1])), Held(tuple(whole.shape[:-1]))
        source.append(mixture)
        parts.append(whole)
        return cls(tuple(stems), source, parts, sample_rate, report, spread)

    def __getitem__(self, stem: str) -> Tensor:
        if stem not in self.names:
            raise KeyError(stem)
        return self.parts.read(0, self.parts.time)[0, self.names.index(stem)]

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def stems(self) -> Mapping[str, Tensor]:
        """The stems: name -> [channel, time]."""
        return dict(zip(self.names, self.parts.read(0, self.parts.time)[0], strict=True))

    @property
    def mixture(self) -> Tensor:
        """The input: [channel, time]."""
        return self.source.read(0, self.source.time)

    @property
    def draws(self) -> Tensor | None:
        """The kept draws, [draw, stem, channel, time], or None; each sums to the mixture."""
        return self.parts.read(0, self.parts.time)[1:] if self.parts.shape[0] > 1 else None

    @property
    def confidence_db(self) -> dict[str, float | None] | None:
        """The expected SI-SDR of each stem in dB: 10 log10(its energy / that of its ``spread``).

        At most 300, and None for a silent stem; None for all without a ``spread``. For a posterior
        mean m and a true stem s = m + e, where e has the energy V of the spread and is orthogonal
        to m, (s, m)^2 / (|s|^2 |m|^2) is |m|^2 / (|m|^2 + V), hence an SI-SDR of |m|^2 / V. It is
        exact if the draws and the network's reported variances are those of the posterior.
        """
        return self._confidence_db(self._measured()[1])

    def two_stems(self, stem: str) -> Separation:
        """Returns ``stem`` and ``no_<stem>``, the mixture minus it, in the mean and every draw.

        Both have the same ``spread``, since their sum is known. Raises UserError for an unknown
        stem.
        """
        index, names = check_stem(stem, self.names)
        choice = Choice(names, ((index,),), rest=True)
        spread = self.spread
        if spread is not None:
            spread = replace(spread, std=dict.fromkeys(names, spread.std[stem]))
        return self._summed(choice, spread, {"two_stems": stem})

    def choose(
        self, stems: Iterable[str] = (), mixes: Iterable[str] = (), rest: bool = False
    ) -> Separation:
        """Returns only ``stems``, sums of stems as ``mixes``, "drums+bass", and what is left.

        ``rest``: the mixture less every stem that is one of ``stems`` or in a mix, by that name. A
        mix and the rest have no ``spread``. Raises UserError for an unknown stem, one that is
        named twice, and where nothing is left.
        """
        return self._chosen(choose(self.names, stems, mixes, rest))

    def _chosen(self, choice: Choice) -> Separation:
        if choice.settings is None:
            return self
        spread = self.spread
        if spread is not None:
            kept = {name: std for name, std in spread.std.items() if name in choice.names}
            spread = replace(spread, std=kept)
        return self._summed(choice, spread, {"chosen": choice.settings})

    def _summed(
        self, choice: Choice, spread: Spread | None, settings: dict[str, Any]
    ) -> Separation:
        return replace(
            self,
            names=choice.names,
            parts=Sums(self.parts, self.source, choice.groups, choice.rest),
            report=self.report | settings,
            spread=spread,
            complete=choice.complete,
        )

    def save(
        self,
        place: str | Path | Layout,
        subtype: str | None = None,
        *,
        format: FormatName | None = None,
    ) -> dict[str, Any]:
        """Writes ``<stem>.wav``, uncertainty.json and separation.json; returns the last's contents.

        ``place``: a folder, or a ``Layout`` of names. Kept draws go to
        ``samples/<draw>/<stem>.wav``. ``format``: of the files, in place of wav. ``subtype``:
        PCM_16, PCM_24 (the default) or FLOAT, of formats that are not lossy; PCM files sum to the
        mixture as exactly as the float32 stems do (within a step of 24 bits), lowered by one common
        gain (in the record) where any of them would clip. Where the format holds four stems and
        there are more, some are summed, see ``choose_all``. How closely the files of a lossy format
        sum to the mixture is measured (``residual_db`` in the record); they have its length and
        begin with it. A rate that the format does not have is changed, see ``Format.rate_for``. The
        tags and the cover of the mixture's file are copied, where the format has them. The folder
        is written whole or not at all; in one that is there already files of the same names are
        replaced, and those that the record of an earlier result lists are removed.
        Raises UserError for what the format cannot hold, where it cannot be written to, and where
        the mixture's own file would be replaced.
        """
        layout = place if isinstance(place, Layout) else Layout(Path(place), "{stem}", self._track)
        if format is not None:
            layout = replace(layout, form=find_format(format))
        form = layout.form
        encoding = Encoding(form.require(subtype), self.tags)
        if self.report.get("chosen") is None:
            choice = choose_all(self.names, form)
            if choice.settings is not None:
                return self._chosen(choice).save(layout, subtype)
        names = self.names
        require_fit(form, names, self.complete)
        form.require_channels(self.path or "the mixture", self.source.shape[0], self.mask)
        found = self._fitted(form)
        extremes, power = found._measured()
        gain = min(each.gain(encoding.subtype or DEFAULT_SUBTYPE) for each in extremes)
        return write_result(
            layout,
            names,
            Shape(found.source.shape[0], found.source.time, found.sample_rate, self.mask),
            found._blocks,
            len(extremes) - 1,
            encoding,
            gain,
            found.report | {"peak": gain * extremes[0].peak},
            uncertainty_record(
                self.report["draws"], self.spread, found._confidence_db(power), gain
            ),
            inputs=() if self.path is None else (self.path,),
            complete=self.complete,
        )

    @property
    def _track(self) -> str:
        return "" if self.path is None else self.path.stem

    def _fitted(self, form: Format) -> Separation:
        """Returns the result at a rate that the format has, with the channels in its report."""
        report, rate = self.report, form.rate_for(self.sample_rate)
        if form.in_one_file and self.source.shape[0] == 1:
            report = report | {"channels": 2}  # equal ones: the format has stereo alone
        if rate == self.sample_rate:
            return replace(self, report=report)
        source, parts = (Resampled(x, self.sample_rate, rate) for x in (self.source, self.parts))
        report = report | {
            "sample_rate": rate,
            "samples": source.time,
            "input_sample_rate": self.sample_rate,
        }
        return replace(self, source=source, parts=parts, sample_rate=rate, report=report)

    def _measured(self) -> tuple[list[Extremes], dict[str, float]]:
        """Computes the extremes of every part and the mean square of each stem in one pass."""
        extremes = [Extremes() for _ in range(self.parts.shape[0])]
        energy = torch.zeros(len(self.names), dtype=torch.float64)
        for block in self._blocks():
            for each, part in zip(extremes, block.parts, strict=True):
                if self.complete:
                    each.add(part, block.mixture)
                else:  # the sum is not written, and may clip
                    for stem in part:
                        each.add(stem[None], stem)
            energy += block.parts[0].double().square().sum((1, 2))
        mean = (energy / (self.source.shape[0] * self.source.time)).tolist()
        return extremes, dict(zip(self.names, mean, strict=True))

    def _confidence_db(self, power: dict[str, float]) -> dict[str, float | None] | None:
        if self.spread is None:
            return None
        return confidence_db(power, self.spread, self.source.time / self.sample_rate)

    def _blocks(self) -> Iterator[Block]:
        """Yields mixture and parts in consecutive blocks of samples."""
        for start, stop in spans(self.source.time, self.sample_rate):
            yield Block(self.source.read(start, stop), list(self.parts.read(start, stop)))

    def close(self) -> None:
        """Frees the memory or temporary files; the stems cannot be read afterwards."""
        self.source.close()
        self.parts.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def check_stem(stem: str, stems: Iterable[str]) -> tuple[int, tuple[str, str]]:
    """Returns the index of ``stem`` and the names of it and of the rest.

    Raises UserError for an unknown stem.
    """
    names = list(stems)
    if stem not in names:
        raise UserError(f"the prior has no stem {stem!r}{nearest(stem, names)}")
    return names.index(stem), (stem, f"no_{stem}")
