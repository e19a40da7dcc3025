#!/usr/bin/env bash
# Train a prior on folders of stems. The prior is in EXP/prior, from the first save on.
#
# Stages: 0 make the data; 1 stem folders; 2 train; 3 report. Each goes on where it stopped, and
# does nothing when it is done. The tracks come from a data recipe, or from --stems, a folder with
# train/<track>/<stem>.wav and validation/<track>/<stem>.wav.
#
# A run whose schedule.kind is "stable" may be brought to its end at any time: stop it, and start it
# again with --set schedule.steps=N, where N is the last step in EXP/log.jsonl plus schedule.decay.
set -euo pipefail

data=                # data recipe: a folder with a run.sh
data_options=        # options of its run.sh
stems=               # folder with stems in train/ and validation/ to use instead
conf=                # the training run's TOML file
init=                # prior to start from: the name of a bundled one, or a folder
set=                 # changes to it: "KEY=VALUE ...", e.g. "schedule.steps=200 training.batch=2"
exp=exp              # folder of the training run
launcher="python -m" # on four devices: "torchrun --nproc-per-node 4 -m"
nj=2                 # processes that make data
results=             # Markdown file that holds the validation table
venv=${VENV:-.venv}  # virtual environment, or none
stage=0              # first stage
stop_stage=3         # last stage
. "$(dirname "$0")/parse_options.sh"
. "$(dirname "$0")/environment.sh"
. "$(dirname "$0")/data.sh"
(($# == 0)) || fail "unexpected argument $1; options begin with --"
[[ -f $conf ]] || fail "${conf:-"--conf"}: no such file; give a training run's TOML file"
[[ -n $data || -n $stems ]] || fail "give --stems or --data"
if [[ -n $stems ]]; then data= && environment train; else environment train data; fi
stems=${stems:-$data/out/stems}

if at_stage 0 "data" && [[ -n $data ]]; then
    make_data
fi

if at_stage 1 "stem folders" && [[ -n $data ]]; then
    for split in train validation; do
        make_stems "$split"
    done
fi

if at_stage 2 "train"; then
    run=(--set "data.train=$stems/train" --set "data.validation=$stems/validation")
    for change in $set; do
        run+=(--set "$change")
    done
    [[ -z $init ]] || run+=(--init "$init")
    wanted=$(printf '%s\n' "${run[@]}" && cat "$conf")
    if [[ ! -f $exp/finished || $(cat "$exp/finished") != "$wanted" ]]; then
        $launcher mgdm_audio.cli.main train "$conf" -o "$exp" "${run[@]}"
        echo "$wanted" >"$exp/finished"
    fi
fi

if at_stage 3 "report"; then
    python "$root/recipes/local/training_report.py" "$exp" ${results:+--results "$results"}
fi
