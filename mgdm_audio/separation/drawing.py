"""Draws posterior samples of a track segment by segment and joins the segments.

Neighbouring segments overlap. With ``crossfade`` their draws are independent and are blended over
the overlap. This is exact where the draws agree; elsewhere a blend of two draws is not a draw of
the posterior, and its variance may be half as large. With ``condition`` (overlap conditioning)
every second segment is drawn first, and the others are drawn given their neighbours: the outer half
of each overlap enters the likelihood as known samples,

    y = (A x + sigma_y eps, M x + sigma_y eps'),    Stacked([MixtureSum, Mask]),

draw by draw, so that every draw is one draw of the whole track. There are two passes instead of one
from left to right, so that errors do not propagate and the segments of a pass can share a batch.

With ``crossfade`` the draws cycle through several speeds of the track, see ``speeds``, and of two
channels the draws at other speeds than the track's own may be of their mean alone, see ``stereo``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import torch
import torch.nn.functional as F
from torch import Tensor

from mgdm_audio.engine.runner import UNITS, Progress, Workers
from mgdm_audio.errors import PairingError, UserError
from mgdm_audio.measurement import GaussianLikelihood, Mask, MixtureSum, Stacked
from mgdm_audio.rng import generator_for
from mgdm_audio.samplers import Step
from mgdm_audio.separation.runner import StemRunner
from mgdm_audio.separation.segments import Drawn, Item, Join, Overlaps, SegmentDraws, stitched
from mgdm_audio.separation.speeds import at_own_speed, play, play_back, ratio
from mgdm_audio.separation.stereo import MID, has_channel, to_draw, with_mid
from mgdm_audio.separation.uncertainty import SpreadMap

SILENCE = 1e-4  # times the prior's level: stems of a quieter segment are equal, without a call


@dataclass
class Drawing:
    """Draws one track: iterate over ``pieces``, then read ``spread`` if there is one."""

    runner: StemRunner
    cut_at: Callable[[int], Tensor]  # [batch, 1, segment] of the mixture at the prior's level
    count: int  # the number of segments
    time: int  # samples of the track
    overlap: int  # of neighbouring segments, samples
    batch: int  # channels
    spread: SpreadMap | None  # of [batch, sources]; None: the uncertainty is not measured
    join: Join
    speeds: tuple[float, ...]  # semitones, the track's own first
    seed: int
    draws: int
    keep: bool = False  # whether to output the draws besides their mean
    image: bool = False  # of two channels: see ``stereo``; then draws are means and none is kept
    on_progress: Progress | None = None
    start_at: Callable[[int], Tensor] | None = None
    """Returns the start of a segment's draws, [batch, sources, segment]; None: noise."""
    done: int = field(default=0, init=False)  # the number of finished segments

    def __post_init__(self) -> None:
        self.overlaps = Overlaps(self.count, self.overlap, self.join)

    def pieces(self) -> Iterator[Tensor]:
        """Yields [1 + kept draws, batch, sources, any] in consecutive pieces of the track."""
        if self.join == "crossfade":
            count = self.runner.workers if self.image else 1
            with Workers(count) as workers:
                segments = workers.map(self._rows, self._in_turn())
                yield from stitched(segments, self.time, self.overlap)
            return
        end = 0
        for index, drawn in enumerate(self._between()):
            first, last = self.overlaps.bounds(index, drawn.rows.shape[-1])
            piece = drawn.rows[..., first:last][..., : self.time - end]
            end += piece.shape[-1]
            yield piece

    def _rows(self, segment: SegmentDraws) -> Tensor:
        return segment.placed(self.runner.loaded.sample_rate) if self.image else segment.rows

    def _in_turn(self) -> Iterator[SegmentDraws]:
        """Yields every segment, drawn independently."""
        index = 0
        while index < self.count:
            group = range(index, min(index + self._together(), self.count))
            yield from self._draw(group, {})
            index = group.stop

    def _between(self) -> Iterator[SegmentDraws]:
        """Yields all segments in order, even ones drawn independently, odd ones given them."""
        evens: dict[int, SegmentDraws] = {}
        index = 0
        while index < self.count:
            group = range(index, min(index + 2 * self._together(), self.count), 2)
            evens |= zip(group, self._draw(group, {}), strict=True)
            last = group[-1] + 2 > self.count - 1  # then an odd segment may follow the last even
            odd = range(max(1, index - 1), min(group[-1] + (2 if last else 0), self.count), 2)
            filled = dict(zip(odd, self._draw(odd, evens), strict=True))
            merged = {**{i: evens[i] for i in group}, **filled}
            for i in sorted(merged):
                yield merged[i]
            evens = {group[-1]: evens[group[-1]]}
            index = group[-1] + 2

    def _together(self) -> int:
        """Returns how many segments to draw together, to fill a batch or all workers."""
        own = -(-self.draws // len(self.speeds))  # draws at the track's own speed
        calls = own * MID + self.draws - own if self.image else self.draws * self.batch
        full = max(1, self.runner.batch_size // (own * self.batch))
        workers = self.runner.workers
        return max(full, workers // math.gcd(workers, calls))

    def _draw(
        self, indices: Sequence[int], neighbours: dict[int, SegmentDraws]
    ) -> list[SegmentDraws]:
        """Draws the segments ``indices``, conditioned on ``neighbours`` where there are any.

        The mean is a running one, so that memory does not grow with the number of draws. If the
        network has frames, each draw shifts the segment by another offset, so that artefacts of
        frame edges average out (cycle spinning, Coifman & Donoho 1995)."""
        sources, y, found = len(self.runner.stems), {}, {}
        items: list[Item] = []
        for index in indices:
            part = self.cut_at(index)
            y[index] = part = with_mid(part) if self.image else part
            loud = part.square().mean((1, 2)).sqrt() > SILENCE * self.runner.loaded.mixture_rms
            loud = to_draw(part, bool(loud.any())) if self.image else loud
            found[index] = SegmentDraws.of(
                part, sources, self.draws, self.keep, self.overlaps, loud
            )
            items += [
                Item(index, channel, draw)
                for draw in range(self.draws)
                for channel in found[index].loud
                if not self.image or has_channel(channel, draw % len(self.speeds) == 0)
            ]
        items.sort(key=self._turn)  # a batch has one speed, hence one length; own speed first
        begun = self.done

        def share(done: float) -> None:
            self._progress(begun + done * len(indices))

        def draw(chunk: Sequence[Item], on_step: Callable[[Step], None]) -> list[Drawn]:
            return self._sample(chunk, y, neighbours, on_step)

        drawn_items = self.runner.run(
            items, draw, alike=self._turn, on_share=share, side_by_side=True
        )
        for item, (x, deviation) in drawn_items:
            self._add(found[item.segment], x, item)
            self._add_reported(found[item.segment], item, deviation)
        self.done += len(indices)
        self._progress(self.done)
        return list(found.values())

    def _turn(self, item: Item) -> int:
        """Returns the index of an item's speed."""
        return item.draw % len(self.speeds)

    def _speed(self, item: Item) -> Fraction:
        return ratio(self.speeds[self._turn(item)])

    def _add(self, segment: SegmentDraws, x: Tensor, item: Item) -> None:
        """Adds a draw [sources, time], at the item's speed."""
        speed, channel = self._speed(item), item.channel
        if speed == 1:
            segment.own_speed[channel] = x
        else:
            x = at_own_speed(segment.own_speed[channel], x, speed)
            # The sources sum to the mixture except for rounding errors, which all share equally.
            x = x + (segment.mixture[channel] - x.sum(0)) / len(x)
        self._gather(segment, x, item)
        channels = segment.apart
        if self.image and channel == channels[-1]:  # all are drawn: a draw of their mean, too
            segment.own_speed[MID] = mid = segment.own_speed[channels].mean(0)
            self._gather(segment, mid, Item(item.segment, MID, item.draw))

    def _gather(self, segment: SegmentDraws, x: Tensor, item: Item) -> None:
        """Adds a draw at the track's own speed to the mean and to the variance over draws."""
        change, before = segment.add(item.channel, x)
        if before and (not self.image or item.channel == MID):
            share = before / (before + 1) / (self.draws - 1)
            weighted = change * self.overlaps.weight(item.segment, change)
            for channel in range(MID) if self.image else (item.channel,):
                self._spread(Item(item.segment, channel, item.draw), weighted, share)
        if self.keep:
            segment.rows[1 + item.draw, item.channel] = x
        segment.head[item.draw, item.channel] = self.overlaps.head(x)
        segment.tail[item.draw, item.channel] = self.overlaps.tail(x)

    def _add_reported(self, segment: SegmentDraws, item: Item, deviation: Tensor | None) -> None:
        """Adds the variance that the network reports of a draw, with ``image`` of a channel."""
        if deviation is None:
            return
        count = -(-self.draws // len(self.speeds)) if self.image else self.draws
        # The errors of two conditional means of one signal are strongly correlated, so that a
        # blend scales their variances by the weights and not by their squares.
        weight = self.overlaps.weight(item.segment, deviation).sqrt()
        both = self.image and len(segment.apart) == 1  # equal channels, of which one is drawn
        for channel in range(MID) if both else (item.channel,):
            self._spread(Item(item.segment, channel, item.draw), weight * deviation, 1 / count)

    def _spread(self, item: Item, deviation: Tensor, share: float) -> None:
        """Adds ``share`` times the squares of ``deviation`` [sources, time] to the variances."""
        if self.spread is None:
            return
        start = item.segment * (deviation.shape[-1] - self.overlap)
        self.spread.add(deviation[..., : self.time - start], start, item.channel, share)

    def _sample(
        self,
        items: Sequence[Item],
        y: dict[int, Tensor],
        neighbours: dict[int, SegmentDraws],
        on_step: Callable[[Step], None],
    ) -> list[Drawn]:
        """Draws each item at its speed; its deviation is at the track's own speed."""
        steps: list[Step] = []

        def step(record: Step) -> None:
            steps[:] = [record]  # the last
            on_step(record)

        sources, spread = len(self.runner.stems), self.runner.hop if self.draws > 1 else 0
        speed = self._speed(items[0])
        own = y[items[0].segment].shape[-1]  # samples, at the track's own speed
        played = {i: play(part, speed) for i, part in y.items()} if speed != 1 else y
        time = played[items[0].segment].shape[-1]
        offsets = [spread * item.draw // self.draws for item in items]
        fill = -time % self.runner.multiple  # 0 at the track's own speed
        padding = [(n, spread - n + fill) for n in offsets]
        mixture = torch.stack(
            [F.pad(played[i.segment][i.channel], p) for i, p in zip(items, padding, strict=True)]
        )
        likelihood = GaussianLikelihood(MixtureSum(sources), mixture, self.runner.preset.noise_std)
        given = likelihood
        if neighbours and self.overlaps.held:
            known = [self._known(item, neighbours, time) for item in items]
            given = self._also_known(mixture, known, padding)
        prior = self.runner.prior.with_event_shape((sources, mixture.shape[-1]))
        generators = [self._generator(item) for item in items]
        reported = self.spread is not None and not (self.image and items[0].channel == MID)
        watch = None if self.on_progress is None and not reported else step
        start = self._start(items, speed, padding)
        try:
            x = self.runner.sample(prior, given, generator=generators, on_step=watch, start=start)
        except PairingError as error:
            if given is likelihood:
                raise
            raise UserError(
                f"join condition: sampler {self.runner.preset.name} takes no known samples "
                f"({error}); use join crossfade"
            ) from None
        # A sampler fits the mixture to sigma_y at best: all sources share the residual equally.
        x = x + MixtureSum(sources).pinv(likelihood.residual(x))
        deviations = steps[0].deviation if steps and reported else None

        def played_back(deviation: Tensor) -> Tensor:
            return deviation if speed == 1 else play_back(deviation, speed, own)

        spans = [slice(n, n + time) for n in offsets]
        return [
            (x[i, :, span], None if deviations is None else played_back(deviations[i, :, span]))
            for i, span in enumerate(spans)
        ]

    def _generator(self, item: Item) -> torch.Generator:
        stream = () if self.start_at is None else ("started",)  # the start used the other stream
        keys = (*stream, "segment", item.segment, "draw", item.draw)
        return generator_for(self.seed, *keys, device=self.runner.signal_device)

    def _also_known(
        self,
        mixture: Tensor,
        known: Sequence[tuple[Tensor, Tensor]],
        padding: Sequence[tuple[int, int]],
    ) -> GaussianLikelihood:
        """Returns the likelihood of the mixture [item, 1, time] and of ``known`` samples."""
        sources = len(self.runner.stems)
        values, mask = (
            torch.stack([F.pad(x, p) for x, p in zip(parts, padding, strict=True)])
            for parts in zip(*known, strict=True)
        )
        operator = Stacked([MixtureSum(sources), Mask(mask)], [1, sources])
        observed = torch.cat([mixture, values], 1)
        return GaussianLikelihood(operator, observed, self.runner.preset.noise_std)

    def _start(
        self, items: Sequence[Item], speed: Fraction, padding: Sequence[tuple[int, int]]
    ) -> Tensor | None:
        """Returns the start of each item at its speed, [item, sources, any], or None for noise."""
        if self.start_at is None:
            return None
        parts = {i: self.start_at(i) for i in {item.segment for item in items}}
        if speed != 1:
            parts = {i: play(part, speed) for i, part in parts.items()}
        starts = [parts[item.segment][item.channel] for item in items]
        return torch.stack([F.pad(x, p) for x, p in zip(starts, padding, strict=True)])

    def _known(
        self, item: Item, neighbours: dict[int, SegmentDraws], time: int
    ) -> tuple[Tensor, Tensor]:
        """Returns the known samples of a draw's neighbours and their mask, see ``Overlaps``."""
        before, after = (neighbours.get(item.segment + side) for side in (-1, 1))
        return self.overlaps.known(
            None if before is None else before.tail[item.draw, item.channel],
            None if after is None else after.head[item.draw, item.channel],
            time,
        )

    def _progress(self, segments: float) -> None:
        if self.on_progress is not None:
            self.on_progress(int(UNITS * segments), UNITS * self.count)
