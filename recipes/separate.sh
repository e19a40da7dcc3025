#!/usr/bin/env bash
# Separate a set of tracks with several samplers and score them against their true stems.
#
# Stages: 0 make the data; 1 stem folders and mixtures; 2 open the prior, write the baselines;
# 3 separate; 4 score; 5 report. Each goes on where it stopped, and does nothing when it is done.
# Tracks come from a data recipe, or from --reference, any folder of stems <track>/<stem>.wav.
set -euo pipefail

data=                # data recipe: a folder with a run.sh
data_options=        # options of its run.sh
split=test           # which of its splits to separate
reference=           # folder of true stems to use instead
statistics=          # training stems for the static Wiener split; empty: the prior's own levels
name=                # name of the set of tracks; empty: that of the folder of stems
exp=exp              # folder for mixtures, estimates and scores, in EXP/NAME
prior=mini-slakh-v0  # bundled prior or prior folder
samplers=default     # presets or TOML files, separated by spaces
device=auto          # auto, cpu, cuda, mps
nj=1                 # tracks at a time
results=             # Markdown file that holds the table, see score.sh
venv=${VENV:-.venv}  # virtual environment, or none
stage=0              # first stage
stop_stage=5         # last stage
. "$(dirname "$0")/parse_options.sh"
. "$(dirname "$0")/environment.sh"
. "$(dirname "$0")/data.sh"
(($# == 0)) || fail "unexpected argument $1; options begin with --"
[[ -n $data || -n $reference ]] || fail "give --reference or --data"
if [[ -n $reference ]]; then
    [[ -d $reference ]] || fail "$reference: no such folder"
    data= reference=$(cd "$reference" && pwd)
    environment
else
    environment data
    reference=$data/out/stems/$split
fi
exp=$exp/${name:=$(basename "$reference")}
scripts=$root/recipes/local

if at_stage 0 "data" && [[ -n $data ]]; then
    make_data
fi

if at_stage 1 "stem folders and mixtures"; then
    [[ -z $data ]] || make_stems "$split"
    python "$scripts/mixtures.py" "$reference" "$exp/mixtures"
fi

if at_stage 2 "prior and baselines"; then
    python "$scripts/baselines.py" "$reference" "$exp/mixtures" "$exp/estimates" --prior "$prior" \
        ${statistics:+--statistics "$statistics"}
fi

if at_stage 3 "separate"; then
    cores=$(getconf _NPROCESSORS_ONLN)
    ((nj == 1)) || export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((cores > nj ? cores / nj : 1))}
    for sampler in $samplers; do
        system=$(basename "$sampler" .toml)
        out=$exp/estimates/$system
        mkdir -p "$out"
        python "$scripts/pending.py" "$exp/mixtures" "$out" --prior "$prior" --sampler "$sampler" \
            >"$exp/.pending"
        [[ -s $exp/.pending ]] || continue
        echo "$system"
        xargs -0 -n 2 -P "$nj" mgdm-audio separate -o "$out" --prior "$prior" \
            --sampler "$sampler" --device "$device" --subtype FLOAT --seed <"$exp/.pending" ||
            fail "$system: not every track was separated; the same command goes on from here"
    done
    rm -f "$exp/.pending"
fi

score=(bash "$root/recipes/score.sh" --venv none --reference "$reference" --exp "$exp")
if at_stage 4 "score"; then
    "${score[@]}" --stage 0 --stop-stage 0
fi

if at_stage 5 "report"; then
    "${score[@]}" --stage 1 --stop-stage 1 --name "$name" --results "$results"
fi
