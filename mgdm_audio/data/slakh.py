"""Tracks of Slakh2100 (Manilow et al. 2019) and of MSDM's stems made from it: what sums to what.

Published forms: Slakh2100, slakh2100_flac_redux (with a split ``omitted``) and babyslakh_16k (no
splits) hold ``<track>/{metadata.yaml,stems/SNN.flac|wav}``; the data of MSDM (arXiv 2302.02257)
are ``<track>/{bass,drums,guitar,piano}.wav``.

The files on the disk decide what a track holds, the metadata which stem each belongs to. Their flag
``audio_rendered`` is false for every stem of BabySlakh, so that it can only explain why a file is
not there; ``audio_dir`` is "stems", in the redux "TrackNNNNN/stems", in one track a folder of
another computer, and the audio is always in ``stems``.
"""

import re
from pathlib import Path
from reprlib import repr
from typing import Any

from mgdm_audio.data import mapping
from mgdm_audio.data.listing import load_yaml
from mgdm_audio.data.plan import Decision, Plan, Source, find_audio, lost
from mgdm_audio.errors import UserError

SPLITS = ("train", "validation", "test")
OMITTED = "omitted"  # split of slakh2100_flac_redux: songs that are in another split already
STEMS = ("bass", "drums", "guitar", "piano")
PROGRAMS = {"bass": range(32, 40), "guitar": range(24, 32), "piano": range(8)}  # General MIDI
METADATA, FOLDER, LOUDNESS = "metadata.yaml", "stems", "integrated_loudness"
AUDIO_DIR = re.compile(rf"(Track\d{{5}}/)?{FOLDER}")  # as published, of the audio in FOLDER
SUMMED = mapping.Mapping({stem: [stem] for stem in STEMS})  # MSDM's form


def plan(track: Path) -> Plan:
    """The sources of bass, drums, guitar and piano in the folder ``track``.

    A file that the metadata do not list is left out, since nothing says which instrument it holds.
    Raises UserError for a damaged ``metadata.yaml``, and for a track without a file of any of the
    four.
    """
    if not (track / METADATA).is_file():
        if (track / FOLDER).is_dir():
            raise UserError(f"{track / METADATA}: is missing; fetch it again")
        return mapping.plan(SUMMED, track)
    metadata = _load(track / METADATA)
    found, decisions = find_audio(track, FOLDER)
    directory = metadata.get("audio_dir", FOLDER)
    if not (isinstance(directory, str) and AUDIO_DIR.fullmatch(directory)):
        why = f"audio_dir is {repr(directory)}, the audio is in {FOLDER}"
        decisions.append(Decision(METADATA, "ignored", why))
    there = bool(found)
    stems: dict[str, list[Source]] = {stem: [] for stem in STEMS}
    for name, entry in metadata["stems"].items():
        path = found.pop(f"{FOLDER}/{name}", None)
        of = path or f"{FOLDER}/{name}"
        rendered = _flag(entry, "audio_rendered", True, f"{track / METADATA}: {name}")
        # Of a stem that was never rendered no loudness was measured. In BabySlakh, where every flag
        # is false, this tells it from a stem whose file was lost.
        if path is None and not rendered and LOUDNESS not in entry:
            decisions.append(Decision(of, "unrendered", "audio_rendered is false"))
            continue
        stem, program = _stem(entry, f"{track / METADATA}: {name}")
        if stem is None:
            decisions.append(Decision(of, "ignored", f"program {program} is of no stem"))
        elif path is None:
            decisions.append(Decision(of, "missing", f"program {program}, {stem}"))
        else:
            stems[stem].append(Source(path, program))
    decisions += [Decision(path, "ignored", f"not in {METADATA}") for path in found.values()]
    if not any(stems.values()):
        raise UserError(
            f"{track}: holds no rendered file of {', '.join(STEMS)}"
            + ("" if there else lost(FOLDER, len(metadata["stems"]), METADATA))
        )
    return Plan({k: tuple(sorted(v)) for k, v in stems.items()}, tuple(sorted(decisions)))


def _stem(entry: dict[str, Any], where: str) -> tuple[str | None, int]:
    """(stem, program); a drum kit is one whatever its program."""
    program = entry.get("program_num")
    if type(program) is not int:
        raise UserError(
            f"{where}: program_num is {repr(program)}, not a whole number; fetch it again"
        )
    if _flag(entry, "is_drum", False, where):
        return "drums", program
    return next((stem for stem, own in PROGRAMS.items() if program in own), None), program


def _flag(entry: dict[str, Any], key: str, default: bool, where: str) -> bool:
    value = entry.get(key, default)
    if not isinstance(value, bool):
        raise UserError(f"{where}: {key} is {repr(value)}, neither true nor false; fetch it again")
    return value


def _load(path: Path) -> dict[str, Any]:
    """The metadata, of which "stems" is a table of tables whose keys are file names."""
    metadata = load_yaml(path, f"Slakh's {METADATA}")
    stems = metadata.get("stems")
    if not isinstance(stems, dict) or not stems:
        raise UserError(f"{path}: has no table of stems; fetch it again")
    for name, entry in stems.items():
        if not isinstance(name, str) or Path(name).name != name or not isinstance(entry, dict):
            raise UserError(f"{path}: {name!r} is no entry of a stem; fetch it again")
    return metadata
