"""``mgdm-audio priors list`` and ``show``: what a prior's folder says, its weights unopened."""

import re
from pathlib import Path

import click

from mgdm_audio.cli.options import ANY_PRIOR, imports
from mgdm_audio.cli.priors.summary import pixels, read, size, summary


@click.command("list")
@click.argument("folder", required=False, type=click.Path(path_type=Path))
@imports
def list_(folder: Path | None) -> None:
    """List the bundled priors, and those in FOLDER if it is given.

    \b
    mgdm-audio priors list
    mgdm-audio priors list my_priors
    """
    from mgdm_audio.errors import UserError, recorded
    from mgdm_audio.priors.folder import CONFIG, list_image_priors, list_priors

    if folder is not None and not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    found = [] if folder is None else sorted(path.parent for path in folder.glob(f"*/{CONFIG}"))
    names = [*list_priors(), *list_image_priors(), *map(str, found)]
    for name in names:
        try:
            click.echo(f"{name}: {summary(read(name))}")
        except Exception as error:  # one of many stops no other
            click.echo(f"{name}: {recorded(error, None, name).removeprefix(f'{name}: ')}")
    if not names:
        click.echo("none")


@click.command()
@click.argument("name", metavar="NAME_OR_DIR", type=ANY_PRIOR)
@imports
def show(name: str) -> None:
    """Show the contents of a prior's config.json; for its weights see verify.

    \b
    mgdm-audio priors show RUN/prior
    """
    from mgdm_audio.priors.architectures import ARCHITECTURES, GAINS
    from mgdm_audio.priors.folder import PriorConfig
    from mgdm_audio.priors.hub import origin

    prior = read(name)
    config, schedule = prior.config, prior.schedule
    low, high = float(schedule.noise_level[1]), float(schedule.noise_level[-1])
    card = prior.path / "README.md"
    text = card.read_text(errors="replace") if card.is_file() else ""
    licence = re.search(r"^(?:weights|licen[cs]e):\s*(.+)$", text, re.MULTILINE | re.IGNORECASE)
    called, revision = origin(prior.path) or (prior.path.resolve().name, None)
    rows = {"name": called} | ({"revision": revision} if revision else {})
    if isinstance(prior, PriorConfig):
        rows |= {
            "stems": ", ".join(prior.stems),
            "rate": f"{prior.sample_rate} Hz",
            "segment": f"{prior.segment} samples ({prior.segment / prior.sample_rate:.1f} s)",
            "mixture level": f"{prior.mixture_rms:g} rms",
            "gain": GAINS[ARCHITECTURES.find(config["model_type"]).gain],
        }
    else:
        rows["images"] = pixels(prior)
        if prior.autoencoder is not None:
            rows["latents"] = f"{prior.network.channels} x {prior.size[0]} x {prior.size[1]}"
    rows |= {
        "noise levels": f"{schedule.num_levels} from {low:g} to {high:g}",
        "architecture": config["model_type"],
        "size": size(prior),
        "sha256": config.get("sha256", "not in config.json"),
        "licence": licence[1] if licence else "not in its model card",
        "folder": str(prior.path),
    }
    for key, value in rows.items():
        click.echo(f"{key:<14}{value}")
    click.echo(f"\n{_first_paragraph(text) or 'It has no model card.'}")


def _first_paragraph(text: str) -> str:
    blocks = [block.strip() for block in re.split(r"\n\s*\n", text)]
    other = ("#", "---", "<!--")
    return next((block for block in blocks if block and not block.startswith(other)), "")
