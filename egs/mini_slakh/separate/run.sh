#!/usr/bin/env bash
# Separate the test songs of mini_slakh; the table is in RESULTS.md. Other presets are slower, MGDM
# by far:  --samplers "default wiener mgdm-r1-g90". conf/ has the default with eight draws, default-8.
# Any other folder of stems:  --reference STEMS.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

exec bash "$here/../../../recipes/separate.sh" \
    --data "$here/../data" \
    --data-options "--train 0 --validation 0 --seconds 48 --stop_stage 1" \
    --split test \
    --exp "$here/exp" \
    --prior mini-slakh-v3 \
    --samplers default \
    --presets "$here/conf" \
    --nj 2 \
    --results "$here/RESULTS.md" \
    "$@"
