"""The model card that a training run writes into its prior's folder, README.md."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from mgdm_audio.priors.hub import CARD
from mgdm_audio.training.settings import Schedule, Training
from mgdm_audio.version import __version__

MARK = (
    "<!-- Written by mgdm-audio train, anew at every save. Remove this line to keep what you write "
    "here. -->"
)
NOT_STATED = "not stated"
MODES = {"prior": "without the mixture", "given": "with the mixture"}  # of objective.validate


@dataclass(frozen=True)
class About:
    """What a run knows of its prior before it trains."""

    name: str
    kind: str  # of network
    over: str  # "the stems bass and drums, 22,050 Hz mono", say
    data: Mapping[str, tuple[int, Path]]  # split: how many items of which folder
    item: str  # "song", say
    example: str  # of a batch
    command: str  # that uses the prior in FOLDER
    tag: str  # of the hub, for what it does


def card(
    folder: Path,
    about: About,
    networks: Sequence[nn.Module],
    step: int,
    schedule: Schedule,
    training: Training,
    log: Path,
) -> str | None:
    """The text of README.md in ``folder`` for a prior of ``networks`` after ``step``.

    ``log``: the run's log.jsonl, of which the last losses are taken. None where there is a
    README.md without the line ``MARK``: the user has made it their own, and it is to stay.
    """
    there = folder / CARD
    if there.is_file() and MARK not in there.read_text(errors="replace"):
        return None
    licence = " ".join(training.licence.split()) or NOT_STATED
    count = sum(p.numel() for network in networks for p in network.parameters())
    blocks = [
        _front(about, licence),
        MARK,
        f"# {about.name}",
        f"A diffusion prior over {about.over}: {about.kind}, {count / 1e6:.1f} M parameters.",
        f"Licence: {licence}",
        "## Data",
        "\n".join(_split(split, *of, about.item) for split, of in about.data.items()),
        "## Training",
        f"Step {step:,} of {schedule.steps:,}, each of {training.batch} examples a process, "
        f"{about.example}. AdamW, learning rate up to {schedule.learning_rate:g} "
        f"({schedule.kind}), weights averaged over {training.ema:g}, seed {training.seed}, "
        f"mgdm_audio {__version__}.",
        *_losses(log),
        "## Scores",
        "None yet: a training run measures the denoising alone.",
        "## Use",
        f"    {about.command}",
        "FOLDER is the folder of this file, or its `owner/name` on the Hugging Face hub.",
    ]
    return "\n\n".join(blocks) + "\n"


def _split(name: str, count: int, place: Path, item: str) -> str:
    """The last two parts of the path: the rest is of this computer."""
    items = item if count == 1 else f"{item}s"
    return f"- {name}: {count:,} {items} of `{'/'.join(place.parts[-2:])}`"


def _front(about: About, licence: str) -> str:
    """The table that the hub reads. It refuses a licence that is none of its identifiers."""
    identifier = licence.lower()
    known = re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", identifier)
    lines = ["library_name: mgdm_audio", "tags:", "- diffusion", f"- {about.tag}"]
    return "\n".join(["---", *lines, *([f"license: {identifier}"] if known else []), "---"])


def _losses(log: Path) -> list[str]:
    """The last training loss and the last validation in the log, a block of text each."""
    loss, validation = _last(log, "loss"), _last(log, "validation")
    blocks = []
    if loss is not None:
        blocks.append(f"Training loss to step {loss['step']:,}: {loss['loss']:.5g}.")
    if validation is not None:
        blocks += [
            f"Denoising error over the energy of the validation data at step "
            f"{validation['step']:,}, in dB (lower is better), by noise level sigma:",
            _table(validation["validation"]),
        ]
    return blocks


def _table(errors: Mapping[str, Any]) -> str:
    """``{"prior@0.1": {"all": dB, ...}, ...}`` in Markdown, a column for each sigma."""
    sigmas = list(dict.fromkeys(name.partition("@")[2] for name in errors))
    modes = list(dict.fromkeys(name.partition("@")[0] for name in errors))
    rows = [["sigma", *sigmas], ["---", *("---:" for _ in sigmas)]]
    for mode in modes:
        found = [errors.get(f"{mode}@{sigma}", {}).get("all") for sigma in sigmas]
        values = ["-" if value is None else f"{value:.1f}" for value in found]
        rows.append([MODES[mode] if len(modes) > 1 else "error", *values])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _last(log: Path, key: str) -> dict[str, Any] | None:
    """The last record that has ``key``; None without one. Lines that are no JSON do not count."""
    lines = log.read_text(errors="replace").splitlines() if log.is_file() else []
    for line in reversed(lines):
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and record.get(key) is not None:
            return record
    return None
