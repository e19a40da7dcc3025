"""``mgdm-audio priors``: which there are and what they hold; to convert, check and push them."""

import click

from mgdm_audio.cli.priors.calibrate import calibrate
from mgdm_audio.cli.priors.convert import convert
from mgdm_audio.cli.priors.export import export
from mgdm_audio.cli.priors.push import push
from mgdm_audio.cli.priors.show import list_, show
from mgdm_audio.cli.priors.verify import verify


@click.group()
def priors() -> None:
    """List, show, verify, convert, export and push priors.

    \b
    mgdm-audio priors list
    mgdm-audio priors convert msdm.ckpt -o msdm
    """


for command in (list_, show, verify, convert, calibrate, export, push):
    priors.add_command(command)
