#!/usr/bin/env bash
# Build the guides and the reference of every public name as pages that need no network. Every warning
# is an error. The site is in OUTPUT/site; with --serve PORT it is shown at http://127.0.0.1:PORT/.
#
# The first call makes a virtual environment and installs the package in it.
set -euo pipefail

output=build/docs    # folder for the pages, relative to the repository
serve=               # port of this computer to show them at; empty: only build
venv=${VENV:-.venv}  # virtual environment, or none
. "$(dirname "$0")/parse_options.sh"
. "$(dirname "$0")/environment.sh"
(($# == 0)) || fail "unexpected argument $1; options begin with --"
[[ $serve =~ ^[0-9]*$ ]] || fail "--serve $serve: give the number of a port, say 8000"
environment docs

cd "$root"
python recipes/docs/pages.py "$output/pages"
DOCS_PAGES=$(cd "$output/pages" && pwd) DOCS_SITE=$(cd "$output" && pwd)/site NO_MKDOCS_2_WARNING=1 \
    python -m mkdocs build --quiet --strict --config-file recipes/docs/mkdocs.yml
echo "The pages begin at $output/site/index.html"
if [[ -n $serve ]]; then
    exec python -m http.server "$serve" --bind 127.0.0.1 --directory "$output/site"
fi
