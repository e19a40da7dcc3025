#!/usr/bin/env bash
# Train a prior over bass, drums, guitar, piano and other: about 6 CPU seconds a step where bfloat16 is fast, 9 elsewhere.
#
# Stages: 0 songs of five stems; 1 mixtures, and their stems by TEACHER; 2 the network to start from;
# 3 train. Each goes on where it stopped. To end sooner, stop it and start it again with
# --set schedule.steps=N, where N is the last step in EXP/run/log.jsonl plus schedule.decay.
set -euo pipefail

count=240              # songs that are rendered
taught=80              # of which TEACHER separates 24 s
teacher=mini-slakh-v2  # bundled prior or prior folder, a tf_unet of the four stems
set=                   # changes to conf/five_stems.toml: "KEY=VALUE ...", such as "schedule.steps=2000"
exp=                   # folder of the run; empty: exp beside this file
nj=1                   # processes that render
venv=${VENV:-.venv}    # virtual environment, or none
stage=0                # first stage
stop_stage=3           # last stage
. "$(dirname "$0")/../../../recipes/parse_options.sh"
. "$(dirname "$0")/../../../recipes/environment.sh"
(($# == 0)) || fail "unexpected argument $1; options begin with --"
environment train data
here=$root/egs/mini_slakh/five_stems
exp=${exp:-$here/exp}
mkdir -p "$exp" && exp=$(cd "$exp" && pwd)
songs=$exp/songs/train

if at_stage 0 "songs"; then
    bash "$here/../data/render_v3.sh" --out "$exp/songs" --count "$count" --nj "$nj" --python "$(command -v python)"
fi

if at_stage 1 "examples of one call"; then
    python "$here/local/examples.py" mixtures "$songs" "$exp/mixtures" --count "$taught"
    mgdm-audio separate "$exp/mixtures" -o "$exp/teacher" --prior "$teacher" --format flac --skip-existing
    python "$here/local/examples.py" join "$exp/teacher" "$songs" "$exp/examples"
fi

if at_stage 2 "start" && [[ ! -f $exp/start/config.json ]]; then
    python "$here/local/widen.py" "$teacher" "$exp/start" --stem other --songs "$songs"
fi

if at_stage 3 "train"; then
    run=(--set "data.train=$songs" --set "one_call.train=$exp/examples")
    for change in $set; do
        run+=(--set "$change")
    done
    python -m mgdm_audio.cli.main train "$here/conf/five_stems.toml" -o "$exp/run" --init "$exp/start" "${run[@]}"
fi
