#!/usr/bin/env bash
# Kill recipes/separate.sh at random moments, resume it, and compare the result with that of a run
# that was left alone, byte by byte: stems, uncertainties and scores.
#
#     bash tests/recipes/kill_and_resume.sh [--kills 20] [--seed 1]
#
# Every kill ends the recipe and all its processes by SIGKILL. Needs setsid, which macOS lacks.
set -euo pipefail

kills=20             # how often
seed=1               # of the moments
longest=16           # seconds from a start to a kill, at most
tracks=8             # of 2.5 s, under a small random prior
venv=${VENV:-none}   # virtual environment, or none
. "$(dirname "$0")/../../recipes/parse_options.sh"
. "$(dirname "$0")/../../recipes/environment.sh"
environment
room=$(mktemp -d)
trap 'rm -rf "$room"' EXIT
cd "$room"

PYTHONPATH=$root python - "$tracks" <<'END'
import sys
from pathlib import Path

from mgdm_audio.audio.io import write
from mgdm_audio.priors.folder import save_prior
from mgdm_audio.diffusion import NoiseSchedule
from tests.toys import STEMS, TINY, song, tiny_network

RATE = 22050
for number in range(int(sys.argv[1])):
    (track := Path(f"stems/Track{number:05d}")).mkdir(parents=True)
    for stem, wave in zip(STEMS, song(number, 4, 5 * RATE // 2, RATE), strict=True):
        write(track / f"{stem}.wav", wave[None], RATE)
details = {"schedule": NoiseSchedule.karras().to_config(), "stems": list(STEMS),
           "sample_rate": RATE, "mixture_rms": 0.08, "segment": 2**14}
save_prior(Path("tiny"), tiny_network(0), TINY, "tf_unet", details)
END
printf 'sampler = "wiener"\ndraws = 4\n[options]\nnum_steps = 8\n' >slow.toml

recipe=(bash "$root/recipes/separate.sh" --venv none --reference stems --prior tiny --device cpu)
recipe+=(--samplers slow.toml)
"${recipe[@]}" --exp alone >alone.log 2>&1 || fail "left alone: $(tail -n 1 alone.log)"
RANDOM=$seed
for ((k = 1; k <= kills; k++)); do
    moment=$((RANDOM % (longest * 10)))
    setsid "${recipe[@]}" --exp killed >killed.log 2>&1 &
    sleep "$((moment / 10)).$((moment % 10))"
    kill -KILL -- "-$!" 2>/dev/null || true
    wait "$!" 2>/dev/null || true
    stage=$(sed -n 's/^separate.sh, //p' killed.log | tail -n 1)
    tracks=$( (find killed -path '*/slow/Track*/separation.json' 2>/dev/null || true) | wc -l)
    echo "kill $k after $((moment / 10)).$((moment % 10)) s, at ${stage:-the beginning}: $tracks done"
done
"${recipe[@]}" --exp killed >killed.log 2>&1 || fail "resuming failed: $(tail -n 1 killed.log)"

compared=0
while IFS= read -r file; do
    cmp "alone/$file" "killed/$file"
    compared=$((compared + 1))
done < <(cd alone && find . \( -name '*.wav' -o -name uncertainty.json -o -path '*/scores/*.json' \) -type f)
for folder in alone killed; do
    (cd $folder && find . -type f ! -name '.*' ! -path '*/.*' | sort) >"$folder.list"
done
cmp alone.list killed.list
echo "$compared files equal those of a run that was left alone"
