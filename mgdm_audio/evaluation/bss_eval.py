"""BSS Eval v4 by museval's module of metrics; other parts of museval need ffmpeg on import."""

import json
from functools import cache
from importlib.machinery import PathFinder
from importlib.metadata import version
from importlib.util import find_spec, module_from_spec
from math import nan
from statistics import median
from types import ModuleType
from typing import Any

import numpy as np
from torch import Tensor

from mgdm_audio.errors import UserError

NAMES = ("SDR", "ISR", "SIR", "SAR")  # in the order of museval's results
SECONDS = 1  # the length of a frame and the hop, museval's defaults


@cache
def museval_metrics() -> ModuleType:
    """Imports museval's module of metrics alone. Raises UserError if museval is not installed."""
    package = find_spec("museval")  # does not import it
    where = package.submodule_search_locations if package else None
    spec = PathFinder.find_spec("metrics", where) if where else None
    if spec is None or spec.loader is None:
        raise UserError("BSS Eval needs museval: pip install 'mgdm_audio[bss]'")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def bss_eval(
    estimates: Tensor, references: Tensor, sample_rate: int
) -> tuple[dict[str, np.ndarray], dict[int, str]]:
    """Returns SDR, ISR, SIR and SAR in dB, float64 [stem, frame], and why a stem has none.

    estimates, references: [stem, channel, time], finite. BSS Eval v4 (Stöter, Liutkus and Ito 2018,
    arXiv:1804.06267) has frames of 1 s every 1 s and filters of 512 taps that are fitted to the
    whole track. The values are those of ``museval.evaluate``: infinite where an error is exactly 0,
    and NaN for all stems in a frame in which one of them is silent.

    Where museval raises, only the stems that cannot be scored are NaN. A silent reference is left
    out, which does not change the others' values. A silent estimate has no values, but its
    reference still counts as interference in the others. As in museval, silent means that the sum
    of the channels is 0 in all samples.
    """
    metrics = museval_metrics()
    s, e = (x.double().transpose(1, 2).numpy() for x in (references, estimates))
    why = {}
    for k in range(len(s)):
        if not s[k].sum(-1).any():
            why[k] = "silent reference"
        elif not e[k].sum(-1).any():
            why[k] = "silent estimate"
    frame = SECONDS * sample_rate
    frames = metrics.Framing(frame, frame, s.shape[1]).nwin
    values = {name: np.full((len(s), frames), np.nan) for name in NAMES}
    kept = [k for k in range(len(s)) if why.get(k) != "silent reference"]
    if len(why) == len(s):
        return values, why
    # A silent estimate is replaced by its reference, and the result is dropped.
    scorable = np.stack([s[k] if k in why else e[k] for k in kept])
    try:
        with np.errstate(divide="ignore", invalid="ignore"):
            found = metrics.bss_eval(s[kept], scorable, window=frame, hop=frame)
    except (np.linalg.LinAlgError, AttributeError) as error:
        # museval catches LinAlgError by a name that numpy no longer has, hence AttributeError.
        if "linalg" not in f"{type(error)} {error}":
            raise
        return values, why | dict.fromkeys(set(kept) - set(why), "linearly dependent references")
    for name, rows in zip(NAMES, found, strict=False):  # the last result is the permutation
        for k, row in zip(kept, rows, strict=True):
            if k not in why:
                values[name][k] = row
    return values, why


def to_museval(values: dict[str, np.ndarray], stems: list[str]) -> dict[str, Any]:
    """Returns the scores in the form of museval's ``TrackStore``, without rounding.

    NaN and, as there, infinity are None. ``museval_text`` writes the result as a file's text.
    """
    targets = []
    for k, stem in enumerate(stems):
        frames = []
        for i in range(values["SDR"].shape[1]):
            scores = {name: float(values[name][k, i]) for name in ("SDR", "SIR", "SAR", "ISR")}
            kept = {name: v if np.isfinite(v) else None for name, v in scores.items()}
            frames.append({"time": i * SECONDS, "duration": SECONDS, "metrics": kept})
        targets.append({"name": stem, "frames": frames})
    return {"targets": targets, "museval_version": version("museval")}


def museval_text(store: dict[str, Any]) -> str:
    """Returns the JSON that museval's ``EvalStore`` reads, with NaN instead of None."""
    targets = [
        {
            "name": target["name"],
            "frames": [
                frame
                | {"metrics": {k: nan if v is None else v for k, v in frame["metrics"].items()}}
                for frame in target["frames"]
            ],
        }
        for target in store["targets"]
    ]
    return json.dumps(store | {"targets": targets}, indent=2) + "\n"


def median_over_frames(store: dict[str, Any], name: str) -> list[float | None]:
    """Returns each stem's median over the frames that have a value; None if none has."""
    medians: list[float | None] = []
    for target in store["targets"]:
        values = [frame["metrics"][name] for frame in target["frames"]]
        kept = [value for value in values if value is not None]
        medians.append(median(kept) if kept else None)
    return medians
