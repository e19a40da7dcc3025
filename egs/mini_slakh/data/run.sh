#!/usr/bin/env bash
# Composes and renders data/out/{train,validation,test} in the form of Slakh2100.
# Options: --stage --stop_stage --nj --out --seconds --train --validation --test (numbers of songs).
set -euo pipefail
cd "$(dirname "$0")"

stage=0 stop_stage=2 nj=2 out=out seconds=60 python=${PYTHON:-python}
train=300 validation=12 test=12
while (($#)); do
    name=${1#--} name=${name//-/_}
    case ${1%%[!-]*}$name in
        --stage | --stop_stage | --nj | --out | --seconds | --train | --validation | --test | --python) ;;
        *) echo "error: unknown option $1 (see $0)" >&2 && exit 2 ;;
    esac
    (($# >= 2)) || { echo "error: $1 needs a value" >&2; exit 2; }
    declare "$name=$2" && shift 2
done

if ((stage <= 0 && stop_stage >= 0)); then
    "$python" local/fetch_soundfonts.py soundfonts
fi
for split in train validation test; do
    if ((${!split} == 0)); then continue; fi
    if ((stage <= 1 && stop_stage >= 1)); then
        "$python" local/render.py "$out" --split "$split" --count "${!split}" --seconds "$seconds" --nj "$nj"
    fi
    if ((stage <= 2 && stop_stage >= 2)); then "$python" local/check.py "$out/$split"; fi
done
