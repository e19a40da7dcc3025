"""Scoring folders of separated tracks against folders of true stems."""

import re
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from mgdm_audio.audio.io import Audio, read
from mgdm_audio.audio.metrics import si_sdr_improvement, why_none
from mgdm_audio.audio.stems import find_stems
from mgdm_audio.audio.summary import summarise
from mgdm_audio.errors import UserError

Tracks = dict[str, dict[str, Path]]  # track -> stem -> file


def find_tracks(folder: Path) -> Tracks:
    """``folder/<track>/<stem>.wav|flac``, sorted; hidden files and mixtures are left out.

    Raises UserError where there is no such track, and for a stem that is there as wav and flac.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: is {'no folder' if folder.exists() else 'missing'}; check it")
    found: Tracks = {}
    for track in sorted(p for p in folder.iterdir() if p.is_dir() and p.name[0] != "."):
        if stems := find_stems(track):
            found[track.name] = stems
    if not found:
        raise UserError(f"{folder}: holds no <track>/<stem>.wav or .flac; check its layout")
    return found


def track_number(track: str) -> int:
    """The last nine digits of the name, 0 where it has none: the protocol's seed of the track."""
    return int(re.sub(r"\D", "", track)[-9:] or 0)


def score_folders(
    reference: Path,
    estimate: Path,
    on_track: Callable[[str, dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """SI-SDR improvement of every stem of every track under ``reference``, as plain JSON values.

    Both hold ``<track>/<stem>.wav|flac``; what only ``estimate`` has is ignored. The mixture is the
    sum of the reference stems. Result: ``{"tracks": {track: {"si_sdri": {stem: dB, "all": dB},
    "windows": kept}}, "summary": {...}}``; a track without a scorable window has
    ``"skipped": why`` in place of scores. Stereo stems are scored as one vector of both channels.
    Raises UserError for what is missing or differs in length, rate or channels, before any
    scoring where it can.
    """
    truth, found = find_tracks(reference), find_tracks(estimate)
    for track, files in truth.items():
        if track not in found:
            raise UserError(f"{estimate / track}: missing, {reference} has it; separate it first")
        for stem in files:
            if stem not in found[track]:
                raise UserError(f"{estimate / track / stem}.wav: missing, nor is there a .flac")
        if len(files) < 2:
            raise UserError(f"{reference / track}: holds one stem; separation needs two or more")
    tracks: dict[str, dict[str, Any]] = {}
    for track, files in truth.items():
        tracks[track] = _score_track(files, {stem: found[track][stem] for stem in files})
        if on_track:
            on_track(track, tracks[track])
    scored = [t["si_sdri"] for t in tracks.values() if "si_sdri" in t]
    if not scored:
        name, first = next(iter(tracks.items()))
        raise UserError(f"{reference}: no track can be scored; {name}: {first['skipped']}")
    return {"tracks": tracks, "summary": summarise(scored)}


def _score_track(truth: dict[str, Path], found: dict[str, Path]) -> dict[str, Any]:
    first: tuple[Path, Audio] | None = None
    loaded: dict[Path, Tensor] = {}
    for path in [*truth.values(), *found.values()]:
        audio = read(path)
        first = first or (path, audio)
        for what, one, other in (
            ("samples", audio.samples.shape[1], first[1].samples.shape[1]),
            ("Hz", audio.sample_rate, first[1].sample_rate),
            ("channels", audio.samples.shape[0], first[1].samples.shape[0]),
        ):
            if one != other:
                raise UserError(f"{path}: {one} {what}, {first[0]} has {other}; make them equal")
        loaded[path] = audio.samples
    assert first is not None
    time, rate = first[1].samples.shape[1], first[1].sample_rate
    gains = si_sdr_improvement(
        torch.stack([loaded[p] for p in found.values()]),
        torch.stack([loaded[p] for p in truth.values()]),
        rate,
    )
    if not len(gains):
        return {"windows": 0, "skipped": why_none(time, rate)}
    means = dict(zip(truth, gains.mean(0).tolist(), strict=True))
    return {"si_sdri": means | {"all": fmean(means.values())}, "windows": len(gains)}
