#!/usr/bin/env bash
# The paper's comparison on Slakh2100, with MSDM's public weights; both must be brought, see RESULTS.md:
#     bash egs/slakh2100/msdm/run.sh --source SLAKH2100 --checkpoint MSDM.ckpt
# Gibbs sweeps (Fig. 3):  --samplers "mgdm-r1 mgdm-r2 mgdm-r4 mgdm-r6"
# Laws of the index s (Table 4):  --samplers "mgdm mgdm-mu0 mgdm-uniform mgdm-fixed"
# ISDM:  --samplers isdm-dirac --checkpoint "bass=B.ckpt drums=D.ckpt guitar=G.ckpt piano=P.ckpt"
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

exec bash "$here/../../../recipes/separate.sh" \
    --form slakh \
    --split test \
    --exp "$here/exp" \
    --prior "" \
    --level none \
    --presets "$here/conf" \
    --samplers "mgdm mgdm-code mgdm-r1-g90 dps pgdm ddrm ddnm diffpir reddiff-code reddiff daps pnp-dm \
        msdm-dirac msdm-gaussian" \
    --results "$here/RESULTS.md" \
    "$@"
