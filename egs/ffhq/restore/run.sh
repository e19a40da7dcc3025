#!/usr/bin/env bash
# Restore faces of FFHQ 256 from the ten measurements of the MGDM paper but its learned blur. Images
# and weights must be brought: in pixels, the checkpoint of guided-diffusion for FFHQ (ILVR's), in
# latents a folder as diffusers saves it, with   --prior FOLDER --samplers "mgdm-ldm psld resample":
#     bash egs/ffhq/restore/run.sh --images FFHQ --prior ffhq.pt
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

exec bash "$here/../../../recipes/restore.sh" \
    --limit 300 \
    --tasks "sr4 sr16 inpainting_center outpainting_half blur motion_blur jpeg phase_retrieval \
        high_dynamic_range" \
    --samplers mgdm \
    --exp "$here/exp" \
    --results "$here/RESULTS.md" \
    "$@"
