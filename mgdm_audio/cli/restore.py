"""``mgdm-audio restore``: images, degraded and restored, or an observation restored."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from mgdm_audio.cli.options import IMAGE_PRESET, IMAGE_PRIOR, OUTPUT, SET, imports, progress

if TYPE_CHECKING:
    from mgdm_audio.images.restoration import Restoration
    from mgdm_audio.images.restorer import Restorer
    from mgdm_audio.images.tasks import TaskOptions

SCORES = {
    "psnr_db": "PSNR {} dB",
    "ssim": "SSIM {}",
    "lpips": "LPIPS {}",
    "psnr_aligned_db": "aligned PSNR {} dB",
    "ssim_aligned": "aligned SSIM {}",
}


HELP = """
Degrade images by a known operator and restore them by posterior sampling.

Writes OUTPUT/<image name>/ with restored_<i>.png, mean.png, original.png, observation.png,
std.png (the standard deviation of several samples), sheet.png with all of these in a row,
observation.npy and report.json: settings, hashes, seconds, and PSNR, SSIM and (where its
weights are installed) LPIPS of the result.  Aligned PSNR and SSIM are the best over all images
with the same observation as the original: phase retrieval determines an image only up to shifts
on black and a half turn.

Images are cropped to the prior's aspect ratio and resized.  The standard deviation of the noise
is the preset's noise_std, for images in [-1, 1].  On devices of one kind, the same seed gives the
same result.

The same command continues what was stopped: results that are there and are the same are kept.

With --observation the IMAGE, or a .npy array, already is the measurement of the task, in the
task's own shape; random masks and kernels are those of --seed.

\b
Tasks:
  inpainting_center  inpainting_middle  random_95  random_99
  outpainting_half  outpainting_top  outpainting_bottom  outpainting_expand
  sr4  sr16  colorization  denoising  high_dynamic_range  jpeg  phase_retrieval
  blur  blur_svd  motion_blur  nonuniform_blur  nonlinear_blur

\b
Options of tasks, by --task-option:
  jpeg             quality (1..100), subsampling=4:4:4, baseline=true,
                   published=true (the operator of the published code)
  blur, blur_svd   std (pixels); of blur_svd also cutoff
  motion_blur      kernel_size, intensity (0..1), or kernel=FILE
                   (.npy or a grey image, correlated with the picture)
  nonuniform_blur  kernel_size, intensity
  nonlinear_blur   network=NAME, which a module that --import names has
                   registered in mgdm_audio.images.blurs.BLUR_NETWORKS

\b
mgdm-audio restore face.png --task sr4 --prior ffhq.pt -o out
mgdm-audio restore small.png --observation --task sr4 --prior ffhq.pt -o out --samples 4
"""


@click.command(help=HELP)
@click.argument(
    "inputs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="IMAGE..."
)
@OUTPUT
@click.option("--task", required=True, metavar="NAME", help="The degradation, see above.")
@click.option(
    "--task-option",
    "task_options",
    multiple=True,
    metavar="KEY=VALUE",
    help="An option of the task, e.g. quality=10.",
)
@click.option(
    "--prior",
    required=True,
    type=IMAGE_PRIOR,
    metavar="NAME_OR_PATH",
    help="Bundled prior (digits-v1, digits-latent-v1), folder as diffusers saves them or of this "
    "package, OWNER/NAME[@REVISION] of such a one on the hub, or guided-diffusion checkpoint.",
)
@click.option("--size", type=int, metavar="N", help="N x N pixels instead of the prior's size.")
@click.option(
    "--sampler",
    default="mgdm",
    show_default=True,
    type=IMAGE_PRESET,
    help="Sampler preset for images, or a TOML file.",
)
@SET
@click.option(
    "--samples", type=click.IntRange(1), metavar="N", help="Draw N times (default: the preset's)."
)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, mps.")
@click.option(
    "--observation", is_flag=True, help="IMAGE is an observation: do not degrade it again."
)
@imports
def restore(
    inputs: tuple[Path, ...],
    output: Path,
    task: str,
    task_options: tuple[str, ...],
    prior: str,
    size: int | None,
    sampler: str,
    overrides: tuple[str, ...],
    samples: int | None,
    seed: int,
    device: str,
    observation: bool,
) -> None:
    """Degrade images in a known way, and restore them: see ``HELP``."""
    from mgdm_audio.atomic import require_new
    from mgdm_audio.config import apply_overrides
    from mgdm_audio.engine.device import choose_device
    from mgdm_audio.errors import UserError, recorded
    from mgdm_audio.images.metrics import lpips_distance
    from mgdm_audio.images.presets import load_image_preset
    from mgdm_audio.images.restoration import RECORD
    from mgdm_audio.images.restorer import Restorer
    from mgdm_audio.images.tasks import require_task
    from mgdm_audio.priors.images import load_image_prior

    require_task(task)
    names = [path.stem for path in inputs]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"two inputs are named {name!r}; restore them into different folders")
        if not (output / name / RECORD).is_file():
            require_new(output / name)
    preset = load_image_preset(sampler, task, overrides)
    chosen, reason = choose_device(device)
    opened = load_image_prior(prior, chosen, size=size)
    options = cast("TaskOptions", apply_overrides({}, task_options))  # checked when used
    restorer = Restorer(opened, preset, task, options, seed=seed, device=device)
    click.echo(f"device: {chosen} ({reason})", err=True)
    lpips = None if observation else lpips_distance()
    failed = False
    for path in inputs:
        try:
            result = _restored(restorer, path, observation, samples, output / path.stem)
            if result is None:
                click.echo(f"{output / path.stem}: there already")
                continue
            record = result.save(output / path.stem, lpips)
        except Exception as error:  # a bug that one image meets is no reason to lose the others
            click.echo(f"error: {recorded(error, output, path)}", err=True)
            failed = True
            continue
        said = _scores(record["scores"], restorer.operator.symmetries is not None)
        seconds = f"{record['draws']} restored ({record['seconds']:.1f} s"
        click.echo(f"{output / path.stem}: {seconds}{said})")
    if failed:
        sys.exit(1)


def _restored(
    restorer: "Restorer", path: Path, observation: bool, samples: int | None, folder: Path
) -> "Restoration | None":
    """None where ``folder`` holds it already."""
    from mgdm_audio.atomic import require_new
    from mgdm_audio.images.io import read_image, read_observation
    from mgdm_audio.images.restoration import is_restored

    original = None
    if observation:
        y = read_observation(path, restorer.observation_shape)
    else:
        original, changes = read_image(path, restorer.opened.image_shape)
        if changes:
            click.echo(f"{path}: {changes}", err=True)
        y = restorer.observe(original, path.stem)
    if is_restored(folder, restorer.asked(path.stem, samples), y, original):
        return None
    require_new(folder)
    with progress(path.name) as move:
        return restorer.restore(y, path.stem, draws=samples, original=original, on_progress=move)


def _scores(scores: dict[str, Any] | None, aligned: bool) -> str:
    """Those of the mean, in one line; ``aligned``: those over images that look the same, too."""
    return "".join(
        f", {SCORES[name].format(value)}"
        for name, value in (scores["mean"] if scores else {}).items()
        if value is not None and (aligned or "aligned" not in name)
    )
