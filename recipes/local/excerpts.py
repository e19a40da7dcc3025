"""Cut short excerpts of stem folders, for samplers that take minutes per second of audio.

    python recipes/local/excerpts.py STEMS OUT --seconds 4 --per-track 1

writes OUT/<track>-<i>/<stem>.wav, evenly spread over each track; finished excerpts are kept.
"""

import argparse
from pathlib import Path

from script import run

from mgdm_audio.atomic import new_folder
from mgdm_audio.audio.io import read, write
from mgdm_audio.evaluation.folders import find_tracks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stems", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--per-track", type=int, default=1)
    parser.add_argument("--tracks", type=int, help="Only the first so many.")
    arguments = parser.parse_args()
    for track, files in list(find_tracks(arguments.stems).items())[: arguments.tracks]:
        stems = {stem: read(path, damaged="refuse") for stem, path in files.items()}
        for i in range(arguments.per_track):
            final = arguments.out / f"{track}-{i}"
            if final.exists():
                continue
            with new_folder(final) as partial:
                for stem, audio in stems.items():
                    length = round(arguments.seconds * audio.sample_rate)
                    spare = audio.samples.shape[-1] - length
                    start = max(0, round((i + 0.5) / arguments.per_track * spare))
                    cut = audio.samples[:, start : start + length]
                    write(partial / f"{stem}.wav", cut, audio.sample_rate, "PCM_16")


if __name__ == "__main__":
    run(main)
