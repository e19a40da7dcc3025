#!/usr/bin/env bash
# Separate songs into stems. Without a FILE, a short song is rendered and separated.
#
#     bash recipes/quickstart.sh [FILE...] [--output FOLDER]
#
# The first call makes a virtual environment and installs the package in it.
set -euo pipefail

output=separated     # folder for the stems
prior=               # bundled prior or prior folder; empty: the default one
sampler=             # sampler preset; empty: the default one
device=auto          # auto, cpu, cuda, mps
venv=${VENV:-.venv}  # virtual environment, or none
. "$(dirname "$0")/parse_options.sh"
. "$(dirname "$0")/environment.sh"

for file; do
    [[ -f $file ]] || fail "$file: no such file"
done
if (($#)); then environment formats; else environment formats data; fi
mkdir -p -- "$output" || fail "$output: the folder cannot be made; choose another --output"

if ! (($#)); then
    song=$output/demo_song.flac
    if [[ ! -f $song ]]; then
        echo "rendering $song"
        room=$(mktemp -d)
        trap 'rm -rf "$room"' EXIT
        find_font='import importlib.util as u; print(u.find_spec("pretty_midi").submodule_search_locations[0])'
        python "$root/egs/mini_slakh/data/local/render.py" "$room" --split validation --first 32 \
            --count 1 --seconds 12 --soundfont "$(python -c "$find_font")/TimGM6mb.sf2"
        mv "$room"/validation/Track*/mix.flac "$song"
    fi
    set -- "$song"
fi

options=(--device "$device")
[[ -z $prior ]] || options+=(--prior "$prior")
[[ -z $sampler ]] || options+=(--sampler "$sampler")
mgdm-audio separate "${options[@]}" -o "$output" -- "$@"
echo "The stems are in $(cd "$output" && pwd):"
for file; do
    name=$(basename "${file%.*}")
    (cd "$output" && printf '    %s\n' "$name"/*.wav)
done
