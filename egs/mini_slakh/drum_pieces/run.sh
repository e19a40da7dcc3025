#!/usr/bin/env bash
# Train a prior over the pieces of a drum kit (1.9 hours of one core), separate and
# score; the table is in RESULTS.md. A shorter one:  --conf MINE.toml, with fewer steps in [schedule].
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

exec bash "$here/../../../recipes/separate.sh" \
    --data "$here/data" \
    --data-options "--train 240 --validation 12 --test 12" \
    --form "stems --map $here/conf/map.toml" \
    --conf "$here/conf/pieces.toml" \
    --split test \
    --exp "$here/exp" \
    --samplers "default wiener" \
    --results "$here/RESULTS.md" \
    "$@"
