#!/usr/bin/env bash
# Composes and renders data/out/{train,validation,test} in the form of Slakh2100.
# Options: --stage --stop_stage --nj --out --seconds --train --validation --test (numbers of songs)
# --sampled (true: train on the fonts of conf/sampled.toml too).
set -euo pipefail
cd "$(dirname "$0")"

stage=0 stop_stage=2 nj=2 out=out seconds=60 python=${PYTHON:-python}
train=300 validation=12 test=12 sampled=false
while (($#)); do
    name=${1#--} name=${name//-/_}
    case ${1%%[!-]*}$name in
        --stage | --stop_stage | --nj | --out | --seconds | --train | --validation | --test | --sampled | --python) ;;
        *) echo "error: unknown option $1 (see $0)" >&2 && exit 2 ;;
    esac
    (($# >= 2)) || { echo "error: $1 needs a value" >&2; exit 2; }
    declare "$name=$2" && shift 2
done

if ((stage <= 0 && stop_stage >= 0)); then
    "$python" local/fetch_soundfonts.py soundfonts
    if [[ $sampled == true ]]; then "$python" local/build_fonts.py soundfonts; fi
fi
for split in train validation test; do
    if ((${!split} == 0)); then continue; fi
    if ((stage <= 1 && stop_stage >= 1)); then
        more=()
        if [[ $sampled == true && $split == train ]]; then
            for font in soundfonts/{bass,drums,guitar,piano}_*.sf2; do
                name=${font##*/} && more+=(--class-soundfont "${name%%_*}=$font")
            done
        fi
        "$python" local/render.py "$out" --split "$split" --count "${!split}" --seconds "$seconds" \
            --nj "$nj" "${more[@]}"
    fi
    if ((stage <= 2 && stop_stage >= 2)); then "$python" local/check.py "$out/$split"; fi
done
