#!/usr/bin/env bash
# Mutated files of every format, commands that are killed, and disks that are full.
#
# Stages: 0 make small good files and priors; 1 read mutated files in forked batches; 2 kill every
# command that writes, at file-system calls and at random times, and run it again; 3 fill the disk, a
# small file system in a file where this user may mount one, and set a quota; 4 report, printed and
# put between the lines <!-- torture --> and <!-- /torture --> of RESULTS, if it has them. The exit
# code is 1 where a fault was found. Needs Linux.
set -euo pipefail

cases=20000          # mutated files, over all formats
kills=300            # over all commands
seed=0               # of the files and the moments
exp=exp              # folder for the small files and what was found
formats=             # some of them, separated by commas; empty: all
commands=            # some of them, separated by semicolons; empty: all
results=             # Markdown file that holds the table
venv=${VENV:-.venv}  # virtual environment, or none
stage=0              # first stage
stop_stage=4         # last stage
. "$(dirname "$0")/parse_options.sh"
. "$(dirname "$0")/environment.sh"
(($# == 0)) || fail "unexpected argument $1; options begin with --"
[[ $(uname) == Linux ]] || fail "needs Linux: processes are watched by /proc"
environment train data formats images plot
mkdir -p "$exp"
exp=$(cd "$exp" && pwd)
local=$root/recipes/local/torture
export PYTHONPATH=$root:$local OMP_NUM_THREADS=1 ACCELERATE_USE_CPU=true

if at_stage 0 "small files"; then
    python "$local/make.py" "$exp/room"
fi

if at_stage 1 "mutated files"; then
    python "$local/mutate.py" "$exp/room" "$exp" --cases "$cases" --seed "$seed" \
        ${formats:+--formats "$formats"} || true
fi

if at_stage 2 "kills"; then
    python "$local/kills.py" "$exp/room" "$exp" --kills "$kills" --seed "$seed" \
        ${commands:+--commands "$commands"} || true
fi

if at_stage 3 "full disks"; then
    python "$local/disk.py" "$exp/room" "$exp" ${commands:+--commands "$commands"} || true
fi

if at_stage 4 "report"; then
    python "$local/table.py" "$exp" ${results:+--results "$results"}
fi
