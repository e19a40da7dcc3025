#!/usr/bin/env bash
# Train the bundled priors over handwritten digits, in pixels and in latents, restore a hundred test
# digits from every measurement by every sampler, and tabulate PSNR, SSIM and cost. It trains within
# half an hour of one core and restores within an hour; with the bundled weights, without training:
#     bash egs/digits/restore/run.sh --prior bundled
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

exec bash "$here/../../../recipes/restore_bench.sh" \
    --data "$here/local/images.py" \
    --images "$here/images" \
    --confs "$here/conf/pixel.toml $here/conf/latent.toml" \
    --suite "$here/conf/suite.toml" \
    --exp "$here/exp" \
    --results "$here/RESULTS.md" \
    "$@"
