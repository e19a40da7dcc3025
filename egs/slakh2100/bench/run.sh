#!/usr/bin/env bash
# The ablations of MGDM on one segment of every test track of Slakh2100, with MSDM's public weights.
# egs/slakh2100/msdm/run.sh --source SLAKH2100 --checkpoint MSDM.ckpt --stop-stage 2 comes first.
# Gibbs sweeps (Fig. 3), or with --suite egs/slakh2100/bench/conf/index_law.toml the laws (Table 4).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

exec bash "$here/../../../recipes/bench.sh" \
    --suite "$here/conf/gibbs_steps.toml" \
    --exp "$here/exp" \
    "$@"
