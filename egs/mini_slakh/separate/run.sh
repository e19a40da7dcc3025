#!/usr/bin/env bash
# Separate the test songs of mini_slakh with every preset; the table is in RESULTS.md. Any other
# folder of stems:  bash egs/mini_slakh/separate/run.sh --reference STEMS --exp OUT
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

exec bash "$here/../../../recipes/separate.sh" \
    --data "$here/../data" \
    --data-options "--train 0 --validation 0 --stop_stage 1" \
    --split test \
    --exp "$here/exp" \
    --prior mini-slakh-v0 \
    --samplers "default wiener mgdm mgdm-code mgdm-r1-g90" \
    --results "$here/RESULTS.md" \
    "$@"
