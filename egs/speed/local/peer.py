"""Separates a file with one of the peers, as its own command line does by default.

    python peer.py htdemucs FILE OUT

Random weights in the published architecture, as many parameters as the published files hold: 42
million of htdemucs, 27 of htdemucs_6s, 84 of hdemucs, 113 of umxl. Exits with ``MISSING`` where the
package is not installed, and with ``FULL`` where memory ran out.
"""

import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

MISSING, FULL = 3, 4
STEMS = ("drums", "bass", "other", "vocals")


def demucs(name: str, mixture: Any) -> Any:
    """Separates [channel, time] to [stem, channel, time] with the settings of ``demucs -n``."""
    import torch
    from demucs.apply import apply_model
    from demucs.hdemucs import HDemucs
    from demucs.htdemucs import HTDemucs

    transformer = {"t_layers": 5, "dconv_mode": 3, "segment": Fraction(39, 5)}
    if name == "hdemucs":
        model = HDemucs(list(STEMS), segment=44)
    elif name == "htdemucs_6s":
        model = HTDemucs([*STEMS, "guitar", "piano"], **transformer)
    else:
        model = HTDemucs(list(STEMS), bottom_channels=512, **transformer)
    mixture = mixture.expand(2, -1)  # what it makes of mono
    reference = mixture.mean(0)
    scaled = (mixture - reference.mean()) / reference.std()
    with torch.no_grad():
        found = apply_model(model.eval(), scaled[None], shifts=1, split=True, overlap=0.25)[0]
    return found * reference.std() + reference.mean()


def open_unmix(name: str, mixture: Any) -> Any:
    """Separates [channel, time] to [stem, channel, time] with the settings of ``umx``."""
    import openunmix
    import torch
    from openunmix.utils import preprocess

    model = getattr(openunmix, name)(pretrained=False, niter=1).eval()
    with torch.no_grad():
        found: Any = model(preprocess(mixture, 44100, 44100))[0]
    return found


def main() -> None:
    name, source, out = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    try:
        import soundfile
        import torch

        samples, rate = soundfile.read(source, dtype="float32", always_2d=True)
        torch.manual_seed(0)
        separate = open_unmix if name.startswith("umx") else demucs
        stems = separate(name, torch.from_numpy(samples.T.copy()))
        out.mkdir(parents=True)
        for index, stem in enumerate(stems):
            soundfile.write(out / f"{index}.wav", stem.clamp(-1, 1).T.numpy(), rate, "PCM_24")
    except ModuleNotFoundError as error:
        print(error, file=sys.stderr)
        sys.exit(MISSING)
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "memory" not in str(error):
            raise
        sys.exit(FULL)


if __name__ == "__main__":
    main()
