"""``mgdm-audio priors push``: a prior folder to the Hugging Face hub."""

from pathlib import Path

import click

from mgdm_audio.cli.options import imports


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.argument("name", metavar="OWNER/NAME")
@click.option("--private", is_flag=True, help="If the repository is new, only you can see it.")
@imports
def push(folder: Path, name: str, private: bool) -> None:
    """Upload a prior folder to the Hugging Face hub, and print the commit.

    Its settings, weights and model card (README.md) are one commit of the branch main. A folder
    without a model card, or that `verify` refuses, is not uploaded.  The repository is made if it
    is not there.  Log in first (hf auth login, or HF_TOKEN).

    \b
    mgdm-audio priors push RUN/prior me/band
    mgdm-audio separate song.wav -o out --prior me/band

    Needs the extra hub: pip install 'mgdm_audio[hub]'.
    """
    from mgdm_audio.cli.priors.verify import check
    from mgdm_audio.priors import hub

    hub.require_pushable(folder, name)
    check(folder)
    commit = hub.push(folder, name, private=private)
    click.echo(f"{name}@{commit}")
