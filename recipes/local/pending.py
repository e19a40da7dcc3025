"""The mixtures that a sampler has still to separate, as arguments for xargs.

    python pending.py MIXTURES ESTIMATES --prior PRIOR --sampler SAMPLER

prints, each ended by a NUL character, the seed and the file of every mixture whose estimate is
missing, older than the mixture, or made with another prior or other settings. The seed is the
number in the track's name: 2098 for Track02098.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from script import run

from mgdm_audio.audio.scoring import track_number
from mgdm_audio.checkpoint import load_prior
from mgdm_audio.samplers.presets import load_preset


def is_done(estimate: Path, mixture: Path, settings: dict[str, Any]) -> bool:
    """Whether ``estimate/separation.json`` is no older than the mixture and has these settings."""
    record = estimate / "separation.json"
    if not record.is_file() or record.stat().st_mtime < mixture.stat().st_mtime:
        return False
    try:
        found = json.loads(record.read_text(encoding="utf-8"))
    except ValueError:
        return False
    return all(found.get(key) == value for key, value in settings.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("mixtures", type=Path)
    parser.add_argument("estimates", type=Path)
    parser.add_argument("--prior", required=True)
    parser.add_argument("--sampler", required=True)
    options = parser.parse_args()
    preset = load_preset(options.sampler)
    settings = {
        "prior_sha256": load_prior(options.prior).sha256,
        "options": json.loads(json.dumps(preset.options)),  # tuples become lists, as in the record
        "noise_std": preset.noise_std,
        "draws": preset.draws,
    }
    for mixture in sorted(options.mixtures.glob("*.wav")):
        seed = track_number(mixture.stem)
        if not is_done(options.estimates / mixture.stem, mixture, settings | {"seed": seed}):
            print(seed, mixture, sep="\0", end="\0")


if __name__ == "__main__":
    run(main)
