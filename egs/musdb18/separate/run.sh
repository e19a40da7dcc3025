#!/usr/bin/env bash
# Separate the test songs of MUSDB18-HQ, which must be brought, and so must a prior of its stems bass,
# drums, other and vocals, which mini-slakh-v3 is not:
#     bash egs/musdb18/separate/run.sh --source MUSDB18HQ --prior PRIOR
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

exec bash "$here/../../../recipes/separate.sh" \
    --form "stems --map musdb18" \
    --split test \
    --exp "$here/exp" \
    --prior "" \
    --samplers default \
    --results "$here/RESULTS.md" \
    "$@"
