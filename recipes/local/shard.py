"""The share of the tracks that this process separates, printed as I/N.

    python shard.py [I/N]

Without I/N, or with an empty one, the environment of torchrun or of a Slurm array says it, else 1/1.
"""

import os
import sys

from script import run

from mgdm_audio.sharding import find_shard


def main() -> None:
    print(find_shard("".join(sys.argv[1:]), os.environ))


if __name__ == "__main__":
    run(main)
