"""A training run of a prior over stems: its settings, and what joins data, network and loop."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
from torch import Tensor

from mgdm_audio.config import ConfigError, from_mapping
from mgdm_audio.diffusion.schedule import NoiseSchedule
from mgdm_audio.errors import UserError
from mgdm_audio.networks.tf_unet import TFUNet, TFUNetConfig
from mgdm_audio.priors.folder import load_prior, read_config, save_prior
from mgdm_audio.ranges import Checked, at_least, filled, within
from mgdm_audio.rng import generator_for
from mgdm_audio.training.augmentation import Augmentation, Leakage
from mgdm_audio.training.card import About, card
from mgdm_audio.training.log import LOG
from mgdm_audio.training.loop import Batches, Progress
from mgdm_audio.training.loop import train as run
from mgdm_audio.training.resident import ResidentStems, opened_songs
from mgdm_audio.training.settings import NoiseLevels, OneCall, Schedule, Training
from mgdm_audio.training.state import STATE, differences, read_settings
from mgdm_audio.training.stems import StemFolder
from mgdm_audio.training.usable import held_out, require_usable

FIXED = ("model.", "data.stems", "data.sample_rate")  # settings that a run keeps
FREE = ("model.bin_weight", "model.pivot")  # of these, what a start may differ in: no shape changes

_LEAST = "stems, sample_rate, segment and validation_segments: at least 1"
_Count = Annotated[int, within("[1, inf)", _LEAST)]


@dataclass(frozen=True)
class DataConfig(Checked):
    """Section [data]: folders of ``<track>/<stem>.wav``, or the folder or manifest of prepared
    data, of which the splits are taken; and how segments are cut from them."""

    train: str  # songs to train on
    validation: str = ""  # songs to validate on; empty: none
    train_split: str = "train"  # of prepared data
    validation_split: str = "validation"  # of prepared data
    # Their names, in the order of the network's sources.
    stems: Annotated[tuple[str, ...], filled(_LEAST)] = ("bass", "drums", "guitar", "piano")
    sample_rate: _Count = 22050  # Hz
    segment: _Count = 2**16  # samples
    validation_segments: _Count = 24  # of all validation songs together
    augment: dict[str, Any] = field(default_factory=dict)  # a section of its own
    resident: bool = False  # all songs in the device's memory: for accelerators
    # Steps between looks for new songs, 0: none; for resident songs.
    refresh: Annotated[int, at_least(0)] = 0


@dataclass(frozen=True)
class TrainConfig:
    """A training run's TOML file, section by section."""

    data: DataConfig
    model: dict[str, Any] = field(default_factory=dict)
    noise: dict[str, Any] = field(default_factory=dict)
    leakage: dict[str, Any] = field(default_factory=dict)
    one_call: dict[str, Any] = field(default_factory=dict)
    schedule: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    prior_schedule: dict[str, Any] = field(default_factory=lambda: {"kind": "karras"})


@dataclass(frozen=True)
class StemRun:
    """The settings of a run, each section checked."""

    data: DataConfig
    shape: TFUNetConfig
    augment: Augmentation
    noise: NoiseLevels
    leakage: Leakage
    one_call: OneCall
    schedule: Schedule
    training: Training
    levels: NoiseSchedule

    @classmethod
    def read(cls, table: Mapping[str, Any], where: str) -> StemRun:
        """From a TOML file's content; ``where`` names it. Raises ConfigError and UserError."""
        parsed = from_mapping(TrainConfig, table, where)
        data = parsed.data
        shape = from_mapping(TFUNetConfig, parsed.model, f"{where}: model")
        shape = replace(shape, sources=len(data.stems))
        noise = from_mapping(NoiseLevels, parsed.noise, f"{where}: noise")
        leakage = from_mapping(Leakage, parsed.leakage, f"{where}: leakage")
        one_call = from_mapping(OneCall, parsed.one_call, f"{where}: one_call")
        one_call.augmentation(f"{where}: one_call.augment")
        try:
            levels = NoiseSchedule.from_config(parsed.prior_schedule)
        except ValueError as error:
            raise ConfigError(f"{where}: prior_schedule: {error}") from None
        for name, segment in (("data", data.segment), ("one_call", one_call.segment)):
            if segment % shape.bins and (name == "data" or one_call.train):
                raise UserError(
                    f"{where}: {name}.segment = {segment}: give a multiple of {shape.bins}"
                )
        mixture = "the mixture of one stem is that stem"
        for name, value, why in (
            ("noise.given", noise.given, f"{mixture}; give --set noise.given=0"),
            ("leakage.share", leakage.share, "one stem has no other to leak into; give 0"),
            ("one_call.train", one_call.train, f"{mixture}; leave it out"),
        ):
            if len(data.stems) == 1 and value:
                raise UserError(f"{where}: {name} = {value}: {why}")
        return cls(
            data,
            shape,
            from_mapping(Augmentation, data.augment, f"{where}: data.augment"),
            noise,
            leakage,
            one_call,
            from_mapping(Schedule, parsed.schedule, f"{where}: schedule"),
            from_mapping(Training, parsed.training, f"{where}: training"),
            levels,
        )

    @property
    def settings(self) -> dict[str, Any]:
        """What the state of the run keeps."""
        return {
            "model": asdict(self.shape),
            "data": asdict(self.data) | {"augment": asdict(self.augment)},
            "noise": asdict(self.noise),
            "leakage": asdict(self.leakage),
            "one_call": asdict(self.one_call)
            | {"augment": asdict(self.one_call.augmentation("one_call.augment"))},
            "training": asdict(self.training),
        }


def other_settings(
    whose: str,
    old: Mapping[str, Any],
    new: Mapping[str, Any],
    otherwise: str,
    free: Collection[str] = (),
) -> str:
    """What of the settings differs from those of ``whose`` weights, in words; "" if nothing does.

    Raises UserError where these weights cannot go on so; ``otherwise`` says what can be done.
    ``free``: settings in which they may, of those that a run keeps.
    """
    found = differences(old, new)
    for key, change in found.items():
        if key.startswith(FIXED) and key not in free:
            raise UserError(
                f"{whose}: was trained with another {key} ({change}); "
                f"set it as it was, or {otherwise}"
            )
    return ", ".join(f"{key} {change}" for key, change in found.items())


class _Data:
    """Batches of the training songs, and the segments of the validation songs."""

    def __init__(self, config: StemRun, begins: bool) -> None:
        """``notes``: what one should know of the songs, more where the run ``begins``."""
        self.data, self.augment, self.drawn = config.data, config.augment, 0
        data, augment, own = config.data, config.augment, config.one_call
        remix = augment.remix if begins else 0
        self.notes = require_usable(self._opened(), remix, augment.active)
        self.songs = opened_songs(self._opened, data.resident)
        self.held_out: Tensor | None = None
        self.validation: StemFolder | None = None
        if data.validation:
            split = data.validation_split
            self.validation = StemFolder(data.validation, data.stems, data.sample_rate, split)
            count = data.validation_segments
            self.held_out, notes = held_out(self.validation, count, data.segment)
            self.notes += notes
        self.one_call: tuple[OneCall, Batches] | None = None
        self.further: StemFolder | ResidentStems | None = None
        if own.train:
            how = own.augmentation("one_call.augment")
            remix = how.remix if begins else 0
            self.notes += require_usable(self._further(own), remix, how.active, "one_call")
            self.further = songs = opened_songs(partial(self._further, own), data.resident)
            self.one_call = (own, lambda n, gen: songs.batch(n, own.segment, how, gen))

    def _further(self, own: OneCall, skip: Collection[str] = ()) -> StemFolder:
        data = self.data
        return StemFolder(own.train, data.stems, data.sample_rate, own.train_split, skip)

    def _opened(self, skip: Collection[str] = ()) -> StemFolder:
        data = self.data
        return StemFolder(data.train, data.stems, data.sample_rate, data.train_split, skip)

    def __call__(self, size: int, generator: torch.Generator) -> Tensor:
        """``[size, stems, segment]``"""
        self.drawn += 1
        refresh = self.data.refresh
        if isinstance(self.songs, ResidentStems) and refresh and self.drawn % refresh == 0:
            self.songs.refresh()
        return self.songs.batch(size, self.data.segment, self.augment, generator)


def _network(
    config: StemRun, init: str | Path | None, level: float | None, batches: _Data
) -> tuple[TFUNet, float]:
    """The network to begin with, and the level of the mixtures that it is to know."""
    with torch.random.fork_rng():  # initial weights come from torch's global state, left as it was
        torch.manual_seed(config.training.seed)
        network = TFUNet(config.shape)
    if init is not None:
        start = load_prior(init)
        if not isinstance(start.network, TFUNet):
            kind = start.config["model_type"]
            raise UserError(f"--init {init}: its network is a {kind}; train starts from a tf_unet")
        theirs = {
            "model": asdict(read_config(init).shape),
            "data": {"stems": start.stems, "sample_rate": start.sample_rate},
        }
        otherwise = "start from another prior"
        other_settings(f"--init {init}", theirs, config.settings, otherwise, FREE)
        network.load_state_dict(start.network.state_dict())
        level = level or start.mixture_rms
    if level is None:
        seed = config.training.seed
        parts = [batches(8, generator_for(seed, "statistics", i)).cpu() for i in range(40)]
        sample = torch.cat(parts)
        network.measure(sample)
        rms = float(sample.sum(1).square().mean().sqrt())
        level = round(rms, 5)
        if not level > 0:
            raise UserError(
                f"{batches.data.train}: the mixtures have an rms of {rms:.1e}, as good as silence; "
                "give louder songs"
            )
    return network, level


def _about(name: str, batches: _Data) -> About:
    data = batches.data
    splits = {"training": (len(batches.songs), Path(data.train))}
    example = f"{data.segment:,} samples ({data.segment / data.sample_rate:.1f} s) each"
    if batches.validation is not None:
        splits["validation"] = (len(batches.validation), Path(data.validation))
    if batches.further is not None and batches.one_call is not None:
        own = batches.one_call[0]
        how = "with the mixture at the largest noise level"
        splits[how] = (len(batches.further), Path(own.train))
        example += f", and {own.batch} of {own.segment:,} samples {how}"
    return About(
        name=name,
        kind="`tf_unet`",
        over=f"the stems {', '.join(data.stems)}, {data.sample_rate:,} Hz mono",
        data=splits,
        item="song",
        example=example,
        command="mgdm-audio separate song.mp3 -o stems --prior FOLDER",
        tag="music-source-separation",
    )


def run_stems(
    table: Mapping[str, Any],
    output: Path,
    where: str,
    init: str | Path | None,
    on_progress: Progress | None,
    on_note: Callable[[str], None],
) -> Path:
    """See ``run.train``."""
    config = StemRun.read(table, where)
    data, leakage = config.data, config.leakage
    before = read_settings(output / STATE)
    level = before.pop("mixture_rms", None)
    state = str(output / STATE)
    changed = other_settings(state, before, config.settings, "train in another folder")
    batches = _Data(config, begins=not before)
    network, level = _network(config, init, level, batches)
    details = {
        "schedule": config.levels.to_config(),
        "stems": list(data.stems),
        "sample_rate": data.sample_rate,
        "mixture_rms": level,
        "segment": 2**18,
    }
    prior = output / "prior"

    def export(net: torch.nn.Module, step: int) -> None:
        about, log = _about(output.resolve().name, batches), output / LOG
        text = card(prior, about, [net], step, config.schedule, config.training, log)
        save_prior(prior, net, config.shape, "tf_unet", details | {"step": step}, card=text)

    def leak(x_0: Tensor, sigma: Tensor, generator: torch.Generator) -> Tensor:
        return leakage.draw(x_0, sigma, data.sample_rate, generator)

    for note in batches.notes:
        on_note(note)
    if changed:
        on_note(f"{output}: goes on with other settings: {changed}")
    run(
        network,
        batches,
        batches.held_out,
        output,
        config.noise,
        config.schedule,
        config.training,
        export=export,
        disturb=leak if leakage.share > 0 else None,
        one_call=batches.one_call,
        progress=on_progress,
        settings=config.settings | {"mixture_rms": level},
        note=on_note,
    )
    return prior
