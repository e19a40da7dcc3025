"""What a user writes, for ``mypy --strict``: recipes/test.sh checks it, nothing runs it.

A line that ends in an ignored error is a mistake that the types must find: --strict refuses an
ignored error that is none.
"""

from pathlib import Path

import torch

import mgdm_audio
from mgdm_audio import MGDM, GaussianLikelihood, Generator, MixtureSum, Restorer, Separator
from mgdm_audio.images.io import read_image
from mgdm_audio.images.presets import load_image_preset
from mgdm_audio.images.tasks import build_operator
from mgdm_audio.priors.images import load_image_prior
from mgdm_audio.rng import generator_for
from mgdm_audio.samplers import DPS, PerStep
from mgdm_audio.training.augmentation import Augmentation
from mgdm_audio.training.settings import Schedule, Training

# A song, and its stems.
separator = Separator.from_pretrained("mini-slakh-v2", overrides=["draws=1"], join="condition")
found = separator.separate("song.wav", seed=1, draws=2)
drums: torch.Tensor = found.stems["drums"]
found.save("stems", subtype="PCM_16")
Separator.from_pretrained("mini-slakh-v2", overlp=2.0)  # type: ignore[call-arg]
Separator.from_pretrained("mini-slakh-v2", join="blend")  # type: ignore[arg-type]
Separator.from_pretrained("mini-slakh-v2", level="loud")  # type: ignore[arg-type]
separator.separate("song.wav", draw=2)  # type: ignore[call-arg]
print(found.stem)  # type: ignore[attr-defined]

# Stems out of nothing.
for sample in Generator.from_pretrained(device="cpu", precision="float32").generate(2.0):
    mixture: torch.Tensor = sample.mixture
Generator.from_pretrained(overlap=1.0)  # type: ignore[call-arg]

# An image, degraded and restored.
opened = load_image_prior("digits-v1")
preset = load_image_preset("mgdm", "jpeg", ["gibbs_steps=2"])
restorer = Restorer(opened, preset, "jpeg", {"quality": 10}, seed=0)
original, changes = read_image(Path("digit.png"), opened.image_shape)
restored = restorer.restore(restorer.observe(original), original=original)
restored.save("out")
Restorer(opened, preset, "jpeg", {"qualty": 10})  # type: ignore[arg-type]
build_operator("sr4", (1, 28, 28), generator=generator_for(0), factr=2)  # type: ignore[call-arg]

# A sampler by itself.
sampler = MGDM(num_steps=10, learning_rate=PerStep(0.01), index_law="uniform")
loaded = mgdm_audio.load_prior("mini-slakh-v2")
mgdm_audio.load_priors("mini-slakh-v2")  # type: ignore[attr-defined]
likelihood = GaussianLikelihood(MixtureSum(4), torch.zeros(1, 1, 65536), noise_std=1e-4)
x_0: torch.Tensor = sampler.sample(loaded.prior, likelihood, generator=generator_for(0))
MGDM(nun_steps=10)  # type: ignore[call-arg]
MGDM(index_law="unifrom")  # type: ignore[arg-type]
DPS(eta="1")  # type: ignore[arg-type]
sampler.sample(loaded.prior, likelihood)  # type: ignore[call-arg]

# Scores, and a training run.
scores = mgdm_audio.score(Path("true"), Path("stems"), ["si-sdri"], nj=2)
folder: Path = mgdm_audio.train("run.toml", "run", overrides=["schedule.steps=10"])
Training(precision="bf16", batch=4)
Training(precision="fp4")  # type: ignore[arg-type]
Schedule(kind="linear")  # type: ignore[arg-type]
Augmentation(gian=4.0)  # type: ignore[call-arg]
mgdm_audio.train("run.toml", "run", steps=10)  # type: ignore[call-arg]
