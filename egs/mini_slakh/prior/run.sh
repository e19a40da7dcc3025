#!/usr/bin/env bash
# Train a prior like mini-slakh-v1. To separate with it:  mgdm-audio separate SONG -o OUT --prior
# egs/mini_slakh/prior/exp/prior
# In the first minutes at least, short examples and a window of 4096 samples learn faster (RESULTS.md):
# --set "model.bins=2048 model.patch=8 data.segment=32768 training.batch=12"
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

exec bash "$here/../../../recipes/train_prior.sh" \
    --data "$here/../data" \
    --data-options "--train 300 --validation 12 --test 0 --stop_stage 1" \
    --conf "$here/conf/tf_unet.toml" \
    --exp "$here/exp" \
    --results "$here/RESULTS.md" \
    "$@"
