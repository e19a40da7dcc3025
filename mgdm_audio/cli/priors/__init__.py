"""``mgdm-audio priors``: which there are, what they hold, whether they work; and public weights."""

import click

from mgdm_audio.cli.priors.calibrate import calibrate
from mgdm_audio.cli.priors.convert import convert
from mgdm_audio.cli.priors.show import list_, show
from mgdm_audio.cli.priors.verify import verify


@click.group()
def priors() -> None:
    """List, show, verify and convert priors.

    \b
    mgdm-audio priors list
    mgdm-audio priors convert msdm.ckpt -o msdm
    """


for command in (list_, show, verify, convert, calibrate):
    priors.add_command(command)
