"""The share of the tracks that this process separates, printed as I/N.

    python shard.py [I/N]

Where I/N is empty, the environment of torchrun or of Slurm says it, else it is 1/1.
"""

import os
import sys

from script import run

from mgdm_audio.engine.sharding import find_shard


def main() -> None:
    print(find_shard("".join(sys.argv[1:]), os.environ))


if __name__ == "__main__":
    run(main)
