#!/usr/bin/env bash
# Score every system under EXP/estimates/<system>/<track>/<stem>.wav against the true stems.
#
# Stages: 0 score, into EXP/scores; 1 report, printed and put between the lines <!-- NAME --> and
# <!-- /NAME --> of RESULTS, if it has them. What is scored already is not scored again.
set -euo pipefail

reference=           # folder of true stems, <track>/<stem>.wav or the like
exp=                 # folder with estimates/; scores/ is put beside it
name=test            # what RESULTS calls this set of tracks
nj=1                 # tracks at a time
executor=local       # or a cluster, see separate.sh
results=             # Markdown file that holds the table
venv=${VENV:-.venv}  # virtual environment, or none
stage=0              # first stage
stop_stage=1         # last stage
. "$(dirname "$0")/parse_options.sh"
. "$(dirname "$0")/environment.sh"
(($# == 0)) || fail "unexpected argument $1; options begin with --"
[[ -n $reference && -n $exp ]] || fail "give --reference and --exp"
if [[ $executor == local ]]; then environment; else environment cluster; fi

if at_stage 0 "score"; then
    mkdir -p "$exp/scores"
    for folder in "$exp"/estimates/*/; do
        [[ -d $folder ]] || fail "$exp/estimates: holds nothing to score; separate something first"
        system=$(basename "$folder")
        scores=$exp/scores/$system.json
        if [[ -f $scores && -z $(find -L "$folder" "$reference" -type f -newer "$scores") ]]; then
            continue
        fi
        echo "$system"
        # Scores that lack a track that failed are none: the next call would take them as done.
        mgdm-audio score --reference "$reference" --estimate "$folder" -o "$scores" --nj "$nj" \
            --executor "$executor" ||
            { rm -f "$scores" && fail "$folder: not all of its tracks were scored, see above"; }
    done
fi

if at_stage 1 "report"; then
    python "$root/recipes/local/report.py" "$exp" --name "$name" ${results:+--results "$results"}
fi
