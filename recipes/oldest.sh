#!/usr/bin/env bash
# Test with the oldest releases that pyproject.toml allows. Arguments after -- go to pytest in place of
# the tests of what other packages do.
#
#     bash recipes/oldest.sh [--python python3.11] [-- tests/priors]
#
# The first call makes a virtual environment and installs the releases in recipes/local/oldest.txt.
set -euo pipefail

python=python3.11   # the oldest Python
venv=.venv-oldest   # virtual environment of its own
. "$(dirname "$0")/parse_options.sh"
. "$(dirname "$0")/environment.sh"
export PYTHON=$python PIP_CONSTRAINT=$root/recipes/local/oldest.txt
environment dev train bss data digits formats hub images mirdata onnx plot serve

cd "$root"
(($#)) || set -- tests/audio/test_io.py tests/cli tests/data tests/evaluation/test_bss_eval.py \
    tests/images/test_io.py tests/priors/test_{diffusers,folder,hub,onnx}.py tests/report \
    tests/serve/test_serve.py tests/training/test_{log,loop}.py
python -m pytest "$@"
