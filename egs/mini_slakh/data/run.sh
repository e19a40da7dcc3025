#!/usr/bin/env bash
# Composes and renders data/out/{train,validation,test} in the form of Slakh2100.
# Stages: 0 fonts; 1 songs; 2 check them. Options: --stage --stop_stage --nj --out --seconds
# --train --validation --test (numbers of songs)
# --form (slakh, or stems: TrackXXXXX/{bass,drums,guitar,piano}.flac alone, which stage 2 passes over)
# Of training songs: --sampled (true: on the fonts of conf/sampled.toml too), --vary (share of the
# parts on varied or virtual instruments, 0 to 1), --pitch (play as tapes up to so many semitones off).
set -euo pipefail
cd "$(dirname "$0")"

stage=0 stop_stage=2 nj=2 out=out seconds=60 python=${PYTHON:-python}
train=300 validation=12 test=12 form=slakh sampled=false vary=0 pitch=0
while (($#)); do
    name=${1#--} name=${name//-/_}
    case ${1%%[!-]*}$name in
        --stage | --stop_stage | --nj | --out | --seconds | --train | --validation | --test) ;;
        --form | --sampled | --vary | --pitch | --python) ;;
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
        more=(--form "$form")
        if [[ $split == train ]]; then more+=(--vary "$vary" --pitch "$pitch"); fi
        if [[ $sampled == true && $split == train ]]; then
            for font in soundfonts/{bass,drums,guitar,piano}_*.sf2; do
                name=${font##*/} && more+=(--class-soundfont "${name%%_*}=$font")
            done
        fi
        "$python" local/render.py "$out" --split "$split" --count "${!split}" --seconds "$seconds" \
            --nj "$nj" "${more[@]}"
    fi
    if ((stage <= 2 && stop_stage >= 2)) && [[ $form != stems ]]; then
        "$python" local/check.py "$out/$split"
    fi
done
