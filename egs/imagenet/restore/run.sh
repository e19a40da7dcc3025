#!/usr/bin/env bash
# Restore images of ImageNet 256 from the ten measurements of the MGDM paper but its learned blur.
# Images and weights must be brought: the unconditional checkpoint of guided-diffusion.
#     bash egs/imagenet/restore/run.sh --images IMAGENET --prior 256x256_diffusion_uncond.pt
# JPEG is the operator of the published code. Its one motion kernel is wider than those drawn here: to
# observe by it too, np.save("kernel.npy", Kernel((61, 61), 0.5).kernelMatrix) with that code's
# imaging/motionblur.py, and add
#     --task-options "jpeg.published=true motion_blur.kernel=kernel.npy"
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

exec bash "$here/../../../recipes/restore.sh" \
    --limit 300 \
    --tasks "sr4 sr16 inpainting_center outpainting_half blur motion_blur jpeg phase_retrieval \
        high_dynamic_range" \
    --task-options jpeg.published=true \
    --samplers mgdm-imagenet \
    --exp "$here/exp" \
    --results "$here/RESULTS.md" \
    "$@"
