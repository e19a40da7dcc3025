"""``mgdm-audio priors``: which there are, what they hold, whether they work; other formats."""

import click

from mgdm_audio.cli.priors.calibrate import calibrate
from mgdm_audio.cli.priors.convert import convert
from mgdm_audio.cli.priors.export import export
from mgdm_audio.cli.priors.show import list_, show
from mgdm_audio.cli.priors.verify import verify


@click.group()
def priors() -> None:
    """List, show, verify, convert and export priors.

    \b
    mgdm-audio priors list
    mgdm-audio priors convert msdm.ckpt -o msdm
    """


for command in (list_, show, verify, convert, calibrate, export):
    priors.add_command(command)
