#!/usr/bin/env bash
# How msdm.tar.xz was written: by the training and the network of MSDM's own repository, at commit
# 76def82, with pytorch-lightning 1.7.7, at 1/64 of the published width.
#
#     git clone https://github.com/gladia-research-group/multi-source-diffusion-models /tmp/msdm
#     git -C /tmp/msdm checkout 76def82
#     bash tests/priors/data/write.sh /tmp/msdm
#
# needs Python 3.11; versions are pinned where a later one does not go with MSDM's code. The archive
# holds the best checkpoint of six runs, <name>/epoch=EE-valid_loss=L.ckpt as MSDM's settings call it:
#     msdm                         four sources, exp/train_msdm.yaml
#     bass, drums, guitar, piano   one source each, exp/train_weakly_msdm.yaml
#     resumable                    as msdm, with the optimiser's state (save_weights_only=False)
# and expected.safetensors, what MSDM's own module, loaded from each, makes of noise at two levels.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cd "$1"

python3.11 -m venv venv
. venv/bin/activate
pip install "pip<24.1" # newer ones refuse the metadata of pytorch-lightning 1.7.7
pip install torch==2.0.1 torchaudio==2.0.2 numpy==1.23.5 pytorch-lightning==1.7.7 \
    torchmetrics==0.11.4 "setuptools<70" hydra-core==1.3.2 hydra-colorlog==1.2.0 python-dotenv \
    wandb==0.13.4 "tensorboard<2.15" "protobuf<4.26" rich==12.6.0 einops==0.5.0 einops-exts==0.0.3 \
    librosa==0.9.2 "numba<0.60" "scipy<1.13" "scikit-learn<1.4" "contourpy<1.3" av soundfile \
    safetensors
pip install --no-deps audio-diffusion-pytorch==0.0.43

# MSDM's reader takes a stem that a track lacks for silence, and its decoding of those that are
# there needs a PyAV that Python 3.11 has not: so the tracks have a length, and no stem.
python - <<'PYTHON'
from pathlib import Path

import numpy
import soundfile

for track in ("train/Track00001", "train/Track00002", "validation/Track01501"):
    folder = Path("data/slakh2100") / track
    folder.mkdir(parents=True, exist_ok=True)
    soundfile.write(folder / "mixture.wav", numpy.zeros(22050), 22050)
PYTHON

cp .env.tmp .env
export WANDB_MODE=offline OMP_NUM_THREADS=1
seed=0
train() { # NAME OPTION...
    python train.py "${@:2}" seed=$((seed += 1)) length=4096 min_duration=0.5 \
        model.channels=4 model.patch_factor=2 model.resnet_groups=2 "model.multipliers=[1,1,1]" \
        "model.factors=[8,8]" "model.num_blocks=[1,1]" "model.attentions=[false,true]" \
        model.attention_heads=2 model.attention_features=4 model.learning_rate=0.01 \
        datamodule.batch_size=2 datamodule.num_workers=0 datamodule.pin_memory=false \
        "callbacks.audio_samples_logger.sampling_steps=[1]" \
        trainer.gpus=0 trainer.max_epochs=1 trainer.val_check_interval=1 <<<"$1"
}
train msdm exp=train_msdm
train resumable exp=train_msdm callbacks.model_checkpoint.save_weights_only=False
for stem in bass drums guitar piano; do
    train $stem exp=train_weakly_msdm stem=$stem
done

python - <<'PYTHON'
from pathlib import Path

import torch
from main.module_base import Model
from safetensors.torch import save_file

expected = {}
for path in sorted(Path("ckpts").glob("*/*.ckpt")):
    model = Model.load_from_checkpoint(path).model.eval()
    torch.manual_seed(len(expected))
    noise = torch.randn(1, 4 if path.parent.name in ("msdm", "resumable") else 1, 256)
    expected[f"{path.parent.name}.noise"] = noise
    with torch.no_grad():
        for sigma in (0.05, 1.0):
            denoised = model.diffusion.denoise_fn(noise * (0.04 + sigma**2) ** 0.5, sigma=sigma)
            expected[f"{path.parent.name}.{sigma}"] = denoised
save_file(expected, "ckpts/expected.safetensors")
PYTHON

rm ckpts/README.md
tar -C ckpts --sort=name --owner=0 --group=0 --numeric-owner -cJf "$here/msdm.tar.xz" .
