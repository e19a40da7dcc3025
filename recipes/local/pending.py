"""Which mixtures a sampler has still to separate.

    python pending.py MIXTURES ESTIMATES --prior PRIOR --sampler SAMPLER [--level none] \\
        [--format flac]

is silent where all are separated, and otherwise an error that names them.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from script import run

from mgdm_audio.digest import hash_file, hash_json
from mgdm_audio.errors import UserError
from mgdm_audio.evaluation.folders import track_number
from mgdm_audio.output.stem_files import listed, read_record
from mgdm_audio.priors.folder import WEIGHTS, read_config
from mgdm_audio.samplers.presets import load_preset
from mgdm_audio.separation.speeds import speeds_of

FORMATS = ("wav", "flac", "mp3", "m4a", "ogg")  # with a file for each stem, to be scored
NAMED = 8  # tracks in the error, so that it stays a line


def is_done(estimate: Path, mixture: Path, settings: dict[str, Any]) -> bool:
    """Whether ``estimate/separation.json`` is no older than the mixture and has these settings.

    And whether all files that it lists are there.
    """
    record = estimate / "separation.json"
    if not record.is_file() or record.stat().st_mtime < mixture.stat().st_mtime:
        return False
    found = {"format": "wav"} | read_record(record)  # older ones do not say
    alike = all(found.get(key) == value for key, value in settings.items())
    return alike and all(file.is_file() for file in listed(record))


def find_pending(
    mixtures: Path, estimates: Path, prior: str, sampler: str, level: str, format: str = "wav"
) -> dict[str, Path]:
    """Track -> its mixture, sorted, where the estimate is missing, older than the mixture, or made
    with another prior, seed or other settings. Raises UserError where there is no mixture."""
    files = {path.stem: path for path in sorted(mixtures.glob("[!.]*.wav"))}
    if not files:
        raise UserError(f"{mixtures}: holds no mixture; run the stages 0 to 2 first")
    preset, found = load_preset(sampler), read_config(prior)
    settings = {
        "prior_sha256": hash_file(found.path / WEIGHTS),
        "prior_config_sha256": hash_json(found.config),
        **json.loads(json.dumps(preset.settings)),  # tuples become lists, as in the record
        "speeds": list(speeds_of(preset)),
        "draws": preset.draws,
        "level": level,
        "format": format,
    }
    return {
        track: mixture
        for track, mixture in files.items()
        if not is_done(estimates / track, mixture, settings | {"seed": track_number(track)})
    }


def parser() -> argparse.ArgumentParser:
    """With the options that say what is separated, by what and into which folder."""
    parser = argparse.ArgumentParser()
    parser.add_argument("mixtures", type=Path)
    parser.add_argument("estimates", type=Path)
    parser.add_argument("--prior", required=True)
    parser.add_argument("--sampler", required=True)
    parser.add_argument("--format", default="wav", choices=FORMATS, help="of the estimates")
    parser.add_argument("--level", default="rms", help="rms, or none: as the mixtures are")
    return parser


def main() -> None:
    options = parser().parse_args()
    found = list(find_pending(**vars(options)))
    if found:
        more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
        raise UserError(
            f"{options.estimates}: lacks {', '.join(found[:NAMED])}{more}; separate them first"
        )


if __name__ == "__main__":
    run(main)
