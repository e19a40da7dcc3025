#!/usr/bin/env bash
# Compare samplers on sets of tracks with one prior: dB, denoiser calls, seconds and memory.
#
# Stages: 0 make the data; 1 stem folders; 2 run the suite, into EXP; 3 report, printed and put
# between the lines <!-- NAME --> and <!-- /NAME --> of RESULTS, if it has them; NAME is that of the
# suite's file, without .toml. Each goes on where it stopped: only rows that are missing, failed or
# changed are computed. A row that failed stops no other row but keeps stage 3 waiting, which
# --stage 3 runs all the same.
set -euo pipefail

suite=               # the suite's TOML file: prior, sets and systems
data=                # data recipe, for sets that it makes: a folder with a run.sh
data_options=        # options of its run.sh
split=test           # which of its splits to make
references=          # folders for the suite's sets: "SET=FOLDER ...", no spaces in them
exp=exp              # rows and tables go to EXP/NAME, see above
prior=               # bundled prior or prior folder; empty: the suite's
device=              # auto, cpu, cuda, mps; empty: the suite's
nj=2                 # processes that make data
results=             # Markdown file that holds the tables
venv=${VENV:-.venv}  # virtual environment, or none
stage=0              # first stage
stop_stage=3         # last stage
. "$(dirname "$0")/parse_options.sh"
. "$(dirname "$0")/environment.sh"
. "$(dirname "$0")/data.sh"
(($# == 0)) || fail "unexpected argument $1; options begin with --"
[[ -f $suite ]] || fail "${suite:-"--suite"}: no such file; give a suite's TOML file"
if [[ -n $data ]]; then environment data plot; else environment plot; fi
name=$(basename "$suite" .toml)

if at_stage 0 "data" && [[ -n $data ]]; then
    make_data
fi

if at_stage 1 "stem folders" && [[ -n $data ]]; then
    make_stems "$split"
fi

if at_stage 2 "bench"; then
    options=()
    for reference in $references; do
        options+=(--reference "$reference")
    done
    [[ -z $prior ]] || options+=(--prior "$prior")
    [[ -z $device ]] || options+=(--device "$device")
    mgdm-audio bench "$suite" -o "$exp/$name" ${options[@]+"${options[@]}"}
fi

if at_stage 3 "report"; then
    python "$root/recipes/local/bench_report.py" "$exp/$name" ${results:+--results "$results"}
fi
