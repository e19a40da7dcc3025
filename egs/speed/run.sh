#!/usr/bin/env bash
# Time and memory of the default beside htdemucs, htdemucs_6s, hdemucs and Open-Unmix, in one run.
#
# Stages: 0 an environment of the peers, EXP/peers, which uses the same torch; 1 sounds; 2 measure;
# 3 the table and its plot, speed.svg, put between the lines <!-- speed --> and <!-- /speed --> of
# RESULTS. Every timing is a process of its own, from its start to its end, and the systems take
# turns. What was measured is kept: only what is missing in EXP/times.jsonl is run. Random weights
# serve the peers, as they take as long as trained ones. A peer that is not installed has no figures.
# Needs Linux. A first look:  --seconds "10" --threads "1" --channels "2" --files 10
set -euo pipefail

systems="default default+page htdemucs htdemucs_6s hdemucs umxl"  # which take turns
seconds="30 180 600 1800"  # lengths of the sounds
channels="1 2"       # mono, stereo
threads="1 2"        # of each process
rounds=1             # timings of each, of which the table has the median
files=2000           # files of FILE_SECONDS that the default separates in one process; 0: none
file_seconds=2       # their length
memory=              # GB that a process may take; empty: four fifths of the machine's
prior=               # bundled prior or prior folder; empty: the default one
exp=                 # folder for the sounds and what was measured; empty: exp beside this file
peers=               # environment that has the peers; empty: EXP/peers, none: do without
results=             # Markdown file that holds the table; empty: RESULTS.md beside this file
venv=${VENV:-.venv}  # virtual environment, or none
stage=0              # first stage
stop_stage=3         # last stage
. "$(dirname "$0")/../../recipes/parse_options.sh"
. "$(dirname "$0")/../../recipes/environment.sh"
(($# == 0)) || fail "unexpected argument $1; options begin with --"
[[ $(uname) == Linux ]] || fail "needs Linux: the load of the machine is read from /proc"
environment plot
export PYTHONPATH=$root:$root/recipes/local${PYTHONPATH:+:$PYTHONPATH}
here=$root/egs/speed
exp=${exp:-$here/exp}
results=${results:-$here/RESULTS.md}
mkdir -p "$exp"
exp=$(cd "$exp" && pwd)
peers=${peers:-$exp/peers}

if at_stage 0 "environment of the peers" && [[ $peers != none ]]; then
    bash "$here/local/peers.sh" "$peers"
fi

if at_stage 1 "sounds"; then
    python "$here/local/sounds.py" "$exp/sounds" --seconds $seconds --channels $channels \
        --files "$files" --file-seconds "$file_seconds"
fi

if at_stage 2 "measure"; then
    python "$here/local/measure.py" "$exp" --systems $systems --seconds $seconds \
        --channels $channels --threads $threads --rounds "$rounds" --files "$files" \
        --file-seconds "$file_seconds" --peers "$peers" \
        ${prior:+--prior "$prior"} ${memory:+--memory "$memory"}
fi

if at_stage 3 "table"; then
    python "$here/local/table.py" "$exp" --results "$results"
fi
