#!/usr/bin/env bash
# Test with the oldest releases that pyproject.toml allows. Arguments after -- go to pytest in place of
# the tests of what other packages do.
#
#     bash recipes/oldest.sh                  # the package and its extras, but for onnx
#     bash recipes/oldest.sh --pins onnx      # the extra onnx, which needs a newer torch
#
# The first call makes a virtual environment and installs the releases in recipes/local/PINS.txt.
set -euo pipefail

pins=oldest         # oldest or onnx
python=python3.11   # the oldest Python
venv=               # virtual environment of its own; empty: .venv-PINS
. "$(dirname "$0")/parse_options.sh"
. "$(dirname "$0")/environment.sh"
venv=${venv:-.venv-$pins}
export PYTHON=$python PIP_CONSTRAINT=$root/recipes/local/$pins.txt
[[ -f $PIP_CONSTRAINT ]] || fail "--pins $pins: choose oldest or onnx"
if [[ $pins == onnx ]]; then
    environment dev onnx
    tests=(tests/priors/test_onnx.py)
else
    environment dev train bss cluster data digits formats hub images mirdata plot serve
    tests=(tests/audio/test_io.py tests/cli tests/data tests/engine/test_cluster.py
        tests/evaluation/test_bss_eval.py
        tests/images/test_io.py tests/priors/test_{diffusers,folder,hub}.py tests/report
        tests/serve/test_serve.py tests/training/test_{log,loop}.py)
fi

cd "$root"
if (($#)); then tests=("$@"); fi
python -m pytest "${tests[@]}"
