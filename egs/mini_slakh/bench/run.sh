#!/usr/bin/env bash
# Compare the samplers on excerpts of the test songs of mini_slakh, at the cost of hours on a CPU.
# What the number of averaged draws is worth, in a quarter of an hour:  --suite .../conf/draws.toml
# With tracks of your own beside them:  --references real=STEMS, a folder of <track>/<stem>.wav.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

exec bash "$here/../../../recipes/bench.sh" \
    --suite "$here/conf/samplers.toml" \
    --data "$here/../data" \
    --data-options "--train 0 --validation 0 --seconds 48 --stop_stage 1" \
    --split test \
    --exp "$here/exp" \
    --results "$here/RESULTS.md" \
    "$@"
