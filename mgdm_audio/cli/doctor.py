"""``mgdm-audio doctor``: what is installed, what is missing, and whether it separates."""

import platform
import sys
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from typing import NamedTuple

import click

SECONDS = 5  # of the self-test
LARGEST_RESIDUAL = -90.0  # dB; "stems sum to the mixture"


class Check(NamedTuple):
    status: str  # ok; note: nothing is wrong, or an extra is missing; FAIL: a required part
    name: str
    detail: str


def _package(name: str, required: bool, purpose: str, remedy: str) -> Check:
    try:
        module = import_module(name)
    except Exception as error:  # any: broken binaries raise OSError, museval RuntimeError
        why = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, ModuleNotFoundError) and error.name == name:
            why = "not installed"
        return Check("FAIL" if required else "note", name, f"{why}; {purpose}: {remedy}")
    found = getattr(module, "__version__", None) or version(name)
    if name == "soundfile":
        found += f" (libsndfile {module.__libsndfile_version__})"
    return Check("ok", name, found)


def packages() -> Iterator[Check]:
    """Python and every library, required ones first."""
    yield Check("ok", "python", f"{platform.python_version()} on {platform.platform()}")
    again = "pip install --force-reinstall "
    for name in ("torch", "torchaudio", "numpy", "soundfile", "safetensors"):
        yield _package(name, True, "required", again + name)
    yield _package("PIL", True, "required", again + "pillow")
    if find_spec("museval") is None:  # imported, it would want ffmpeg on the PATH; bss does not
        why = "not installed; for score --metrics bss: pip install 'mgdm_audio[bss]'"
        yield Check("note", "museval", why)
    else:
        yield Check("ok", "museval", version("museval"))
    yield _package("av", False, "for m4a, aac, wma", "pip install 'mgdm_audio[formats]'")
    for name in ("starlette", "uvicorn"):
        yield _package(name, False, "for serve", "pip install 'mgdm_audio[serve]'")
    yield _package("matplotlib", False, "for the plot of bench", "pip install 'mgdm_audio[plot]'")
    yield _package("diffusers", False, "for images", "pip install 'mgdm_audio[images]'")
    yield _package(
        "huggingface_hub", False, "for priors of the hub", "pip install 'mgdm_audio[hub]'"
    )
    for name in ("accelerate", "tensorboard"):
        yield _package(name, False, "for training", "pip install 'mgdm_audio[train]'")


def devices() -> Iterator[Check]:
    """CPU threads, the memory allocator, and the device that would be used."""
    import torch

    from mgdm_audio.engine.device import choose_device
    from mgdm_audio.engine.memory import keep_freed_memory

    yield Check("ok", "threads", f"{torch.get_num_threads()} (OMP_NUM_THREADS changes it)")
    yield Check("ok", "allocator", keep_freed_memory())
    device, reason = choose_device()
    yield Check("ok", "device", f"{device} ({reason})")


def priors() -> Iterator[Check]:
    """The bundled priors, each loaded and its hash compared."""
    from mgdm_audio.priors.folder import list_image_priors, list_priors, load_prior
    from mgdm_audio.priors.images import load_image_prior

    def stems(name: str) -> str:
        loaded = load_prior(name)
        return f"{', '.join(loaded.stems)} at {loaded.sample_rate} Hz, {loaded.sha256[:12]}"

    def images(name: str) -> str:
        opened = load_image_prior(name)
        channels, height, width = opened.image_shape
        return f"images, {channels} x {height} x {width}, {next(iter(opened.sha256.values()))[:12]}"

    audio, pictures = list_priors(), list_image_priors()
    for name in [*audio, *pictures]:
        try:
            yield Check("ok", name, images(name) if name in pictures else stems(name))
        except Exception as error:
            yield Check("FAIL", name, f"{' '.join(str(error).split())}; reinstall mgdm_audio")
    if not audio and not pictures:
        yield Check("note", "priors", "none is bundled; give --prior a prior directory")


def self_test() -> Iterator[Check]:
    """Separate 5 s with the default preset: the stems must sum to the mixture."""
    import torch

    from mgdm_audio.priors.folder import DEFAULT_PRIOR, list_priors
    from mgdm_audio.separation.separator import Separator

    if DEFAULT_PRIOR not in list_priors():
        yield Check("note", "self-test", f"skipped, {DEFAULT_PRIOR} is not bundled")
        return
    separator = Separator.from_pretrained()
    rate = separator.loaded.sample_rate
    seconds = torch.arange(rate * SECONDS, dtype=torch.float64) / rate
    beat = torch.exp(-(seconds % 0.5) * 12)  # decays twice a second
    noise = torch.rand(len(seconds), generator=torch.Generator().manual_seed(0)).double() - 0.5
    tones = sum(torch.sin(2 * torch.pi * f * seconds) for f in (55.0, 220.0, 277.2, 329.6))
    mixture = (0.08 * tones + 0.3 * beat * noise).float()
    begun = time.perf_counter()
    stems = separator.separate(mixture, rate)
    taken = time.perf_counter() - begun
    total = torch.stack([stem.double().cpu().reshape(-1) for stem in stems.values()]).sum(0)
    error = (total - mixture).square().sum() / mixture.double().square().sum()
    residual = 10 * float(error.clamp_min(1e-30).log10())
    good = residual <= LARGEST_RESIDUAL  # False for nan too
    verdict = "stems sum to the mixture" if good else "stems do not sum to the mixture"
    speed = f"{SECONDS} s separated in {taken:.1f} s"
    yield Check("ok" if good else "FAIL", "self-test", f"{speed}; {verdict} ({residual:.0f} dB)")


def run(stage: Callable[[], Iterator[Check]]) -> Iterator[Check]:
    """The stage's checks; an exception in it is one more, failed."""
    try:
        yield from stage()
    except Exception as error:
        why = " ".join(str(error).split()) or "no message"
        yield Check("FAIL", stage.__name__.replace("_", "-"), f"{type(error).__name__}: {why}")


@click.command()
@click.option("--self-test/--no-self-test", "test", default=True, help="Separate 5 seconds.")
def doctor(test: bool) -> None:
    """Check the installation, the device and the bundled priors, and separate 5 seconds.

    Exits with 1 if a required part fails.

    \b
    mgdm-audio doctor
    mgdm-audio doctor --no-self-test
    """
    failed = 0
    for stage in (packages, devices, priors, *([self_test] if test else [])):
        for check in run(stage):
            failed += check.status == "FAIL"
            click.echo(f"{check.status:<4}  {check.name:<12}  {check.detail}")
    if failed:
        click.echo(f"error: {failed} required part{'s' * (failed > 1)} failed, see FAIL", err=True)
        sys.exit(1)
