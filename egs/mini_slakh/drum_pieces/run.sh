#!/usr/bin/env bash
# A prior over the pieces of a drum kit: kick, snare, hats, toms, cymbals. Renders the drums of composed
# songs, trains (two hours of one CPU core), separates and scores; the table is in RESULTS.md.
# Stages: 0 fonts; 1 songs; 2 train; 3 separate and score. Options: --stage --stop_stage --exp --nj
# --train --validation --test (numbers of songs) --seconds (of a song) --soundfonts (folder)
# --samplers (words) --set ("KEY=VALUE ...", of the training) --python.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
recipes=$here/../../../recipes

stage=0 stop_stage=3 exp=$here/exp nj=1 train=240 validation=12 test=12 seconds=30
soundfonts=$here/../data/soundfonts samplers="default wiener" set="" python=${PYTHON:-python}
while (($#)); do
    name=${1#--} name=${name//-/_}
    case ${1%%[!-]*}$name in
        --stage | --stop_stage | --exp | --nj | --train | --validation | --test | --seconds) ;;
        --soundfonts | --samplers | --set | --python) ;;
        *) echo "error: unknown option $1 (see $0)" >&2 && exit 2 ;;
    esac
    (($# >= 2)) || { echo "error: $1 needs a value" >&2; exit 2; }
    declare "$name=$2" && shift 2
done
at() { ((stage <= $1 && stop_stage >= $1)); }

if at 0 && [[ ! -d $soundfonts ]]; then
    bash "$here/../data/run.sh" --stop_stage 0 --sampled true --python "$python"
fi

if at 1; then
    for split in train validation test; do
        varied=()
        [[ $split != train ]] || varied=(--vary 0.35 --pitch 4)
        "$python" "$here/local/pieces.py" "$exp/stems" --split "$split" --count "${!split}" \
            --seconds "$seconds" --soundfonts "$soundfonts" ${varied[@]+"${varied[@]}"}
    done
fi

if at 2; then
    bash "$recipes/train_prior.sh" --venv none --stems "$exp/stems" --conf "$here/conf/pieces.toml" \
        --exp "$exp/training" --set "$set"
fi

if at 3; then
    bash "$recipes/separate.sh" --venv none --reference "$exp/stems/test" --name pieces --nj "$nj" \
        --exp "$exp" --prior "$exp/training/prior" --samplers "$samplers" --results "$here/RESULTS.md"
fi
