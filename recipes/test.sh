#!/usr/bin/env bash
# Check style, types and behaviour. Arguments after -- go to pytest:  bash recipes/test.sh -- -k mdct
#
# The first call makes a virtual environment and installs the package with all its extras in it.
set -euo pipefail

venv=${VENV:-.venv}  # virtual environment, or none
. "$(dirname "$0")/parse_options.sh"
. "$(dirname "$0")/environment.sh"
environment dev train bss data formats hub images onnx plot serve

# Only the comparison with MSDM's own network needs this old package, whose own requirements are
# many; without it, that test is skipped.
if ! python -c 'import sys, importlib.util as u; sys.exit(not u.find_spec("audio_diffusion_pytorch"))'; then
    python -m pip install --quiet --retries 1 --no-deps \
        audio-diffusion-pytorch==0.0.43 einops einops-exts ||
        echo "audio-diffusion-pytorch cannot be had: its parity test is skipped"
fi

# Operators, networks and scores are compared with these libraries' own; without them, those tests
# are skipped.
if ! python -c 'import sys, importlib.util as u; sys.exit(not (u.find_spec("deepinv") and u.find_spec("skimage")))'; then
    python -m pip install --quiet --retries 1 deepinv scikit-image ||
        echo "deepinv and scikit-image cannot be had: the comparisons with them are skipped"
fi

# The loaders of mirdata need little of what it requires, which includes the clients of three clouds;
# without it, the tests of its data sets are skipped.
if ! python -c 'import sys, importlib.util as u; sys.exit(not u.find_spec("mirdata"))'; then
    python -m pip install --quiet --retries 1 --no-deps \
        mirdata==1.0.0 deprecated wrapt smart_open librosa lazy_loader chardet ||
        echo "mirdata cannot be had: the tests of its data sets are skipped"
fi

# The documentation is built from these; without them, the test of that is skipped.
if ! python -c 'import sys, importlib.util as u; sys.exit(not (u.find_spec("material") and u.find_spec("mkdocstrings")))'; then
    python -m pip install --quiet --retries 1 'mkdocs<2' mkdocs-material 'mkdocstrings[python]' ||
        echo "mkdocs cannot be had: the documentation is not built"
fi

# The pages are examined by axe-core in Chromium (apt install chromium); without either, those tests
# are skipped.
axe=$(python -c 'import sys; print(sys.prefix)')
if [[ ! -f $axe/node_modules/axe-core/axe.min.js ]]; then
    npm install --prefix "$axe" --no-save --no-package-lock --silent axe-core@4 2>/dev/null ||
        echo "axe-core cannot be had: the accessibility of the pages is not examined"
fi

cd "$root"
ruff check
mypy mgdm_audio
# What a user writes, and mistakes that the types must find.
mypy --strict --config-file= --follow-imports=silent --cache-dir .mypy_cache/strict tests/typed/user.py
# A process a core, of one thread each; the tests of a file share what its fixtures make.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
python -m pytest -n logical --dist loadfile "$@"
