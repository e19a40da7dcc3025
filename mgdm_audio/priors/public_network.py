"""Converts a network of audio-diffusion-pytorch 0.0.43 in a checkpoint to a UNet1d.

The shape follows from the tensors. Other settings come from the hyper-parameters saved in the
checkpoint or, where those are missing, have the values that MSDM (arXiv 2302.02257) published and
are listed in ``assumed``.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mgdm_audio.errors import UserError
from mgdm_audio.networks.unet_1d import UNet1d, UNet1dConfig, convert_public_weights
from mgdm_audio.priors.lightning import read_lightning

PUBLISHED = {"resnet_groups": 8, "attention_heads": 8, "diffusion_sigma_data": 0.2}
# These do not follow from the tensors either, and UNet1d supports one value of each.
REQUIRED = {"use_skip_scale": True, "diffusion_dynamic_threshold": 0.0}

# The public module registers its network twice: as unet and as diffusion.net.
PLACE = re.compile(r"^(?P<owner>(?:.*?\.)?)(?P<copy>unet|diffusion\.net)\.(?P<name>.+)$")
AVERAGE = re.compile(r"(^|[._])ema[._]")  # the owner is an average of weights over training
# Entries stored with an average: two counters and another copy of the averaged network.
BESIDE_AVERAGE = re.compile(r"(^|[._])ema\.(initted$|step$|online_model\.)")


@dataclass(frozen=True)
class PublicNetwork:
    """A network that was read from a checkpoint."""

    path: Path
    config: UNet1dConfig
    tensors: dict[str, Tensor]  # by the names of UNet1d, mapped from the file
    sigma_data: float
    averaged: bool  # whether these are the averaged weights, not those of the last step
    assumed: tuple[str, ...]  # "key = value" of published values that the checkpoint lacks


def read_network(path: Path, average: bool = True) -> PublicNetwork:
    """Reads the network in the checkpoint ``path``; ``average``: prefer the averaged one (EMA).

    Raises UserError, in one line, naming the first tensor that is missing, surplus, misshapen, not
    finite or different from its second copy.
    """
    checkpoint = read_lightning(path)
    public, averaged = _choose(path, checkpoint.tensors, average)
    settings, assumed = _settings(path, checkpoint.hyper_parameters)
    tensors: dict[str, Tensor] = {}
    keys: dict[str, str] = {}  # name in UNet1d -> key in the checkpoint
    for key, value in public.items():
        ((name, converted),) = convert_public_weights({key: value}).items()
        if name in tensors:
            raise UserError(f"{path}: {key!r} and {keys[name]!r} are one tensor of UNet1d")
        tensors[name], keys[name] = converted.float(), key
    try:
        config = _shape(tensors, int(settings["resnet_groups"]), int(settings["attention_heads"]))
        with torch.device("meta"):
            expected = UNet1d(config).state_dict()
    except KeyError as error:
        raise UserError(f"{path}: lacks {error} of UNet1d; it is no checkpoint of MSDM") from None
    except (ValueError, IndexError, ArithmeticError, RuntimeError) as error:
        raise UserError(f"{path}: its tensors make no UNet1d ({error})") from None
    missing = sorted(expected.keys() - tensors.keys())
    surplus = sorted(keys[name] for name in tensors.keys() - expected.keys())
    for what, names in (("lacks", missing), ("has surplus", surplus)):
        if names:
            raise UserError(
                f"{path}: {what} {names[0]!r} ({len(names)} in all); it is no checkpoint of MSDM"
            )
    for name, value in expected.items():
        if tensors[name].shape != value.shape:
            got, want = list(tensors[name].shape), list(value.shape)
            raise UserError(f"{path}: {keys[name]!r} has the shape {got}, expected {want}")
    return PublicNetwork(
        path, config, tensors, settings["diffusion_sigma_data"], averaged, tuple(assumed)
    )


def _choose(
    path: Path, tensors: Mapping[str, Tensor], average: bool
) -> tuple[dict[str, Tensor], bool]:
    """Returns the tensors of one network by their names in it, and whether they are averages."""
    networks: dict[str, dict[str, dict[str, Tensor]]] = {}  # by owner, copy and name
    elsewhere = {}
    for key, value in tensors.items():
        if BESIDE_AVERAGE.search(key):
            continue
        if match := PLACE.match(key):
            copies = networks.setdefault(match["owner"], {})
            copies.setdefault(f"{match['owner']}{match['copy']}.", {})[match["name"]] = value
        else:
            elsewhere[key] = value
    if not networks:  # it may be a UNet1d alone
        networks, elsewhere = {"": {"": elsewhere}}, {}
    if elsewhere:
        raise UserError(f"{path}: has surplus {min(elsewhere)!r} ({len(elsewhere)} in all)")
    averaged = average and any(AVERAGE.search(owner) for owner in networks)
    owners = [owner for owner in networks if bool(AVERAGE.search(owner)) == averaged]
    if len(owners) != 1:
        kind = "averaged" if averaged else "plain"
        raise UserError(
            f"{path}: holds {len(owners)} networks of {kind} weights, expected one "
            f"(networks: {', '.join(networks)})"
        )
    copies = networks[owners[0]]
    for copy, values in copies.items():
        for name, value in values.items():
            if not value.is_floating_point() or not bool(value.isfinite().all()):
                raise UserError(f"{path}: '{copy}{name}' is not finite numbers; it is damaged")
    (first, chosen), *others = copies.items()
    for other, values in others:
        for name in sorted(chosen.keys() | values.keys()):
            if name not in chosen or name not in values:
                lacking = other if name in chosen else first
                raise UserError(f"{path}: lacks '{lacking}{name}', which its other copy has")
            if not torch.equal(chosen[name], values[name]):
                raise UserError(
                    f"{path}: '{first}{name}' differs from '{other}{name}'; they should be copies"
                )
    return chosen, averaged


def _settings(path: Path, hyper_parameters: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Returns the settings that do not follow from tensors, and those that are assumed."""
    for key, value in REQUIRED.items():
        if hyper_parameters.get(key, value) != value:
            raise UserError(
                f"{path}: trained with {key} = {hyper_parameters[key]!r}; only {value} is supported"
            )
    settings = {key: hyper_parameters.get(key, value) for key, value in PUBLISHED.items()}
    for key, value in settings.items():
        whole = isinstance(PUBLISHED[key], int)
        if type(value) not in ((int,) if whole else (int, float)) or not 0 < value < float("inf"):
            raise UserError(f"{path}: hyper-parameter {key} = {value!r} is no positive number")
    absent = [f"{key} = {PUBLISHED[key]}" for key in PUBLISHED if key not in hyper_parameters]
    return settings, absent


def _shape(tensors: Mapping[str, Tensor], groups: int, heads: int) -> UNet1dConfig:
    """Derives the shape. Raises KeyError for a missing tensor, ValueError for a wrong one."""

    def under(prefix: str) -> set[str]:
        """Returns the names that follow a prefix, for example those of the stages."""
        return {name[len(prefix) :].split(".")[0] for name in tensors if name.startswith(prefix)}

    channels = len(tensors["embed.layers.2.weight"]) // 4
    stages = range(len(under("down.")))
    # [leaving, entering, 2 factor + 1]
    resample = [tensors[f"down.{i}.resample.weight"].shape for i in stages]
    widths = [resample[0][1], *(shape[0] for shape in resample)]
    attentions = tuple("transformer" in under(f"down.{i}.") for i in stages)
    inner = len(tensors["bottleneck.attention.to_q.weight"])
    if inner % heads:
        raise ValueError(f"{heads} heads do not divide the {inner} features of its attention")
    feed_forward = UNet1dConfig.feed_forward
    for i in stages:
        if attentions[i]:
            shape = tensors[f"down.{i}.transformer.feed_forward.1.weight"].shape
            feed_forward = shape[0] // shape[1]
    return UNet1dConfig(
        sources=len(tensors["enter.norm_1.weight"]),
        channels=channels,
        patch=channels // len(tensors["enter.conv_1.weight"]),
        multipliers=tuple(width // channels for width in widths),
        factors=tuple(shape[2] // 2 for shape in resample),
        blocks=tuple(len(under(f"down.{i}.blocks.")) for i in stages),
        attentions=attentions,
        groups=groups,
        heads=heads,
        head_features=inner // heads,
        feed_forward=feed_forward,
    )
