"""Sound: files, resampling, segments, scores. Public names are resolved on first use.

So that ``mgdm_audio.audio.datasets`` alone, in training, needs no torchaudio.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mgdm_audio.audio.bandwidth import share_residual
    from mgdm_audio.audio.io import Audio, read, write
    from mgdm_audio.audio.pcm import common_gain, quantise_together
    from mgdm_audio.audio.resampling import resample, resample_back
    from mgdm_audio.audio.scoring.folders import score_folders
    from mgdm_audio.audio.scoring.mel import log_mel_l1
    from mgdm_audio.audio.scoring.metrics import sdr, si_sdr, si_sdr_improvement
    from mgdm_audio.audio.segments import cut, stitch

_HOMES = {
    "share_residual": "bandwidth",
    "Audio": "io",
    "read": "io",
    "write": "io",
    "log_mel_l1": "scoring.mel",
    "sdr": "scoring.metrics",
    "si_sdr": "scoring.metrics",
    "si_sdr_improvement": "scoring.metrics",
    "common_gain": "pcm",
    "quantise_together": "pcm",
    "resample": "resampling",
    "resample_back": "resampling",
    "score_folders": "scoring.folders",
    "cut": "segments",
    "stitch": "segments",
}

__all__ = [
    "Audio",
    "common_gain",
    "cut",
    "log_mel_l1",
    "quantise_together",
    "read",
    "resample",
    "resample_back",
    "score_folders",
    "sdr",
    "share_residual",
    "si_sdr",
    "si_sdr_improvement",
    "stitch",
    "write",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
