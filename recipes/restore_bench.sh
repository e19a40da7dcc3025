#!/usr/bin/env bash
# Train priors over small pictures, restore held-out ones by every sampler, and compare the scores.
#
# Stages: 0 make the images; 1 train, into EXP/<conf>; 2 restore the test images, into EXP/<suite>;
# 3 report, printed and put between the lines <!-- SUITE --> and <!-- /SUITE --> of RESULTS, if it has
# them. Each goes on where it stopped. --prior bundled leaves out the training, and restores with the
# priors that the package holds.
set -euo pipefail

data=                # script that makes the images: DATA OUT writes OUT/{train,validation,test}
images=images        # folder with the images
confs=               # training runs, TOML files; "# NAME: ..." on top names the prior of the suite
prior=train          # train, or bundled: those of the package
suite=               # the suite's TOML file: tasks and systems
split=test           # which images to restore
limit=0              # how many of them, spread evenly; 0: all
tasks=               # some of the suite's, separated by spaces; empty: all
systems=             # some of the suite's, separated by spaces; empty: all
exp=exp              # folder for priors, restored images and scores
results=             # Markdown file that holds the tables
venv=${VENV:-.venv}  # virtual environment, or none
stage=0              # first stage
stop_stage=3         # last stage
. "$(dirname "$0")/parse_options.sh"
. "$(dirname "$0")/environment.sh"
(($# == 0)) || fail "unexpected argument $1; options begin with --"
[[ -f $suite ]] || fail "${suite:-"--suite"}: no such file; give a suite's TOML file"
[[ $prior == train || $prior == bundled ]] || fail "--prior is train or bundled, not '$prior'"
if [[ $prior == train ]]; then environment images train digits; else environment images digits; fi
name=$(basename "$suite" .toml)

if at_stage 0 "images"; then
    python "$data" "$images"
fi

places=()
for conf in $confs; do # its first line names the prior: "# NAME: ..."
    own=$exp/$(basename "$conf" .toml)
    if [[ $prior == train ]]; then
        if at_stage 1 "train $(basename "$conf" .toml)"; then
            if [[ ! -f $own/finished || $(cat "$own/finished") != "$(cat "$conf")" ]]; then
                mgdm-audio train "$conf" -o "$own" --set "images=$images"
                cp "$conf" "$own/finished"
            fi
        fi
        places+=(--prior "$(sed -n '1s/^# \([^:]*\):.*/\1/p' "$conf")=$own/prior")
    fi
done

if at_stage 2 "restore"; then
    python "$root/recipes/local/restore_bench.py" "$suite" "$images/$split" -o "$exp/$name" \
        --limit "$limit" --tasks "$tasks" --systems "$systems" ${places[@]+"${places[@]}"}
fi

if at_stage 3 "report"; then
    python "$root/recipes/local/restore_bench_report.py" "$suite" "$exp/$name" \
        ${results:+--results "$results"}
fi
