#!/usr/bin/env bash
# Restore faces of FFHQ 256 from the ten measurements of the MGDM paper but its learned blur. Images
# and weights must be brought: in pixels, the checkpoint of guided-diffusion for FFHQ (ILVR's), in
# latents a folder as diffusers saves it, with   --prior FOLDER --samplers "mgdm-ldm psld resample":
#     bash egs/ffhq/restore/run.sh --images FFHQ --prior ffhq.pt
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
    --samplers mgdm \
    --exp "$here/exp" \
    --results "$here/RESULTS.md" \
    "$@"
