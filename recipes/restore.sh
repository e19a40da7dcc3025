#!/usr/bin/env bash
# Restore a folder of images, degraded in several ways, by several samplers, and compare the scores.
#
# Stages: 0 look for images and prior; 1 restore, into EXP/<task>/<sampler>/<image>; 2 report. It
# goes on where it stopped: an image that has its report.json is not restored again, whatever the
# settings, so give each setting an EXP of its own.
set -euo pipefail

images=              # folder of images, .png, .jpg, .jpeg, .webp, .bmp or .tif
limit=0              # of them in order of their names; 0: all
prior=               # prior for images, see: mgdm-audio restore --help
size=                # edge in pixels; empty: as the prior says
tasks=sr4            # tasks, separated by spaces
task_options=        # options of tasks, TASK.KEY=VALUE, separated by spaces
samplers=mgdm        # presets for images or TOML files, separated by spaces
samples=1            # draws of each image
seed=0               # of operators, noise and draws
exp=exp              # folder for restored images and scores
device=auto          # auto, cpu, cuda, mps
name=restored        # what RESULTS calls this table
results=             # Markdown file that holds the table, between <!-- NAME --> and <!-- /NAME -->
venv=${VENV:-.venv}  # virtual environment, or none
stage=0              # first stage
stop_stage=2         # last stage
. "$(dirname "$0")/parse_options.sh"
. "$(dirname "$0")/environment.sh"
(($# == 0)) || fail "unexpected argument $1; options begin with --"

if at_stage 0 "prior and images"; then
    [[ -n $prior ]] || fail "give --prior, weights for images"
    hub='^[A-Za-z0-9_-][A-Za-z0-9_.-]*/[A-Za-z0-9_-][A-Za-z0-9_.-]*(@.+)?$' # owner/name[@revision]
    [[ -e $prior || -d $root/mgdm_audio/pretrained/images/$prior || $prior =~ $hub ]] ||
        fail "$prior: no such prior"
    [[ -n $images ]] || fail "give --images, a folder of images"
    [[ -d $images ]] || fail "$images: no such folder"
fi
for item in $task_options; do
    [[ $item == ?*.?*=* ]] || fail "$item is no option of a task; write TASK.KEY=VALUE"
    [[ " $tasks " == *" ${item%%.*} "* ]] || echo "note: $item: ${item%%.*} is not among the tasks"
done
environment images

list() { # the images, each ended by a zero byte
    find -L "$images" -maxdepth 1 -type f \( -iname '*.png' -o -iname '*.jpg' -o -iname '*.jpeg' \
        -o -iname '*.webp' -o -iname '*.bmp' -o -iname '*.tif' -o -iname '*.tiff' \) -print0 |
        LC_ALL=C sort -z
}

if at_stage 1 "restore"; then
    for task in $tasks; do
        chosen=()
        for item in $task_options; do
            [[ ${item%%.*} != "$task" ]] || chosen+=(--task-option "${item#*.}")
        done
        for sampler in $samplers; do
            out=$exp/$task/$(basename "$sampler" .toml)
            mkdir -p "$out"
            pending=() count=0
            while IFS= read -r -d '' image; do
                ((limit == 0 || count < limit)) || break
                count=$((count + 1))
                base=$(basename "$image")
                [[ -f $out/${base%.*}/report.json ]] || pending+=("$image")
            done < <(list)
            ((count > 0)) || fail "$images: holds no images"
            ((${#pending[@]} > 0)) || continue
            echo "$task, $sampler: ${#pending[@]} of $count images"
            printf '%s\0' "${pending[@]}" |
                xargs -0 mgdm-audio restore -o "$out" --task "$task" --prior "$prior" \
                    ${chosen[@]+"${chosen[@]}"} ${size:+--size "$size"} --sampler "$sampler" \
                    --samples "$samples" --seed "$seed" --device "$device" -- ||
                fail "$out: not every image was restored; the same command goes on from here"
        done
    done
fi

if at_stage 2 "report"; then
    python "$root/recipes/local/restoration_report.py" "$exp" --name "$name" \
        ${results:+--results "$results"}
fi
