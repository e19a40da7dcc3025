#!/usr/bin/env bash
# Renders out/{train,validation,test}/TrackXXXXX/{kick,snare,hats,toms,cymbals}.flac.
# Stages: 0 fonts; 1 songs. Options: --stage --stop_stage --nj (unused) --out --seconds (of a song)
# --train --validation --test (numbers of songs) --soundfonts (folder) --python.
set -euo pipefail
cd "$(dirname "$0")"

stage=0 stop_stage=1 nj=1 out=out train=240 validation=12 test=12 seconds=30
soundfonts=../../data/soundfonts python=${PYTHON:-python}
while (($#)); do
    name=${1#--} name=${name//-/_}
    case ${1%%[!-]*}$name in
        --stage | --stop_stage | --nj | --out | --train | --validation | --test | --seconds) ;;
        --soundfonts | --python) ;;
        *) echo "error: unknown option $1 (see $0)" >&2 && exit 2 ;;
    esac
    (($# >= 2)) || { echo "error: $1 needs a value" >&2; exit 2; }
    declare "$name=$2" && shift 2
done

if ((stage <= 0 && stop_stage >= 0)) && [[ ! -d $soundfonts ]]; then
    bash ../../data/run.sh --stop_stage 0 --sampled true --python "$python"
fi
if ((stage <= 1 && stop_stage >= 1)); then
    for split in train validation test; do
        varied=()
        [[ $split != train ]] || varied=(--vary 0.35 --pitch 4)
        "$python" local/pieces.py "$out" --split "$split" --count "${!split}" --seconds "$seconds" \
            --soundfonts "$soundfonts" ${varied[@]+"${varied[@]}"}
    done
fi
