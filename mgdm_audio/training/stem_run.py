"""A training run of a prior over stems: its settings, and what joins data, network and loop."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, field, replace
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
from mgdm_audio.training.loop import Progress
from mgdm_audio.training.loop import train as run
from mgdm_audio.training.resident import ResidentStems
from mgdm_audio.training.settings import NoiseLevels, Schedule, Training
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
        try:
            levels = NoiseSchedule.from_config(parsed.prior_schedule)
        except ValueError as error:
            raise ConfigError(f"{where}: prior_schedule: {error}") from None
        if data.segment % shape.bins:
            raise UserError(
                f"{where}: data.segment = {data.segment}: give a multiple of {shape.bins}"
            )
        if len(data.stems) == 1 and noise.given > 0:
            raise UserError(
                f"{where}: noise.given = {noise.given:g}: the mixture of one stem is that stem; "
                "give --set noise.given=0"
            )
        if len(data.stems) == 1 and leakage.share > 0:
            raise UserError(
                f"{where}: leakage.share = {leakage.share:g}: one stem has no other to leak into; "
                "give --set leakage.share=0"
            )
        return cls(
            data,
            shape,
            from_mapping(Augmentation, data.augment, f"{where}: data.augment"),
            noise,
            leakage,
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

    def __init__(self, data: DataConfig, augment: Augmentation, begins: bool) -> None:
        """``notes``: what one should know of the songs, more where the run ``begins``."""
        self.data, self.augment, self.drawn = data, augment, 0
        remix = augment.remix if begins else 0
        self.notes = require_usable(self._opened(), remix, augment.active)
        rank = os.environ.get("LOCAL_RANK", "0")  # torchrun's: each process has its own device
        device = f"cuda:{rank}" if torch.cuda.is_available() else "cpu"
        self.songs = ResidentStems(self._opened, device) if data.resident else self._opened()
        self.held_out: Tensor | None = None
        self.validation: StemFolder | None = None
        if data.validation:
            split = data.validation_split
            self.validation = StemFolder(data.validation, data.stems, data.sample_rate, split)
            count = data.validation_segments
            self.held_out, notes = held_out(self.validation, count, data.segment)
            self.notes += notes

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
    data, songs = batches.data, batches.songs
    count = len(songs.tracks if isinstance(songs, StemFolder) else songs.names)
    splits = {"training": (count, Path(data.train))}
    if batches.validation is not None:
        splits["validation"] = (len(batches.validation.tracks), Path(data.validation))
    return About(
        name=name,
        kind="`tf_unet`",
        over=f"the stems {', '.join(data.stems)}, {data.sample_rate:,} Hz mono",
        data=splits,
        item="song",
        example=f"{data.segment:,} samples ({data.segment / data.sample_rate:.1f} s) each",
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
    batches = _Data(data, config.augment, begins=not before)
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
        progress=on_progress,
        settings=config.settings | {"mixture_rms": level},
        note=on_note,
    )
    return prior
