#!/usr/bin/env bash
# Make the picture in README.md: the listening page of the song that recipes/quickstart.sh renders and
# separates with the bundled prior. Stems that are there are not made again. Needs Chromium.
set -euo pipefail

output=build/picture                      # folder for the song and its stems, relative to the repository
picture=recipes/docs/listening_page.webp  # the file to write, likewise
venv=${VENV:-.venv}                       # virtual environment, or none
. "$(dirname "$0")/parse_options.sh"
. "$(dirname "$0")/environment.sh"
(($# == 0)) || fail "unexpected argument $1; options begin with --"

cd "$root"
if [[ ! -f $output/demo_song/separation.json ]]; then
    bash recipes/quickstart.sh --output "$output" --venv "$venv"
fi
environment formats data
mgdm-audio report "$output/demo_song"
python recipes/local/picture.py "$output/demo_song/report.html" "$picture"
