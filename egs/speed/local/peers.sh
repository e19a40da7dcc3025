# Makes an environment of Demucs and Open-Unmix in the folder $1, with the torch of the Python on the
# PATH: all systems then have the same one, and it is not fetched twice.
set -euo pipefail
peers=$1
[[ ! -f $peers/installed ]] || exit 0
python -m venv --clear "$peers"
base=$(python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
"$peers/bin/python" - "$base" <<'END'
import sys
import sysconfig
from pathlib import Path

Path(sysconfig.get_path("purelib"), "torch_of_the_first.pth").write_text(sys.argv[1] + "\n")
END
# Without their dependencies, which ask for more (training, MP3, an old torchaudio) than their
# networks import: these, which no other package of the list brings.
if ! "$peers/bin/python" -m pip install --no-input --no-deps demucs==4.0.1 openunmix==1.3.0 \
    einops julius omegaconf antlr4-python3-runtime==4.9.3 PyYAML dora-search treetable retrying \
    submitit cloudpickle tqdm typing_extensions >"$peers/install.log" 2>&1; then
    echo "the peers could not be installed, see $peers/install.log; they have no figures" >&2
    exit 0
fi
touch "$peers/installed"
